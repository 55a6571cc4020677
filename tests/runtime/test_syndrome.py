"""Checksums of the indexes."""

import binascii

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.errors import BitstreamError, CorruptStreamError, EngineMismatchError, UnsupportedStreamError
from mlic.runtime.syndrome import SyndromeChecker, SyndromeWriter, chunk_checksums

SCALES = np.zeros(0, np.float32)


def write(*steps):
    writer = SyndromeWriter()
    for indexes in steps:
        writer.add(np.asarray(indexes, np.uint8))
    return writer.finish()


def check(payload, *steps):
    checker = SyndromeChecker(payload, [np.size(step) for step in steps], "engine 1", "float32-syndrome")
    for number, indexes in enumerate(steps):
        ours = np.asarray(indexes, np.uint8)
        assert checker.correct(f"step_{number:02d}", ours, SCALES) is ours
    checker.finish()


def test_layout_is_frozen():
    text = np.frombuffer(b"123456789", np.uint8)  # check value of CRC-16/XMODEM: 0x31c3, of CRC-32: 0xcbf43926
    assert write(text).hex() == "0f10" + "c331" + "2639f4cb"
    assert write(text[:4], text[4:])[-4:].hex() == "2639f4cb"


@given(st.lists(st.lists(st.integers(0, 63), min_size=1, max_size=20), min_size=1, max_size=4))
def test_round_trip(steps):
    check(write(*steps), *steps)


def test_a_step_is_cut_into_chunks_of_32768(rng):
    indexes = rng.integers(0, 64, (1, 5, 100, 200)).astype(np.uint8)
    payload = write(indexes)
    assert len(payload) == 2 + 2 * 4 + 4
    flat = indexes.tobytes()
    expected = [binascii.crc_hqx(flat[start : start + 32768], 0) for start in range(0, 100000, 32768)]
    assert np.frombuffer(payload[2:-4], "<u2").tolist() == expected
    check(payload, indexes)


def test_every_single_change_of_an_index_is_noticed_before_its_step_is_decoded(rng):
    first, second = rng.integers(0, 64, (2, 50)).astype(np.uint8)
    payload = write(first, second)
    for place in range(50):
        for change in (1, 2, 63):
            wrong = second.copy()
            wrong[place] ^= change
            with pytest.raises(EngineMismatchError, match="step_01: 1 of 1 chunks"):
                check(payload, first, wrong)


def test_the_error_names_step_engine_and_arithmetic():
    with pytest.raises(EngineMismatchError, match=r"step_00: .*engine engine 1, arithmetic float32-syndrome"):
        check(write([1, 2]), [1, 3])


def test_a_change_that_cancels_in_every_chunk_is_noticed_at_the_end():
    # The polynomial's 17 bits, 1 0001 0000 0010 0001, over three bytes: adding them leaves the CRC-16 as it is.
    right = np.zeros(3, np.uint8)
    wrong = np.array([0x01, 0x10, 0x21], np.uint8)
    assert chunk_checksums(right, 8) == chunk_checksums(wrong, 8)
    with pytest.raises(EngineMismatchError, match="whole picture"):
        check(write(right), wrong)


@given(st.binary(min_size=9, max_size=9), st.binary(min_size=9, max_size=9))
def test_checksums_are_linear(left, right):
    """The repair of single indexes rests on this."""
    a, b = (np.frombuffer(data, np.uint8) for data in (left, right))
    expected = [x ^ y for x, y in zip(chunk_checksums(a, 4), chunk_checksums(b, 4), strict=True)]
    assert chunk_checksums(a ^ b, 4) == expected


@given(st.binary(max_size=20))
def test_arbitrary_payloads_are_refused_or_checked(payload):
    try:
        check(payload, [1, 2, 3])
    except (BitstreamError, EngineMismatchError):
        return
    assert payload[2:] == write([1, 2, 3])[2:]


def test_every_prefix_and_trailing_data_are_corrupt():
    payload = write([1, 2, 3])
    for changed in (*(payload[:length] for length in range(len(payload))), payload + b"\0"):
        with pytest.raises(CorruptStreamError, match="SYND has"):
            check(changed, [1, 2, 3])


@pytest.mark.parametrize("head", [b"\x0f\x20", b"\x05\x10", b"\xff\x10"])
def test_another_kind_of_checksum_is_unsupported(head):
    with pytest.raises(UnsupportedStreamError, match="index checksums"):
        check(head + write([1])[2:], [1])


def test_shorter_chunks_are_read():
    indexes = np.arange(200, dtype=np.uint8)
    sums = chunk_checksums(indexes, 64)
    payload = b"\x06\x10" + np.array(sums, "<u2").tobytes() + binascii.crc32(indexes).to_bytes(4, "little")
    check(payload, indexes)
