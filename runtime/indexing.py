"""Table indexes on both sides of a file, one implementation for each arithmetic; this one holds ``integer``.

An ``Indexing`` belongs to a model; for every picture it gives an ``IndexWriter`` or an ``IndexReader``. The coder knows
no more of an arithmetic than these.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mlic.runtime.arithmetic import INTEGER, Arithmetic
from mlic.runtime.arrays import Array, UInt8Array
from mlic.runtime.errors import BackendError, EngineMismatchError, MlicError
from mlic.runtime.syndrome import Change


class IndexWriter(Protocol):
    """Collects what a picture's file has to say about its indexes."""

    def add(self, indexes: UInt8Array) -> None:
        """Add one step's indexes, uint8 of any shape."""

    def finish(self) -> bytes:
        """Return the contents of the arithmetic's chunk."""


class IndexReader(Protocol):
    """Gives a decoder the encoder's indexes, step by step; a shallow copy goes on on its own.

    Attributes:
        agreed: whether the last step's indexes were taken as this engine made them.
        cost: negative natural logarithm of the likelihood of all readings so far.
        next_cost: what ``cost`` would be with the next reading of the last step; None if none is known.
        changes: indexes in which this engine differed from the encoder, so far.
    """

    agreed: bool
    cost: float
    next_cost: float | None
    changes: tuple[Change, ...]

    def read(self, graph: str, given: Array, pick: int) -> UInt8Array:
        """Return the next step's indexes as the encoder had them, uint8 of the shape of ``given``.

        Args:
            graph: the step's, for errors.
            given: what it gives to the coder.
            pick: which reading to take, 0 for the likeliest; others only where ``Indexing.repairs``.

        Raises:
            BackendError: ``given`` cannot be what the graph means.
            EngineMismatchError: the indexes are not the encoder's, and there is no reading ``pick``.
        """

    def finish(self) -> None:
        """Check that all indexes together are the encoder's.

        Raises:
            EngineMismatchError: they are not.
        """

    def blame(self, failure: MlicError) -> MlicError:
        """Return the error to report if nothing leads further than to ``failure``."""


class Indexing(Protocol):
    """How the indexes of one arithmetic come about."""

    @property
    def arithmetic(self) -> Arithmetic:
        """Which one."""

    @property
    def repairs(self) -> bool:
        """Whether a reader may have several readings of a step."""

    def indexes(self, graph: str, given: Array) -> UInt8Array:
        """Return this engine's indexes, uint8 of the shape of ``given``.

        Args:
            graph: the step's, for errors.
            given: what it gives to the coder.

        Raises:
            BackendError: ``given`` cannot be what the graph means.
        """

    def writer(self) -> IndexWriter:
        """Return what collects the checks of one picture."""

    def reader(self, checks: bytes, step_sizes: Sequence[int], where: str) -> IndexReader:
        """Return what gives the indexes of one picture.

        Args:
            checks: contents of the arithmetic's chunk.
            step_sizes: number of indexes of each step, in coding order.
            where: engine and arithmetic, for errors.

        Raises:
            CorruptStreamError: the chunk does not fit the steps.
            UnsupportedStreamError: it needs a newer reader.
        """


class ExactIndexing:
    """Indexes as the graphs give them.

    Args:
        num_rows: of the frequency tables of y; indexes lie below it.
    """

    arithmetic = INTEGER
    repairs = False

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows

    def indexes(self, graph: str, given: Array) -> UInt8Array:
        """Return ``given``, a contiguous copy if need be; see ``Indexing.indexes``."""
        indexes: UInt8Array = np.ascontiguousarray(given, dtype=np.uint8)
        largest = int(indexes.max(initial=0))
        if largest >= self._num_rows:
            raise BackendError(f"graph {graph}: table index {largest}; expected 0 to {self._num_rows - 1}")
        return indexes

    def writer(self) -> IndexWriter:
        """See ``Indexing.writer``."""
        return _CheckWriter()

    def reader(self, checks: bytes, step_sizes: Sequence[int], where: str) -> IndexReader:
        """See ``Indexing.reader``."""
        return _CheckReader(self, int.from_bytes(checks, "little"), where)


class _CheckWriter:
    """Makes the contents of ``CHCK``."""

    def __init__(self) -> None:
        self._all = 0

    def add(self, indexes: UInt8Array) -> None:
        self._all = zlib.crc32(indexes.data, self._all)

    def finish(self) -> bytes:
        return self._all.to_bytes(4, "little")


class _CheckReader:
    """Takes this engine's indexes for the encoder's, and finds out at the end whether they were."""

    def __init__(self, indexing: ExactIndexing, expected: int, where: str) -> None:
        self._indexing = indexing
        self._expected = expected
        self._where = where
        self._all = 0
        self.agreed = True
        self.cost = 0.0
        self.next_cost: float | None = None
        self.changes: tuple[Change, ...] = ()

    def read(self, graph: str, given: Array, pick: int) -> UInt8Array:
        assert pick == 0
        indexes = self._indexing.indexes(graph, given)
        self._all = zlib.crc32(indexes.data, self._all)
        return indexes

    def finish(self) -> None:
        if self._all != self._expected:
            raise EngineMismatchError(
                "the table indexes differ from the encoder's: this engine's integer arithmetic is not the encoder's, "
                f"or the file is damaged ({self._where})"
            )

    def blame(self, failure: MlicError) -> MlicError:
        # Whether an index differed shows at the end alone, and the engine has proved itself: the file is to blame.
        return failure
