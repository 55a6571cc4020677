"""Coders that keep what passes through the walk: a tracer of another coder, and one that replays known symbols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlic.runtime.arrays import Array, Float32Array, Int32Array, UInt8Array
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.manifest import StepSpec
from mlic.runtime.walk import Coder


class SymbolTracer:
    """Passes everything on to another coder and keeps a copy.

    Attributes:
        scales: float32, one array a step.
        means: float32.
        indexes: uint8.
        symbols: int32.
    """

    def __init__(self, coder: Coder, entropy: EntropyModel) -> None:
        self._coder = coder
        self._entropy = entropy
        self.scales: list[Float32Array] = []
        self.means: list[Float32Array] = []
        self.indexes: list[UInt8Array] = []
        self.symbols: list[Int32Array] = []

    def code(
        self, step: StepSpec, scales: Float32Array, means: Float32Array, part: Float32Array | None
    ) -> Float32Array:
        """Code one step with the other coder; see ``Coder.code``."""
        symbols = self._coder.code(step, scales, means, part)
        self.scales.append(scales)
        self.means.append(np.asarray(means))
        self.indexes.append(self._entropy.build_indexes(scales))
        self.symbols.append(symbols.astype(np.int32))
        return symbols


class SymbolReplayer:
    """Hands out symbols that are known and keeps the scales, so that engines can be compared on one picture.

    Args:
        symbols: whole numbers of any dtype, one array a step.

    Attributes:
        scales: float32, one array a step.
    """

    def __init__(self, symbols: Sequence[Array]) -> None:
        self._symbols = iter(symbols)
        self.scales: list[Float32Array] = []

    def code(
        self, step: StepSpec, scales: Float32Array, means: Float32Array, part: Float32Array | None
    ) -> Float32Array:
        """Keep the scales and return the next symbols; see ``Coder.code``."""
        self.scales.append(scales)
        return next(self._symbols).astype(np.float32)
