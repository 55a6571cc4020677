"""Indexes, symbols, escapes and words are those of Python, to the last bit."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from mlic.runtime import Codec
from mlic.runtime.ans import AnsDecoder, AnsEncoder, RowModels
from mlic.runtime.entropy_model import EntropyModel, FrequencyTables, quantize
from mlic.runtime.escape import MAX_RAW, EscapeReader, EscapeWriter
from tests.native.core_probe import Probe, status_of
from tests.native.programs import build

pytestmark = pytest.mark.xdist_group("native_core")  # one build


@pytest.fixture(scope="module", params=["tiny", "medium"])
def model(request, probe, bundle_folder):
    """Tables that the probe has been given too."""
    folder = bundle_folder if request.param == "tiny" else Codec.load(quality="medium").bundle.folder
    data = (folder / "tables.npz").read_bytes()
    probe.ask("tables", data)
    with np.load(io.BytesIO(data)) as arrays:
        return EntropyModel.from_arrays(dict(arrays))


def test_indexes_are_equal_at_boundaries_and_everywhere(probe, model, rng):
    up, down = np.float32(np.inf), np.float32(-np.inf)
    table = model.scale_table
    special = np.array([0, -0.0, -1, 1e-40, 3e38, np.inf, -np.inf], np.float32)
    scales = np.concatenate([table, np.nextafter(table, up), np.nextafter(table, down), special])
    bits = rng.integers(0, 1 << 32, 200000, dtype=np.uint32)
    nan = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001], np.uint32)
    spread = np.exp(rng.uniform(-4, 7, 100000)).astype(np.float32)
    scales = np.concatenate([scales, spread, bits.view(np.float32), nan.view(np.float32)])
    with np.errstate(invalid="ignore"):
        assert probe.ask("indexes", scales) == [model.build_indexes(scales).tobytes()]


def test_indexes_are_equal_where_a_bucket_holds_several_entries(probe, rng):
    table = np.linspace(1, 1.01, 50, dtype=np.float32)
    arrays = {"scale_table": table, "medians": np.zeros(1, np.float32)}
    for prefix, rows in (("y", 50), ("z", 1)):
        arrays[f"{prefix}_frequencies"] = np.tile(np.array([1, (1 << 24) - 1], np.uint32), rows)
        arrays[f"{prefix}_lengths"], arrays[f"{prefix}_offsets"] = np.full(rows, 2, np.int32), np.zeros(rows, np.int32)
    probe.ask("tables", npz(**arrays))
    scales = np.concatenate([rng.uniform(0.9, 1.1, 5000).astype(np.float32), table, np.array([np.nan], np.float32)])
    assert probe.ask("indexes", scales) == [EntropyModel.from_arrays(arrays).build_indexes(scales).tobytes()]


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_rounding_is_equal_and_refuses_what_cannot_be_coded(probe, rng):
    values = rng.normal(0, 1000, 20000).astype(np.float32)
    values = np.concatenate(
        [values, np.arange(-20, 20) / np.float32(2), [16777215, -16777215, 8388607.5]], dtype=np.float32
    )
    means = np.where(rng.random(len(values)) < 0.5, 0, rng.normal(0, 1, len(values))).astype(np.float32)
    means[-3:] = 0
    assert probe.ask("quantize", values, means) == [quantize(values, means, "").tobytes()]
    whole = np.rint(values)
    assert probe.ask("integers", whole) == [whole.astype(np.int32).tobytes()]
    for wrong in (np.nan, np.inf, -np.inf, 16777216, -16777216):
        assert probe.status("quantize", np.array([0, wrong], np.float32), np.zeros(2, np.float32)) == 41
        assert probe.status("integers", np.array([0, wrong], np.float32)) == 41
    assert probe.status("integers", np.array([0.5], np.float32)) == 41


def as_taken(tables, slots, rows):
    """Return symbols as they come out of a stream: an escape is the one behind its row's last."""
    return (slots + tables.offsets[rows]).astype(np.float32)


@pytest.mark.parametrize("which", ["y", "z"])
def test_slots_and_symbols_are_equal_escapes_included(probe, model, rng, which):
    tables: FrequencyTables = getattr(model, which)
    rows = rng.integers(0, len(tables), 20000).astype(np.uint16)
    symbols = (rng.standard_cauchy(20000) * 5).clip(-(2**24) + 1, 2**24 - 1).astype(np.int32)
    symbols[:2] = -(2**24) + 1, 2**24 - 1
    slots, raws = tables.slots_from_symbols(symbols, rows)
    assert len(raws) > 100
    assert probe.ask("slots", which, symbols, rows) == [slots.tobytes(), raws.tobytes()]
    writer = EscapeWriter()
    writer.add(raws)
    assert probe.ask("escape_write", raws) == [writer.finish()]
    taken = as_taken(tables, slots, rows)
    found = probe.ask("symbols", which, taken, rows, len(raws), writer.finish())
    assert found == [symbols.astype(np.float32).tobytes()]


def test_an_escaped_symbol_that_is_too_large_is_refused(probe, model):
    rows = np.zeros(1, np.uint16)
    slots = np.array([model.y.lengths[0] - 1], np.int32)
    for raw in (MAX_RAW, MAX_RAW - 1, 2 * (2**24) + 5, 10):
        writer = EscapeWriter()
        writer.add(np.array([raw], np.int64))
        data = writer.finish()
        expected = status_of(lambda data=data: model.y.symbols_from_slots(slots, rows, EscapeReader(data).take))
        assert probe.status("symbols", "y", as_taken(model.y, slots, rows), rows, 1, data) == expected


def test_escapes_are_read_and_refused_alike(probe, rng):
    assert probe.ask("escape_write", np.zeros(0, np.int64)) == [b""]
    seen = set()
    for _ in range(2000):
        data = rng.integers(0, 256, rng.integers(0, 9), dtype=np.uint8).tobytes()
        if rng.random() < 0.5:
            writer = EscapeWriter()
            writer.add(rng.integers(0, 40, rng.integers(1, 9)))
            data = writer.finish()
        counts = rng.integers(0, 6, 2).astype(np.uint64)
        found: list[bytes] = []

        def read(data=data, counts=counts, found=found):
            reader = EscapeReader(data)
            found += [reader.take(int(count)).tobytes() for count in counts]
            reader.finish()

        expected = status_of(read)
        seen.add(expected)
        assert probe.status("escape_read", data, counts) == expected
        if not expected:
            assert probe.ask("escape_read", data, counts) == found
    assert seen == {0, 21}
    assert probe.status("escape_read", b"\1", np.array([1 << 60], np.uint64)) == 21


def random_groups(model, rng, sizes):
    """Return groups of the table, slots drawn by their frequencies, and rows."""
    groups = []
    for size in sizes:
        which = "y" if rng.random() < 0.7 else "z"
        tables: FrequencyTables = getattr(model, which)
        rows = rng.integers(0, len(tables), size) // rng.integers(1, 4)
        rows = rows.astype(np.uint8 if which == "y" else np.uint16)
        slots = np.empty(size, np.int32)
        for row in set(rows.tolist()):
            chosen, frequencies = rows == row, tables.row(row)
            quantiles = rng.integers(0, 1 << 24, chosen.sum())
            slots[chosen] = np.searchsorted(np.cumsum(frequencies), quantiles, side="right")
        rare = rng.random(size) < 0.05
        slots[rare] = (rng.random(rare.sum()) * tables.lengths[rows[rare]]).astype(np.int32)
        groups.append((which, slots, rows))
    return groups


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (3, 0, 2), (5000, 1, 20000), (100,) * 20])
def test_words_are_equal_and_come_back(probe, model, rng, sizes):
    models = {"y": RowModels(model.y), "z": RowModels(model.z)}
    groups = random_groups(model, rng, sizes)
    encoder = AnsEncoder()
    for which, slots, rows in groups:
        encoder.add(models[which], slots, rows)
    words = encoder.finish().astype("<u4").tobytes()
    assert probe.ask("ans_encode", *(part for group in groups for part in group)) == [words]
    *taken, ended = probe.ask("ans_decode", words, *(part for which, _, rows in groups for part in (which, rows)))
    assert taken == expected_of(model, groups)
    assert ended == b"\1"


def expected_of(model, groups):
    """Return what the probe answers for groups of table, slots and rows: symbols and the number of escapes of each."""
    expected = []
    for which, slots, rows in groups:
        tables: FrequencyTables = getattr(model, which)
        escapes = np.count_nonzero(slots == tables.lengths[rows] - 1)
        expected += [as_taken(tables, slots, rows).tobytes(), struct.pack("<Q", escapes)]
    return expected


def test_rows_of_more_entries_than_16_bits_count_come_back(rng):
    entries = 70000
    frequencies = np.full(entries, (1 << 24) // entries, np.uint32)
    frequencies[-1] += (1 << 24) - int(frequencies.sum())
    tables = {"scale_table": np.ones(1, np.float32), "medians": np.zeros(1, np.float32)}
    for prefix in ("y", "z"):
        tables[f"{prefix}_frequencies"] = frequencies
        tables[f"{prefix}_lengths"] = np.array([entries], np.int32)
        tables[f"{prefix}_offsets"] = np.array([-100], np.int32)
    file = io.BytesIO()
    np.savez(file, **tables)
    probe = Probe(build(sanitized=True))  # its own: the other one goes on with the tables of its tests
    probe.ask("tables", file.getvalue())
    looked_up = (np.arange(128) << 17) // frequencies[0]  # a decoder's tables begin with these
    slots = np.concatenate([[65535, 65536, entries - 1], looked_up.repeat(20), rng.integers(0, entries, 500)])
    slots = slots.astype(np.int32)
    rows = np.zeros(len(slots), np.uint8)
    (words,) = probe.ask("ans_encode", "y", slots, rows)
    symbols, _, ended = probe.ask("ans_decode", words, "y", rows)
    probe.close()
    assert symbols == (slots - 100).astype(np.float32).tobytes()
    assert ended == b"\1"


def test_foreign_words_decode_to_the_same_slots(probe, model, rng):
    models = {"y": RowModels(model.y), "z": RowModels(model.z)}
    for length in (0, 1, 2, 3, 10, 100, 1000):
        words = rng.integers(1, 1 << 32, length, dtype=np.uint32)
        words[: length // 2] *= rng.integers(0, 2, length // 2).astype(np.uint32)
        groups = random_groups(model, rng, (50, 2000))
        decoder = AnsDecoder(words)
        expected = expected_of(model, [(which, decoder.take(models[which], rows), rows) for which, _, rows in groups])
        ended = status_of(decoder.finish) == 0
        asked = (part for which, _, rows in groups for part in (which, rows))
        assert probe.ask("ans_decode", words, *asked) == [*expected, bytes([ended])]


def test_words_that_end_in_zero_are_refused(probe, model):
    assert probe.status("ans_decode", np.array([5, 0], np.uint32)) == 21
