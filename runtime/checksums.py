"""The two checksums of scale indexes, and what a single changed index does to them.

A CRC is the remainder of the data, read as a polynomial over GF(2), modulo a fixed polynomial. It is linear: two
runs of bytes of one length have checksums that differ by the sum of what each changed byte contributes, wherever it
stands and whatever the other bytes are. The repair of indexes (``repair.py``) rests on this.

Differences and effects are given with the coefficient of x^0 in bit 0, whichever way the checksum itself is
written: zlib's CRC-32 has its bits reversed.
"""

from __future__ import annotations

import zlib
from binascii import crc_hqx
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from mlic.runtime.arrays import UInt8Array

Remainders = NDArray[np.uint64]

_DIGITS = 3  # a chunk has at most 2^24 indexes: three bytes name a place


@dataclass(frozen=True)
class Checksum:
    """A CRC with what the repair needs to know of it.

    Attributes:
        width: in bits.
        polynomial: without its leading term, coefficient of x^0 in bit 0.
        of: gives the checksum of a run of bytes.
        reflected: whether ``of`` takes and gives bits the other way round.
        code: of ``struct``, for one value in a file.
    """

    width: int
    polynomial: int
    of: Callable[[memoryview], int]
    reflected: bool
    code: str

    def difference(self, ours: int, theirs: int) -> int:
        """Return the sum of the effects of all bytes in which the data of two checksums differ."""
        changed = ours ^ theirs
        return int(f"{changed:0{self.width}b}"[::-1], 2) if self.reflected else changed

    def effects(self, behind: NDArray[np.int64], changes: UInt8Array) -> Remainders:
        """Return what changed bytes contribute to the difference of two checksums.

        Args:
            behind: int64 [n], number of bytes between each changed byte and the end of the data, below 2^24.
            changes: uint8 [n], the exclusive or of the two bytes.

        Returns:
            uint64 [n], each below ``2 ** width``: change(x) * x^(8 * behind + width) modulo the polynomial.
        """
        bits = np.packbits(np.unpackbits(changes, bitorder="little")) if self.reflected else changes
        factors = bits.astype(np.uint64)
        for digit, powers in enumerate(_powers(self.width, self.polynomial)):
            factors = self._product(powers[(behind >> (8 * digit)) & 0xFF], factors, 8 if digit == 0 else self.width)
        return factors

    def _product(self, left: Remainders, right: Remainders, right_bits: int) -> Remainders:
        """Return products modulo the polynomial, by Horner's rule over the bits of ``right``."""
        one, top, mask = np.uint64(1), np.uint64(self.width - 1), np.uint64((1 << self.width) - 1)
        polynomial = np.uint64(self.polynomial)
        result = np.zeros_like(left)
        for bit in reversed(range(right_bits)):
            result = ((result << one) & mask) ^ ((result >> top) * polynomial)
            result ^= ((right >> np.uint64(bit)) & one) * left
        return result


CRC16 = Checksum(16, 0x1021, lambda data: crc_hqx(data, 0), reflected=False, code="H")
CRC32 = Checksum(32, 0x04C11DB7, zlib.crc32, reflected=True, code="I")
CHECKSUMS = {checksum.width: checksum for checksum in (CRC16, CRC32)}


@cache
def _powers(width: int, polynomial: int) -> list[Remainders]:
    """Return x^(8 * 256^digit * value), the first of them times x^width: one uint64 [256] a digit."""

    def times_x(remainder: int) -> int:
        doubled = remainder << 1
        return doubled ^ (1 << width | polynomial) if doubled >> width else doubled

    def row(first: int, step: int) -> list[int]:
        values = [first]
        while len(values) < 257:
            values.append(_product_of(values[-1], step, times_x))
        return values

    x_to_width = polynomial  # x^width itself, reduced once
    step = 1
    for _ in range(8):
        step = times_x(step)
    rows = []
    for digit in range(_DIGITS):
        plain = row(1, step)
        rows.append(row(x_to_width, step)[:256] if digit == 0 else plain[:256])
        step = plain[256]
    return [np.array(values, dtype=np.uint64) for values in rows]


def _product_of(left: int, right: int, times_x: Callable[[int], int]) -> int:
    result = 0
    for bit in f"{right:b}":
        result = times_x(result)
        if bit == "1":
            result ^= left
    return result
