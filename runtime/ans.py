"""Symbols to 32-bit words and back: one stream a picture, on constriction's ``AnsCoder``.

The coder is a stack. Decoding pops z first and then the steps in coding order, so encoding collects
everything and pushes it last to first. Within one group (z, or a step) slots are sorted stably by row and
coded row by row, ascending: constriction is fastest on long runs of one model.

``Categorical`` with ``perfect=False`` turns probabilities p_i into frequencies 1 + floor(p_i * (2^24 - n) /
sum(p)), and with p_i = frequency_i - 1 that quotient is 1 exactly, on every machine. ``ans_reference.py`` is
the readable twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

import constriction
import numpy as np
from numpy.typing import NDArray

from mlic.runtime.arrays import Array, Int32Array
from mlic.runtime.entropy_model import FrequencyTables
from mlic.runtime.errors import CorruptStreamError

Words = NDArray[np.uint32]


class RowModels:
    """constriction's models of a table's rows, built when first used.

    Threads may share one object: at worst two build the same model.
    """

    def __init__(self, tables: FrequencyTables) -> None:
        self._tables = tables
        self._models: list[object | None] = [None] * len(tables)

    def __getitem__(self, row: int) -> object:
        model = self._models[row]
        if model is None:
            probabilities = self._tables.row(row).astype(np.float64) - 1
            assert probabilities.any()  # all frequencies 1 would take 2^24 entries, beyond MAX_ENTRIES
            model = constriction.stream.model.Categorical(probabilities, perfect=False)
            self._models[row] = model
        return model


class AnsEncoder:
    """Collects groups of slots in coding order, then writes them as one stream."""

    def __init__(self) -> None:
        self._groups: list[tuple[RowModels, Array, NDArray[np.int64]]] = []

    def add(self, models: RowModels, slots: Int32Array, rows: Array) -> None:
        """Append one group.

        Args:
            models: of the table that ``rows`` point into.
            slots: int32 [n], each within its row.
            rows: uint8 or uint16 [n].
        """
        in_order = slots[_order(rows)]
        if in_order.size and in_order.max() <= np.iinfo(np.uint16).max:  # all of a picture's are held until the end
            in_order = in_order.astype(np.uint16)
        self._groups.append((models, in_order, np.bincount(rows)))

    def finish(self) -> Words:
        """Return the stream: uint32 [words], the decoder's first word last. May be empty."""
        coder = constriction.stream.stack.AnsCoder()
        for models, slots, counts in reversed(self._groups):
            for row, start, end in reversed(list(_runs(counts))):
                coder.encode_reverse(slots[start:end].astype(np.int32, copy=False), models[row])
        words: Words = coder.get_compressed()
        return words


class AnsDecoder:
    """Takes groups of slots from a stream, in coding order."""

    def __init__(self, words: Words) -> None:
        """Open a stream.

        Args:
            words: uint32 [words], as ``AnsEncoder.finish`` returned them.

        Raises:
            CorruptStreamError: the last word is zero, which no encoder writes.
        """
        if words.size and not words[-1]:
            raise CorruptStreamError("the coded symbols end in a zero word")
        self._coder = constriction.stream.stack.AnsCoder(np.ascontiguousarray(words, dtype=np.uint32))

    def fork(self) -> AnsDecoder:
        """Return a decoder that goes on from here on its own."""
        other = copy(self)
        other._coder = self._coder.clone()
        return other

    def take(self, models: RowModels, rows: Array) -> Int32Array:
        """Return the next group's slots.

        A stream that is too short gives slot 0 for ever; ``finish`` and the checksums notice wrong symbols.

        Args:
            models: of the table that ``rows`` point into.
            rows: uint8 or uint16 [n].

        Returns:
            int32 [n], each within its row, in the order of ``rows``.
        """
        order = _order(rows)
        in_order = np.empty(len(rows), dtype=np.int32)
        for row, start, end in _runs(np.bincount(rows)):
            in_order[start:end] = self._coder.decode(models[row], end - start)
        slots = np.empty_like(in_order)
        slots[order] = in_order
        return slots

    def finish(self) -> None:
        """Check that the stream is used up.

        Raises:
            CorruptStreamError: words are left, or the coder is not in the state in which an encoder starts.
        """
        if not self._coder.is_empty():
            raise CorruptStreamError("the coded symbols do not end where they should")


def _order(rows: Array) -> NDArray[np.int64]:
    """Return the stable order by row; numpy sorts 8 and 16 bits by radix, others several times slower."""
    assert rows.dtype in (np.uint8, np.uint16)
    return np.argsort(rows, kind="stable")


def _runs(counts: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield row, start and end of each non-empty run of equal rows in sorted order."""
    ends = np.cumsum(counts)
    for row in np.flatnonzero(counts).tolist():
        yield row, int(ends[row] - counts[row]), int(ends[row])
