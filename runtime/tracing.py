"""The walk with everything on the way kept, and with symbols that are known: for tests and for comparing engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlic.runtime.arrays import Array, Float32Array, Int32Array, UInt8Array
from mlic.runtime.chain import Chain
from mlic.runtime.coder import SymbolEncoder
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.manifest import StepSpec
from mlic.runtime.walk import Coder, walk


def trace(chain: Chain, y: Float32Array, z_symbols: Float32Array) -> dict[str, Any]:
    """Encode latents and keep everything on the way; see ``Codec.trace``."""
    coder = SymbolEncoder(chain.models)
    tracer = SymbolTracer(coder, chain.bundle.entropy)
    state = walk(chain.steps, tracer, chain.begin(coder.code_z(z_symbols)), y)
    return {
        "y": y,
        "z_symbols": z_symbols.astype(np.int32),
        "scales": tracer.scales,
        "means": tracer.means,
        "indexes": tracer.indexes,
        "symbols": tracer.symbols,
        "y_hat": np.asarray(chain.finish(state)),
    }


def replay(chain: Chain, z_symbols: Array, symbols: Sequence[Array]) -> list[Float32Array]:
    """Run the chain with symbols that are known and return the scales; see ``Codec.replay``."""
    coder = SymbolReplayer(symbols)
    walk(chain.steps, coder, chain.begin(z_symbols.astype(np.float32)))
    return coder.scales


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
