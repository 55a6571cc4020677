"""The walk with everything on the way kept, and with symbols that are known: for tests and for comparing engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlic.runtime.arrays import Array, Float32Array, Int32Array, UInt8Array
from mlic.runtime.chain import Chain
from mlic.runtime.coder import SymbolEncoder
from mlic.runtime.indexing import Indexing
from mlic.runtime.manifest import StepSpec
from mlic.runtime.walk import Coder, walk


def trace(chain: Chain, y: Float32Array, z_symbols: Float32Array) -> dict[str, Any]:
    """Encode latents and keep everything on the way; see ``Codec.trace``."""
    coder = SymbolEncoder(chain.models)
    indexing = chain.models.indexing
    tracer = SymbolTracer(coder, indexing)
    state = walk(chain.steps, tracer, chain.begin(coder.code_z(z_symbols)), y)
    return {
        "y": y,
        "z_symbols": z_symbols.astype(np.int32),
        indexing.arithmetic.given: tracer.given,
        "means": tracer.means,
        "indexes": tracer.indexes,
        "symbols": tracer.symbols,
        "y_hat": np.asarray(chain.finish(state)),
    }


def replay(chain: Chain, z_symbols: Array, symbols: Sequence[Array]) -> list[Array]:
    """Run the chain with symbols that are known and return the scales or indexes; see ``Codec.replay``."""
    coder = SymbolReplayer(symbols)
    walk(chain.steps, coder, chain.begin(z_symbols.astype(np.float32)))
    return coder.given


class SymbolTracer:
    """Passes everything on to another coder and keeps a copy.

    Attributes:
        given: what the steps gave beside means, one array a step: float32 scales, or uint8 indexes.
        means: float32.
        indexes: uint8.
        symbols: int32.
    """

    def __init__(self, coder: Coder, indexing: Indexing) -> None:
        self._coder = coder
        self._indexing = indexing
        self.given: list[Array] = []
        self.means: list[Float32Array] = []
        self.indexes: list[UInt8Array] = []
        self.symbols: list[Int32Array] = []

    def code(self, step: StepSpec, given: Array, means: Float32Array, part: Float32Array | None) -> Float32Array:
        """Code one step with the other coder; see ``Coder.code``."""
        symbols = self._coder.code(step, given, means, part)
        self.given.append(given)
        self.means.append(np.asarray(means))
        self.indexes.append(self._indexing.indexes(step.graph, given))
        self.symbols.append(symbols.astype(np.int32))
        return symbols


class SymbolReplayer:
    """Hands out symbols that are known and keeps what the steps give, so that engines can be compared on one picture.

    Args:
        symbols: whole numbers of any dtype, one array a step.

    Attributes:
        given: one array a step: float32 scales, or uint8 indexes.
    """

    def __init__(self, symbols: Sequence[Array]) -> None:
        self._symbols = iter(symbols)
        self.given: list[Array] = []

    def code(self, step: StepSpec, given: Array, means: Float32Array, part: Float32Array | None) -> Float32Array:
        """Keep what was given and return the next symbols; see ``Coder.code``."""
        self.given.append(given)
        return next(self._symbols).astype(np.float32)
