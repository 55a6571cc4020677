"""Checksums of indexes are those of Python, and the same readings are found at the same costs."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from mlic.runtime.checksums import CHECKSUMS
from mlic.runtime.repair import Reach, sets_with_sum
from mlic.runtime.syndrome import SyndromeReader, SyndromeWriter
from tests.native.core_probe import status_of

pytestmark = pytest.mark.xdist_group("native_core")  # one build
TABLE = np.exp(np.linspace(np.log(0.11), np.log(256), 64)).astype(np.float32)


@pytest.mark.parametrize(("chunk_log2", "width"), [(15, 16), (6, 16), (6, 32), (24, 32)])
def test_checksums_are_equal(probe, rng, chunk_log2, width):
    steps = [rng.integers(0, 64, size).astype(np.uint8) for size in (1, 63, 64, 65, 40000, 0)]
    writer = SyndromeWriter(chunk_log2, width)
    for indexes in steps:
        writer.add(indexes)
    options = (struct.pack("<I", chunk_log2), struct.pack("<I", width))
    assert probe.ask("syndrome_write", *options, *steps) == [writer.finish()]


@pytest.mark.parametrize("width", [16, 32])
def test_effects_of_changes_are_equal(probe, rng, width):
    behind = np.concatenate([np.arange(600), rng.integers(0, 1 << 24, 500), [(1 << 24) - 1]])
    changes = rng.integers(1, 256, len(behind)).astype(np.uint8)
    expected = CHECKSUMS[width].effects(behind, changes).astype(np.uint32)
    assert probe.ask("effects", struct.pack("<I", width), behind.astype(np.uint64), changes) == [expected.tobytes()]


def test_the_same_sets_are_found(probe, rng):
    for _ in range(100):
        effects = rng.integers(0, rng.integers(2, 64), rng.integers(0, 14)).astype(np.uint32)
        wanted, reach = int(rng.integers(0, 16)), rng.integers(0, 13, 4)
        expected = sets_with_sum(effects.astype(np.uint64), wanted, Reach(*reach.tolist()))
        found = probe.ask("sets", effects, struct.pack("<I", wanted), reach.astype(np.uint64))
        assert [tuple(np.frombuffer(one, np.uint32).tolist()) for one in found] == expected


def test_payloads_are_refused_alike(probe, rng):
    payload = SyndromeWriter()
    payload.add(np.zeros(100, np.uint8))
    right = payload.finish()
    sizes = np.array([100], np.uint64)
    candidates = [right[:length] for length in range(len(right))] + [right + b"\0", b"\x0f\x18" + right[2:]]
    candidates += [
        bytes([log2, width]) + bytes(size) for log2 in (5, 6, 24, 25) for width in (0, 16, 32) for size in (6, 8, 10)
    ]
    for data in candidates:
        expected = status_of(SyndromeReader, data, [100], TABLE)
        assert probe.status("syndrome_read", data, sizes, TABLE) == expected


def compare_readings(probe, ours, theirs, chunk_log2, width, picks=4):
    """Compare all readings of one step; return how many there were."""
    mine, right = (np.searchsorted(TABLE[:-1], scales).astype(np.uint8) for scales in (ours, theirs))
    writer = SyndromeWriter(chunk_log2, width)
    writer.add(right)
    payload = writer.finish()
    reader = SyndromeReader(payload, [ours.size], TABLE)
    wrong = reader.wrong_chunks(0, mine)
    count = 0
    for pick in range(picks):
        expected = reader.reading(0, "step", mine, ours, wrong, pick)
        asked = (payload, np.array([ours.size], np.uint64), TABLE, 0, mine, ours, pick)
        found_wrong, *found = probe.ask("syndrome_read", *asked)
        assert np.frombuffer(found_wrong, np.uint64).tolist() == wrong
        assert bool(found) == (expected is not None)
        if expected is None:
            continue
        count += 1
        indexes, cost, changes, *next_cost = found
        assert indexes == expected.indexes.tobytes()
        assert struct.unpack("<d", cost)[0] == pytest.approx(expected.cost, rel=1e-9, abs=1e-9)
        assert bool(next_cost) == (expected.next_cost is not None)
        if next_cost:
            assert struct.unpack("<d", *next_cost)[0] == pytest.approx(expected.next_cost, rel=1e-9, abs=1e-9)
        listed = [[one.place, one.ours, one.theirs, one.distance] for one in expected.changes]
        assert np.frombuffer(changes).reshape(-1, 4).tolist() == listed
    return count


@pytest.mark.parametrize("width", [16, 32])
@pytest.mark.parametrize("noise", [0, 2e-6, 2e-5, 1e-3])
def test_readings_are_the_same(probe, rng, width, noise):
    counts = []
    for size, chunk_log2 in ((1, 6), (40, 6), (1000, 8), (5000, 15), (24576, 15), (70000, 15)):
        ours = np.exp(rng.uniform(np.log(0.08), np.log(300), size)).astype(np.float32)
        theirs = (ours + rng.normal(0, noise, size)).astype(np.float32)
        counts.append(compare_readings(probe, ours, theirs, chunk_log2, width))
    assert sum(counts) > 0


@pytest.mark.parametrize("width", [16, 32])
@pytest.mark.parametrize("flips", [1, 2, 3, 5])
def test_readings_of_known_flips_are_the_same(probe, rng, width, flips):
    for _ in range(3):
        ours = np.exp(rng.uniform(np.log(0.08), np.log(300), 24576)).astype(np.float32)
        places = rng.choice(ours.size, flips, replace=False)
        ours[places] = TABLE[rng.integers(3, 40, flips)] + np.float32(1e-6) * rng.integers(1, 4, flips).astype(
            np.float32
        )
        theirs = ours.copy()
        theirs[places] -= np.float32(1e-5)
        assert compare_readings(probe, ours, theirs, 15, width) > 0


def test_equally_near_scales_are_taken_in_the_same_order(probe, rng):
    ours = TABLE[rng.integers(3, 6, 24576)]
    theirs = ours.copy()
    theirs[[100, 1500]] += np.float32(1e-5)
    assert compare_readings(probe, ours, theirs, 15, 32) > 0


def test_many_wrong_chunks_are_given_up_by_both(probe, rng):
    ours, theirs = np.exp(rng.uniform(-2, 4, (2, 1 << 14))).astype(np.float32)
    assert compare_readings(probe, ours, theirs, 6, 16) == 0
