"""The readable twin of ``ans.py``: the same words from Python integers alone.

State of 64 bits, words of 32, frequencies of 24. Between two symbols the state x is at least 2^32, except
near the bottom of the stack, where no words are left.

    push(start, frequency):  if x >= frequency * 2^40: emit x mod 2^32, x = x div 2^32
                             x = (x div frequency) * 2^24 + start + x mod frequency
    pop:                     q = x mod 2^24 lies in the entry [start, start + frequency)
                             x = (x div 2^24) * frequency + q - start
                             if x < 2^32 and words are left: x = x * 2^32 + next word

The stack begins with x = 0 and is stored bottom first; the final state follows as its low and then its high
word, leading zero words left out.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import numpy as np

from mlic.runtime.ans import Words
from mlic.runtime.arrays import Array, Int32Array
from mlic.runtime.entropy_model import PRECISION_BITS, FrequencyTables
from mlic.runtime.errors import CorruptStreamError

WORD_BITS = 32
WORD_MASK = (1 << WORD_BITS) - 1
STATE_BITS = 64


class ReferenceStack:
    """The ANS coder itself."""

    def __init__(self, words: list[int] | None = None) -> None:
        self.words = list(words or [])
        self.state = 0
        self._refill()

    def push(self, start: int, frequency: int) -> None:
        """Push the entry that occupies [start, start + frequency) of 2^24."""
        if self.state >= frequency << (STATE_BITS - PRECISION_BITS):
            self.words.append(self.state & WORD_MASK)
            self.state >>= WORD_BITS
        quotient, remainder = divmod(self.state, frequency)
        self.state = (quotient << PRECISION_BITS) + start + remainder

    def pop(self, starts: list[int]) -> int:
        """Pop a slot of a row whose entries begin at ``starts`` and end at its last element, 2^24."""
        quantile = self.state & ((1 << PRECISION_BITS) - 1)
        slot = bisect_right(starts, quantile) - 1
        frequency = starts[slot + 1] - starts[slot]
        self.state = (self.state >> PRECISION_BITS) * frequency + quantile - starts[slot]
        self._refill()
        return slot

    def stored(self) -> list[int]:
        """Return all words, the state's included."""
        words, state = list(self.words), self.state
        while state:
            words.append(state & WORD_MASK)
            state >>= WORD_BITS
        return words

    def _refill(self) -> None:
        while self.state < 1 << WORD_BITS and self.words:
            self.state = self.state << WORD_BITS | self.words.pop()


class ReferenceEncoder:
    """Twin of ``ans.AnsEncoder``."""

    def __init__(self) -> None:
        self._groups: list[list[tuple[int, int]]] = []

    def add(self, tables: FrequencyTables, slots: Int32Array, rows: Array) -> None:
        """Append one group; arguments as in ``ans.AnsEncoder.add``."""
        starts = {row: _starts(tables, row) for row in set(rows.tolist())}
        pairs = sorted(zip(rows.tolist(), slots.tolist(), strict=True), key=lambda pair: pair[0])
        self._groups.append([(starts[row][slot], starts[row][slot + 1] - starts[row][slot]) for row, slot in pairs])

    def finish(self) -> Words:
        """Return the stream: uint32 [words]."""
        stack = ReferenceStack()
        for group in reversed(self._groups):
            for start, frequency in reversed(group):
                stack.push(start, frequency)
        return np.array(stack.stored(), dtype=np.uint32)


class ReferenceDecoder:
    """Twin of ``ans.AnsDecoder``."""

    def __init__(self, words: Words) -> None:
        if words.size and not words[-1]:
            raise CorruptStreamError("the coded symbols end in a zero word")
        self._stack = ReferenceStack(words.tolist())

    def take(self, tables: FrequencyTables, rows: Array) -> Int32Array:
        """Return the next group's slots; arguments and result as in ``ans.AnsDecoder.take``."""
        starts = {row: _starts(tables, row) for row in set(rows.tolist())}
        slots = np.empty(len(rows), dtype=np.int32)
        for place, row in sorted(enumerate(rows.tolist()), key=lambda pair: pair[1]):
            slots[place] = self._stack.pop(starts[row])
        return slots

    def finish(self) -> None:
        """Check that the stream is used up.

        Raises:
            CorruptStreamError: it is not.
        """
        if self._stack.state or self._stack.words:
            raise CorruptStreamError("the coded symbols do not end where they should")


def _starts(tables: FrequencyTables, row: int) -> list[int]:
    return [0, *accumulate(tables.row(row).tolist())]
