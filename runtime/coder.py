"""The two directions of the entropy coder as the walk sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import numpy as np

from mlic.runtime.ans import AnsDecoder, AnsEncoder, RowModels
from mlic.runtime.arithmetic import FLOAT32_SYNDROME, INTEGER
from mlic.runtime.arrays import Array, Float32Array
from mlic.runtime.container import Bitstream
from mlic.runtime.entropy_model import PRECISION_BITS, EntropyModel, integers_from_floats, quantize
from mlic.runtime.errors import CorruptStreamError, MlicError
from mlic.runtime.escape import MAX_BITS, EscapeReader, EscapeWriter
from mlic.runtime.indexing import ExactIndexing, Indexing
from mlic.runtime.manifest import StepSpec
from mlic.runtime.repaired_indexes import RepairedIndexing, require_finite
from mlic.runtime.syndrome import Change

# A symbol takes 24 bits at most, at frequency 1, and rounding in the coder's state far less than one more.
MAX_SYMBOL_BITS = PRECISION_BITS + 1


class Models:
    """What all coders of a codec share.

    Args:
        entropy: the tables.
        arithmetic: by which indexes come about, a name of ``arithmetic.ARITHMETICS``.

    Attributes:
        entropy: as given.
        y: constriction's models of the rows of y.
        z: of those of z.
        indexing: how indexes come about.
    """

    def __init__(self, entropy: EntropyModel, arithmetic: str = FLOAT32_SYNDROME.name) -> None:
        self.entropy = entropy
        exact = arithmetic == INTEGER.name
        self.indexing: Indexing = ExactIndexing(len(entropy.y)) if exact else RepairedIndexing(entropy)
        self.y = RowModels(entropy.y)
        self.z = RowModels(entropy.z)


class Substreams(NamedTuple):
    """What an encoder leaves, as the file stores it."""

    latents: bytes
    escapes: bytes
    checks: bytes


class SymbolEncoder:
    """Rounds and collects symbols; ``finish`` writes them."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._ans = AnsEncoder()
        self._escapes = EscapeWriter()
        self._checks = models.indexing.writer()

    def code_z(self, z_symbols: Float32Array) -> Float32Array:
        """Encode z; call it first.

        Args:
            z_symbols: float32 [1, N, H, W], whole numbers.

        Returns:
            The same without negative zeros: exactly what the decoder returns.

        Raises:
            BackendError: a value is not a whole number that can be coded.
        """
        symbols = integers_from_floats(z_symbols, "graph h_a")
        rows = _channel_rows(z_symbols.shape)
        slots, raws = self._models.entropy.z.slots_from_symbols(symbols.reshape(-1), rows)
        self._ans.add(self._models.z, slots, rows)
        self._escapes.add(raws)
        return symbols.astype(np.float32)

    def code(self, step: StepSpec, given: Array, means: Float32Array, part: Float32Array | None) -> Float32Array:
        """Encode one step; see ``Coder.code``.

        Raises:
            BackendError: scales or means are not finite, an index is beyond the tables, or a symbol is too large to be
                coded.
        """
        assert part is not None
        means = np.asarray(means)
        if not np.isfinite(means).all():
            require_finite(step.graph, means=means)
        indexes = self._models.indexing.indexes(step.graph, given)
        symbols = quantize(part, means, f"graph {step.graph}")
        rows = indexes.reshape(-1)
        slots, raws = self._models.entropy.y.slots_from_symbols(symbols.reshape(-1), rows)
        self._ans.add(self._models.y, slots, rows)
        self._escapes.add(raws)
        self._checks.add(indexes)
        return symbols.astype(np.float32)

    def finish(self) -> Substreams:
        """Return everything coded."""
        words = self._ans.finish()
        return Substreams(words.astype("<u4").tobytes(), self._escapes.finish(), self._checks.finish())


class SymbolDecoder:
    """Takes symbols from a file, after it has made sure that the indexes are the encoder's.

    Args:
        models: of the bundle that wrote the file.
        stream: the file.
        step_sizes: number of symbols of each step, in coding order.
        engine: what runs the graphs, for errors.

    Attributes:
        pick: which reading of the next step's indexes to take: 0 for the likeliest, which is this engine's own where
            the checksums agree.
        agreed: whether the last step's indexes were taken as this engine made them.
        cost: negative natural logarithm of the likelihood of all readings so far.
        next_cost: what ``cost`` would be with the next reading of the last step; None if none is known.
        changes: indexes in which this engine differed from the encoder, so far.

    Raises:
        CorruptStreamError: the file's parts do not fit the steps.
        UnsupportedStreamError: it uses another checksum of indexes.
    """

    def __init__(self, models: Models, stream: Bitstream, step_sizes: Sequence[int], engine: str) -> None:
        self._models = models
        where = f"engine {engine}, arithmetic {stream.arithmetic}"
        self._indexes = models.indexing.reader(stream.checks, step_sizes, where)
        self._ans = AnsDecoder(np.frombuffer(stream.latents, dtype="<u4").astype(np.uint32))
        self._stream = stream
        self._num_symbols = sum(step_sizes)  # of the steps; those of z come to it
        self._escapes = EscapeReader(b"")  # that of the file once its size is known to be possible
        self.pick = 0
        self.agreed, self.cost = self._indexes.agreed, self._indexes.cost
        self.next_cost: float | None = self._indexes.next_cost
        self.changes: tuple[Change, ...] = self._indexes.changes

    def fork(self) -> SymbolDecoder:
        """Return a decoder that goes on from here on its own."""
        other = copy(self)
        other._ans = self._ans.fork()
        other._escapes = copy(self._escapes)
        other._indexes = copy(self._indexes)
        return other

    def code_z(self, shape: tuple[int, ...]) -> Float32Array:
        """Decode z; call it first.

        Args:
            shape: [1, N, H, W].

        Returns:
            float32 of this shape, whole numbers.

        Raises:
            CorruptStreamError: an escaped value is impossible, or the file holds more than its symbols can take.
        """
        symbols_in_all = self._num_symbols + math.prod(shape)
        _require_at_most("LATS", self._stream.latents, MAX_SYMBOL_BITS * symbols_in_all)
        _require_at_most("ESCP", self._stream.escapes, MAX_BITS * symbols_in_all)
        self._escapes = EscapeReader(self._stream.escapes)
        rows = _channel_rows(shape)
        slots = self._ans.take(self._models.z, rows)
        symbols = self._models.entropy.z.symbols_from_slots(slots, rows, self._escapes.take)
        return symbols.reshape(shape).astype(np.float32)

    def code(self, step: StepSpec, given: Array, means: Float32Array, part: Float32Array | None) -> Float32Array:
        """Decode one step; see ``Coder.code``.

        Raises:
            BackendError: scales are not finite, or an index is beyond the tables.
            EngineMismatchError: the indexes are not the encoder's, and there is no reading ``pick``.
            CorruptStreamError: an escaped value is impossible.
        """
        assert part is None
        reader = self._indexes
        indexes = reader.read(step.graph, given, self.pick)
        self.agreed, self.cost, self.next_cost = reader.agreed, reader.cost, reader.next_cost
        self.changes = reader.changes
        rows = indexes.reshape(-1)
        slots = self._ans.take(self._models.y, rows)
        symbols = self._models.entropy.y.symbols_from_slots(slots, rows, self._escapes.take)
        return symbols.reshape(given.shape).astype(np.float32)

    def finish(self) -> None:
        """Check that everything was used up and all indexes agree.

        Raises:
            CorruptStreamError: symbols or escapes are left over.
            EngineMismatchError: the indexes as a whole are not the encoder's.
        """
        self._indexes.finish()
        self._ans.finish()
        self._escapes.finish()

    def blame(self, failure: MlicError) -> MlicError:
        """Return the error to report if nothing else leads further.

        Args:
            failure: what ended the walk.

        Returns:
            An EngineMismatchError that names the first step of those that differed, if the last steps before the
            failure did; otherwise ``failure``.
        """
        return self._indexes.blame(failure)


def _channel_rows(shape: tuple[int, ...]) -> Array:
    """Return the table row of each element of z: its channel."""
    _, channels, height, width = shape
    return np.repeat(np.arange(channels, dtype=np.uint16), height * width)


def _require_at_most(name: str, data: bytes, bits: int) -> None:
    """Check the size of a part of the file; 8 bytes are the final state of the coder, or what fills the last byte."""
    most = bits // 8 + 8
    if len(data) > most:
        raise CorruptStreamError(f"{name} has {len(data)} bytes; the symbols of this picture take at most {most}")
