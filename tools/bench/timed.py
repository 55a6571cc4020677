"""A backend that measures how long each graph of another one runs."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import cast

from mlic.runtime.arrays import Array, Tensors
from mlic.runtime.backends.base import Backend, Graph, chain_engine
from mlic.runtime.device.array import DeviceArray
from mlic.runtime.manifest import GraphFile, GraphSpec


class TimedBackend:
    """Opens graphs with ``inner`` and adds up the seconds of their runs.

    Attributes:
        seconds: by graph name, since the last ``reset``.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @property
    def name(self) -> str:
        """The inner backend's name."""
        return self._inner.name

    @property
    def granted(self) -> str:
        """What the inner backend granted."""
        return self._inner.granted

    def chain_engine(self) -> Backend:
        """Return what runs the entropy path of integer bundles, measured likewise; see ``ChoosesChainEngine``."""
        other = TimedBackend(chain_engine(self._inner))
        other.seconds = self.seconds
        return other

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open a graph; see ``Backend.open``."""
        return _TimedGraph(self._inner.open(path, graph), self.seconds)

    def reset(self) -> None:
        """Forget what was measured."""
        self.seconds.clear()


class _TimedGraph:
    def __init__(self, inner: Graph, seconds: defaultdict[str, float]) -> None:
        self._inner = inner
        self._seconds = seconds

    @property
    def spec(self) -> GraphSpec:
        return self._inner.spec

    def run(self, inputs: Tensors) -> dict[str, Array]:
        start = time.perf_counter()
        outputs = self._inner.run(inputs)
        for array in outputs.values():
            if isinstance(cast(object, array), DeviceArray):
                cast(DeviceArray, array).wait()  # until then, the graph may not even have begun
        self._seconds[self.spec.name] += time.perf_counter() - start
        return outputs
