"""The coder: exact words, agreement with its integer twin, and what it does with foreign words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.ans import AnsDecoder, AnsEncoder, RowModels
from mlic.runtime.ans_reference import ReferenceDecoder, ReferenceEncoder
from mlic.runtime.entropy_model import FrequencyTables
from mlic.runtime.errors import CorruptStreamError

TOTAL = 1 << 24


def make_tables(*rows):
    return FrequencyTables.from_arrays(
        {
            "t_frequencies": np.concatenate([np.asarray(row) for row in rows]).astype(np.uint32),
            "t_lengths": np.array([len(row) for row in rows], np.int32),
            "t_offsets": np.zeros(len(rows), np.int32),
        },
        "t",
    )


SMALL = make_tables([TOTAL // 2, TOTAL // 4, TOTAL // 4], [1, TOTAL - 2, 1])


@st.composite
def random_tables(draw):
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        weights = np.array(draw(st.lists(st.integers(0, 1 << 20), min_size=2, max_size=40)), np.float64)
        share = weights / max(weights.sum(), 1) * (TOTAL - len(weights))
        row = 1 + np.floor(share).astype(np.int64)
        row[draw(st.integers(0, len(row) - 1))] += TOTAL - row.sum()
        rows.append(row)
    return make_tables(*rows)


@st.composite
def random_groups(draw):
    """Return tables and some groups of slots and rows; every slot occurs, the escape and rare ones too."""
    tables = draw(random_tables())
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    groups = []
    for size in draw(st.lists(st.integers(0, 60), max_size=4)):
        rows = rng.integers(0, len(tables), size).astype(draw(st.sampled_from([np.uint8, np.uint16])))
        slots = (rng.random(size) * tables.lengths[rows]).astype(np.int32)
        groups.append((slots, rows))
    return tables, groups


def encode(tables, groups):
    encoder, models = AnsEncoder(), RowModels(tables)
    for slots, rows in groups:
        encoder.add(models, slots, rows)
    return encoder.finish()


def encode_reference(tables, groups):
    encoder = ReferenceEncoder()
    for slots, rows in groups:
        encoder.add(tables, slots, rows)
    return encoder.finish()


def test_words_are_frozen():
    # The first symbol only adds its entry's start to the empty state: 2^23. The next, of frequency 2^22 and start
    # 3 * 2^22, makes it (2^23 div 2^22) * 2^24 + 3 * 2^22 + 2^23 mod 2^22 = 0x2c00000.
    one = (np.array([2, 1], np.int32), np.zeros(2, np.uint8))
    assert [hex(word) for word in encode(SMALL, [one])] == ["0x2c00000"]
    rows = np.array([1, 0, 0, 1, 0], np.uint8)
    slots = np.array([1, 0, 2, 1, 1], np.int32)
    rare = (np.array([0, 2, 0], np.int32), np.array([1, 1, 1], np.uint8))
    assert [hex(word) for word in encode(SMALL, [(slots, rows), rare])] == ["0x6540000a", "0x200000"]


def test_order_is_by_row_and_stable_within_a_group():
    rows = np.array([1, 0, 1, 0], np.uint8)
    slots = np.array([0, 1, 2, 2], np.int32)
    singles = [
        (np.array([slot], np.int32), np.array([row], np.uint8)) for slot, row in [(1, 0), (2, 0), (0, 1), (2, 1)]
    ]
    assert encode(SMALL, [(slots, rows)]).tolist() == encode(SMALL, singles).tolist()


@given(random_groups())
def test_words_equal_the_reference(case):
    tables, groups = case
    assert encode(tables, groups).tolist() == encode_reference(tables, groups).tolist()


@given(random_groups())
def test_round_trip(case):
    tables, groups = case
    words = encode(tables, groups)
    models = RowModels(tables)
    for decoder, source in ((AnsDecoder(words), models), (ReferenceDecoder(words), tables)):
        for slots, rows in groups:
            assert np.array_equal(decoder.take(source, rows), slots)
        decoder.finish()


def test_the_released_kind_of_table_equals_the_reference(tables, rng):
    rows = rng.integers(0, len(tables), 3000).astype(np.uint8)
    slots = (rng.random(3000) * tables.lengths[rows]).astype(np.int32)
    slots[:50] = tables.lengths[rows[:50]] - 1
    groups = [(slots, rows)]
    assert encode(tables, groups).tolist() == encode_reference(tables, groups).tolist()


@given(st.lists(st.integers(0, 2**32 - 1), max_size=8), st.integers(0, 400))
def test_arbitrary_words_decode_alike_or_raise_corrupt(words, count):
    words = np.array(words, np.uint32)
    rows = (np.arange(count) % 2).astype(np.uint8)
    results = []
    for make, source in ((AnsDecoder, RowModels(SMALL)), (ReferenceDecoder, SMALL)):
        try:
            decoder = make(words)
            slots = decoder.take(source, rows).tolist()
            decoder.finish()
        except CorruptStreamError as error:
            slots = str(error)
        results.append(slots)
    assert results[0] == results[1]


def test_no_words_are_the_slots_an_empty_coder_holds():
    rows = np.zeros(5, np.uint8)
    decoder = AnsDecoder(np.zeros(0, np.uint32))
    assert decoder.take(RowModels(SMALL), rows).tolist() == [0] * 5
    decoder.finish()
    assert encode(SMALL, [(np.zeros(5, np.int32), rows)]).size == 0


def test_a_zero_word_at_the_end_is_corrupt():
    with pytest.raises(CorruptStreamError, match="zero word"):
        AnsDecoder(np.array([5, 0], np.uint32))


def test_missing_and_extra_words_are_noticed(rng):
    rows = rng.integers(0, 2, 500).astype(np.uint8)
    slots = rng.integers(0, 3, 500).astype(np.int32)
    words = encode(SMALL, [(slots, rows)])
    for changed in (words[1:], words[:-1], np.append(np.uint32(7), words), np.append(words, np.uint32(7))):
        decoder = AnsDecoder(changed)
        decoder.take(RowModels(SMALL), rows)
        with pytest.raises(CorruptStreamError, match="do not end"):
            decoder.finish()


def test_reference_refuses_a_zero_word_and_leftovers():
    with pytest.raises(CorruptStreamError, match="zero word"):
        ReferenceDecoder(np.array([0], np.uint32))
    with pytest.raises(CorruptStreamError, match="do not end"):
        ReferenceDecoder(np.array([9], np.uint32)).finish()
