"""The side stream of values outside their table: Exp-Golomb codes of order 0, most significant bit first.

A raw number r >= 0 is written as b zero bits and the b + 1 bits of r + 1, whose first bit is 1. Codes follow
one another without alignment, in coding order; zero bits fill the last byte.

    raw 0: 1    raw 1: 010    raw 2: 011    raw 3: 00100    raw 6: 00111    raw 7: 0001000
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlic.runtime.errors import CorruptStreamError

# r + 1 has 27 bits at most: symbols stay within ±(2^24 - 1), offsets within ±2^20 (entropy_model.py).
MAX_ZEROS = 26
MAX_RAW = (1 << (MAX_ZEROS + 1)) - 2
MAX_BITS = 2 * MAX_ZEROS + 1  # of one raw number


class EscapeWriter:
    """Writes raw numbers as bits, group by group in coding order."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._rest = np.zeros(0, dtype=np.uint8)  # the last bits, which fill no byte yet

    def add(self, raws: NDArray[np.int64]) -> None:
        """Append raw numbers.

        Args:
            raws: int64 [n], in 0..``MAX_RAW``.
        """
        if not raws.size:
            return
        values = raws + 1
        assert values.min() >= 1
        assert values.max() <= MAX_RAW + 1
        # frexp: value = mantissa * 2^exponent with the mantissa in [0.5, 1), so exponent is the number of
        # bits
        zeros = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1
        ends = len(self._rest) + np.cumsum(2 * zeros + 1)
        bits = np.zeros(int(ends[-1]), dtype=np.uint8)
        bits[: len(self._rest)] = self._rest
        for place in range(int(zeros.max()) + 1):  # place 0 is the last bit of each code
            has = zeros >= place
            bits[ends[has] - 1 - place] = (values[has] >> place) & 1
        whole = len(bits) // 8 * 8
        self._parts.append(np.packbits(bits[:whole]).tobytes())
        self._rest = bits[whole:].copy()

    def finish(self) -> bytes:
        """Return the side stream; empty if there were no raw numbers."""
        return b"".join([*self._parts, np.packbits(self._rest).tobytes()])


class EscapeReader:
    """Reads raw numbers back, in the order in which they were written."""

    def __init__(self, data: bytes) -> None:
        self._text = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).tobytes()
        self._bits = np.frombuffer(self._text, dtype=np.uint8)
        self._position = 0

    def take(self, count: int) -> NDArray[np.int64]:
        """Return the next raw numbers.

        Args:
            count: how many.

        Returns:
            int64 [count], in 0..``MAX_RAW``.

        Raises:
            CorruptStreamError: the stream ends before, or holds a code longer than any encoder writes.
        """
        total = len(self._text)
        if count > total - self._position:  # a code has one bit at least; checked before anything is allocated
            raise CorruptStreamError(f"{count} escaped symbols need as many bits; {total - self._position} left")
        starts = np.empty(count, dtype=np.int64)
        zeros = np.empty(count, dtype=np.int64)
        position = self._position
        for index in range(count):
            first_one = self._text.find(1, position, position + MAX_ZEROS + 1)
            width = first_one - position
            if first_one < 0 or first_one + width >= total:
                raise CorruptStreamError(f"escaped symbol at bit {position} of {total} is cut or too long")
            starts[index], zeros[index] = first_one, width
            position = first_one + width + 1
        self._position = position
        values = np.zeros(count, dtype=np.int64)
        for place in range(int(zeros.max(initial=0)) + 1):
            has = zeros >= place
            values[has] = (values[has] << 1) | self._bits[starts[has] + place]
        return values - 1

    def finish(self) -> None:
        """Check that the stream is used up.

        Raises:
            CorruptStreamError: codes are left over, or the last byte is not filled up with zero bits.
        """
        rest = self._text[self._position :]
        if len(rest) > 7 or 1 in rest:
            raise CorruptStreamError(f"{len(rest)} bits of escaped symbols are left over")
