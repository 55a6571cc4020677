"""Checksums, and the effect of a changed byte on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.checksums import CHECKSUMS, CRC16, CRC32
from mlic.runtime.syndrome_reference import crc16, crc32

BOTH = pytest.mark.parametrize("checksum", CHECKSUMS.values(), ids=["16", "32"])
TWINS = {16: crc16, 32: crc32}


def test_check_values_are_those_of_the_catalogue():
    """CRC-16/XMODEM and CRC-32/ISO-HDLC."""
    assert CRC16.of(memoryview(b"123456789")) == crc16(b"123456789") == 0x31C3
    assert CRC32.of(memoryview(b"123456789")) == crc32(b"123456789") == 0xCBF43926


@given(st.binary(max_size=40))
def test_the_twin_gives_the_same(data):
    assert all(checksum.of(memoryview(data)) == TWINS[width](data) for width, checksum in CHECKSUMS.items())


@BOTH
@given(st.data())
def test_the_difference_of_two_checksums_is_the_sum_of_the_effects_of_the_changes(checksum, data):
    before = np.frombuffer(data.draw(st.binary(min_size=1, max_size=600)), np.uint8)
    places = data.draw(st.sets(st.integers(0, len(before) - 1), max_size=5))
    after = before.copy()
    for place in places:
        after[place] ^= data.draw(st.integers(1, 255))
    changed = np.array(sorted(places), np.int64)
    effects = checksum.effects(len(before) - 1 - changed, before[changed] ^ after[changed])
    difference = checksum.difference(checksum.of(memoryview(before)), checksum.of(memoryview(after)))
    assert difference == int(np.bitwise_xor.reduce(effects, initial=0))


@BOTH
def test_effects_hold_at_the_far_end_of_the_longest_chunk(checksum):
    length = 1 << 24
    before = np.zeros(length, np.uint8)
    for place in (0, 1, 65535, length - 65537, length - 1):
        after = before.copy()
        after[place] = 5
        difference = checksum.difference(checksum.of(memoryview(before)), checksum.of(memoryview(after)))
        assert checksum.effects(np.array([length - 1 - place]), np.array([5], np.uint8)).tolist() == [difference]


@BOTH
def test_a_step_to_the_neighbour_is_always_noticed(checksum):
    behind = np.arange(1 << 15)
    for index in range(63):
        change = np.full(len(behind), index ^ (index + 1), np.uint8)
        assert checksum.effects(behind, change).all()
