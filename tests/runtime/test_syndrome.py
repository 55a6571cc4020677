"""Checksums of the indexes."""

import binascii
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.checksums import CHECKSUMS
from mlic.runtime.errors import BitstreamError, CorruptStreamError, UnsupportedStreamError
from mlic.runtime.syndrome import Change, SyndromeReader, SyndromeWriter, cheapest, chunk_checksums

TABLE = np.geomspace(0.11, 256, 64).astype(np.float32)


def write(*steps, **options):
    writer = SyndromeWriter(**options)
    for indexes in steps:
        writer.add(np.asarray(indexes, np.uint8))
    return writer.finish()


def read(payload, *steps):
    return SyndromeReader(payload, [np.size(step) for step in steps], TABLE)


def agrees(payload, *steps):
    """Return whether all chunks and the whole agree."""
    reader, arrays = read(payload, *steps), [np.asarray(step, np.uint8) for step in steps]
    right = not any(reader.wrong_chunks(number, indexes) for number, indexes in enumerate(arrays))
    whole = reader.all_agree(binascii.crc32(b"".join(indexes.tobytes() for indexes in arrays)))
    return right and whole


def test_layout_is_frozen():
    text = np.frombuffer(b"123456789", np.uint8)  # check value of CRC-16/XMODEM: 0x31c3, of CRC-32: 0xcbf43926
    assert write(text).hex() == "0f10" + "c331" + "2639f4cb"
    assert write(text[:4], text[4:])[-4:].hex() == "2639f4cb"


@given(st.lists(st.lists(st.integers(0, 63), min_size=1, max_size=20), min_size=1, max_size=4))
def test_round_trip(steps):
    assert agrees(write(*steps), *steps)
    assert agrees(write(*steps, chunk_log2=6, width=32), *steps)


def test_a_step_is_cut_into_chunks_of_32768(rng):
    indexes = rng.integers(0, 64, (1, 5, 100, 200)).astype(np.uint8)
    payload = write(indexes)
    assert len(payload) == 2 + 2 * 4 + 4
    flat = indexes.tobytes()
    expected = [binascii.crc_hqx(flat[start : start + 32768], 0) for start in range(0, 100000, 32768)]
    assert np.frombuffer(payload[2:-4], "<u2").tolist() == expected
    assert agrees(payload, indexes)


def test_every_single_change_of_an_index_is_noticed_before_its_step_is_decoded(rng):
    first, second = rng.integers(0, 64, (2, 50)).astype(np.uint8)
    reader = read(write(first, second), first, second)
    for place, change in itertools.product(range(50), (1, 2, 63)):
        wrong = second.copy()
        wrong[place] ^= change
        assert reader.wrong_chunks(1, wrong) == [0]


def test_only_the_chunk_that_differs_is_wrong(rng):
    indexes = rng.integers(0, 64, 300).astype(np.uint8)
    reader = read(write(indexes, chunk_log2=6), indexes)
    indexes[200] ^= 1
    assert reader.wrong_chunks(0, indexes.reshape(1, 3, 10, 10)) == [3]


def test_a_change_that_cancels_in_every_chunk_is_noticed_at_the_end():
    # The polynomial's 17 bits, 1 0001 0000 0010 0001, over three bytes: adding them leaves the CRC-16 as it is.
    right = np.zeros(3, np.uint8)
    wrong = np.array([0x01, 0x10, 0x21], np.uint8)
    assert chunk_checksums(right, 8) == chunk_checksums(wrong, 8)
    reader = read(write(right), right)
    assert reader.wrong_chunks(0, wrong) == []
    assert not reader.all_agree(binascii.crc32(wrong))


@given(st.binary(min_size=9, max_size=9), st.binary(min_size=9, max_size=9))
def test_checksums_are_linear(left, right):
    """The repair of single indexes rests on this."""
    a, b = (np.frombuffer(data, np.uint8) for data in (left, right))
    expected = [x ^ y for x, y in zip(chunk_checksums(a, 4), chunk_checksums(b, 4), strict=True)]
    assert chunk_checksums(a ^ b, 4) == expected


@given(st.binary(max_size=20))
def test_arbitrary_payloads_are_refused_or_checked(payload):
    try:
        right = agrees(payload, [1, 2, 3])
    except BitstreamError:
        return
    assert right == (payload in (write([1, 2, 3], chunk_log2=payload[0], width=width) for width in CHECKSUMS))


def test_every_prefix_and_trailing_data_are_corrupt():
    payload = write([1, 2, 3])
    for changed in (*(payload[:length] for length in range(len(payload))), payload + b"\0"):
        with pytest.raises(CorruptStreamError, match="SYND has"):
            read(changed, [1, 2, 3])


@pytest.mark.parametrize("head", [b"\x0f\x18", b"\x05\x10", b"\xff\x10"])
def test_another_kind_of_checksum_is_unsupported(head):
    with pytest.raises(UnsupportedStreamError, match="index checksums"):
        read(head + write([1])[2:], [1])


def test_shorter_chunks_are_read():
    indexes = np.arange(200, dtype=np.uint8)
    sums = chunk_checksums(indexes, 64)
    payload = b"\x06\x10" + np.array(sums, "<u2").tobytes() + binascii.crc32(indexes).to_bytes(4, "little")
    assert agrees(payload, indexes)


def reading(ours, theirs, pick=0, **options):
    """Return what a decoder with scales ``ours`` reads in the checksums of an encoder with scales ``theirs``."""
    mine, right = (np.searchsorted(TABLE[:-1], scales).astype(np.uint8) for scales in (ours, theirs))
    reader = read(write(right, **options), right)
    return reader.reading(0, "step_00", mine, ours, reader.wrong_chunks(0, mine), pick), right


def near_boundaries(count, *places):
    """Return scales in the middle of their intervals but for some just above a boundary."""
    scales = np.sqrt(TABLE[np.arange(count) % 40] * TABLE[np.arange(count) % 40 + 1])
    for number, place in enumerate(places):
        scales[place] = TABLE[number % 50 + 3] + np.float32(1e-6)
    return scales.astype(np.float32)


@pytest.mark.parametrize("width", [16, 32])
def test_a_reading_corrects_every_wrong_chunk_and_lists_the_changes(width):
    ours = near_boundaries(1000, 7, 300, 999).reshape(1, 10, 10, 10)
    theirs = ours.copy()
    theirs.reshape(-1)[[7, 999]] -= np.float32(1e-5)
    found, right = reading(ours, theirs, chunk_log2=8, width=width)
    assert found is not None
    assert np.array_equal(found.indexes, right)
    assert found.indexes.shape == ours.shape
    distance = pytest.approx(1e-6, rel=0.2)
    assert found.changes == (Change("step_00", 7, 4, 3, distance), Change("step_00", 999, 6, 5, distance))


def test_the_next_reading_costs_what_the_one_before_announced():
    ours = near_boundaries(1000, *range(0, 1000, 50))
    theirs = ours - np.float32(1e-5)
    announced, seen = None, []
    for pick in range(4):
        found, _ = reading(ours, theirs, pick)
        assert found is not None
        assert announced is None or found.cost == announced
        announced = found.next_cost
        seen.append(found.indexes.tobytes())
        if announced is None:
            break
    assert len(set(seen)) == len(seen) >= 2
    if announced is None:
        assert reading(ours, theirs, len(seen))[0] is None


def test_where_all_chunks_agree_the_next_reading_is_one_that_the_checksums_cannot_tell_apart(rng):
    ours = near_boundaries(30000, *range(0, 30000, 40))
    found, right = reading(ours, ours, 1)
    assert found is not None
    assert not np.array_equal(found.indexes, right)
    assert chunk_checksums(found.indexes, 1 << 15) == chunk_checksums(right, 1 << 15)


def test_scales_far_from_the_encoders_have_no_reading(rng):
    ours, theirs = np.exp(rng.uniform(-2, 4, (2, 1 << 17))).astype(np.float32)
    assert reading(ours, theirs, width=32)[0] is None


def test_a_file_of_many_short_chunks_that_all_differ_is_given_up_at_once(rng, monkeypatch):
    monkeypatch.setattr("mlic.runtime.repair.Repair.candidates", lambda *_: pytest.fail("searched"))
    ours, theirs = np.exp(rng.uniform(-2, 4, (2, 1 << 14))).astype(np.float32)
    assert reading(ours, theirs, chunk_log2=6)[0] is None


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4).map(sorted), min_size=1, max_size=4))
def test_combinations_come_cheapest_first_and_each_once(costs):
    found = list(cheapest(costs))
    expected = list(itertools.product(*(range(len(options)) for options in costs)))
    assert sorted(chosen for _, chosen in found) == sorted(expected)
    sums = [sum(options[place] for options, place in zip(costs, chosen, strict=True)) for _, chosen in found]
    assert sums == [total for total, _ in found] == sorted(sums)
