"""Table indexes in ``float32-syndrome``: made of scales, and by a decoder corrected where its engine disagrees."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from mlic.runtime.arithmetic import FLOAT32_SYNDROME
from mlic.runtime.arrays import Array, Float32Array, UInt8Array
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.errors import BackendError, EngineMismatchError, MlicError
from mlic.runtime.indexing import IndexReader, IndexWriter
from mlic.runtime.syndrome import Change, SyndromeReader, SyndromeWriter


class RepairedIndexing:
    """Indexes by the scale table, with checksums.

    Args:
        entropy: of the model.
    """

    arithmetic = FLOAT32_SYNDROME
    repairs = True

    def __init__(self, entropy: EntropyModel) -> None:
        self._entropy = entropy

    def indexes(self, graph: str, given: Float32Array) -> UInt8Array:
        """Return the rows of scales; see ``Indexing.indexes``."""
        require_finite(graph, scales=given)
        return self._entropy.build_indexes(given)

    def writer(self) -> IndexWriter:
        """See ``Indexing.writer``."""
        return SyndromeWriter()

    def reader(self, checks: bytes, step_sizes: Sequence[int], where: str) -> IndexReader:
        """See ``Indexing.reader``."""
        return _RepairingReader(self, SyndromeReader(checks, step_sizes, self._entropy.scale_table), where)


class _RepairingReader:
    """Makes sure that the indexes are the encoder's before a symbol is taken; see ``IndexReader``."""

    def __init__(self, indexing: RepairedIndexing, syndromes: SyndromeReader, where: str) -> None:
        self._indexing = indexing
        self._syndromes = syndromes
        self._where = where
        self._step = 0
        self._checksum = 0
        self._suspect: str | None = None  # what differed first since the last step that agreed
        self.agreed = True
        self.cost = 0.0
        self.next_cost: float | None = None
        self.changes: tuple[Change, ...] = ()

    def read(self, graph: str, given: Float32Array, pick: int) -> UInt8Array:
        indexes = self._encoder_indexes(graph, given, pick)
        self._checksum = zlib.crc32(indexes.data, self._checksum)
        self._step += 1
        return indexes

    def finish(self) -> None:
        if not self._syndromes.all_agree(self._checksum):
            raise self._mismatch("the whole picture: the scale indexes differ from the encoder's")

    def blame(self, failure: MlicError) -> MlicError:
        """Return an error that names the first step of those that differed, if the last before the failure did."""
        if self._suspect is None or isinstance(failure, EngineMismatchError):
            return failure
        mismatch = self._mismatch(self._suspect)
        mismatch.__cause__ = failure
        return mismatch

    def _encoder_indexes(self, graph: str, scales: Float32Array, pick: int) -> UInt8Array:
        indexes = self._indexing.indexes(graph, scales)
        wrong = self._syndromes.wrong_chunks(self._step, indexes)
        self.agreed = not wrong and not pick
        self.next_cost = None
        if self.agreed:
            self._suspect = None
            return indexes
        if wrong and self._suspect is None:
            count = self._syndromes.count(self._step)
            self._suspect = f"{graph}: {len(wrong)} of {count} chunks of scale indexes differ from the encoder's"
        reading = self._syndromes.reading(self._step, graph, indexes, scales, wrong, pick)
        if reading is None:
            raise self._mismatch(self._suspect or f"{graph}: no other reading of the scale indexes")
        if reading.next_cost is not None:
            self.next_cost = self.cost + reading.next_cost
        self.cost += reading.cost
        self.changes += reading.changes
        return reading.indexes

    def _mismatch(self, what: str) -> EngineMismatchError:
        return EngineMismatchError(f"{what} beyond repair ({self._where})")


def require_finite(graph: str, **arrays: Array) -> None:
    """Check what a graph gave, by the name that errors have for it.

    Raises:
        BackendError: a value is NaN or infinite.
    """
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise BackendError(f"graph {graph}: {name} hold NaN or infinite values")
