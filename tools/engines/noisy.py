"""An engine with artificial noise on its scales: what a machine would be whose rounding differs more than any seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mlic.runtime.arrays import Array, Float32Array, Tensors
from mlic.runtime.backends.base import Backend, Graph
from mlic.runtime.manifest import GraphFile, GraphSpec

Change = Callable[[Float32Array], Float32Array]


class ChangedScales:
    """Opens graphs with another engine and puts the scales of every step through a function.

    Args:
        inner: the engine.
        change: takes and gives float32 of one shape.

    Attributes:
        visits: how often steps have run.
    """

    def __init__(self, inner: Backend, change: Change) -> None:
        self._inner = inner
        self._change = change
        self.visits = 0

    @property
    def name(self) -> str:
        """The inner engine's name."""
        return self._inner.name

    @property
    def granted(self) -> str:
        """What the inner engine granted."""
        return f"{self._inner.granted}, scales changed"

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open a graph; see ``Backend.open``."""
        opened = self._inner.open(path, graph)
        if not graph.spec.name.startswith("step_"):
            return opened
        return _Changed(opened, graph.spec.name.replace("step", "scales"), self)

    def changed(self, scales: Array) -> Array:
        """Return scales as this engine gives them, and count a visit."""
        self.visits += 1
        return self._change(np.asarray(scales)).astype(np.float32)  # they may lie on a device


class _Changed:
    def __init__(self, inner: Graph, name: str, backend: ChangedScales) -> None:
        self._inner = inner
        self._name = name
        self._backend = backend

    @property
    def spec(self) -> GraphSpec:
        return self._inner.spec

    def run(self, inputs: Tensors) -> dict[str, Array]:
        outputs = self._inner.run(inputs)
        return outputs | {self._name: self._backend.changed(outputs[self._name])}
