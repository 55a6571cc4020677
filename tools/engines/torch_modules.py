"""PyTorch as an engine: the modules that graphs are traced from, in float32 or float64."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path

import torch

from mlic.export.checkpoints import Checkpoint
from mlic.export.split.base import Split, Subgraph
from mlic.runtime.arrays import Array, Tensors
from mlic.runtime.backends.base import Graph
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import GraphFile, GraphSpec


class TorchBackend:
    """Runs the modules of a checkpoint in place of its bundle's graphs.

    Args:
        split: the model, cut as the export cuts it.
        dtype: float32, or float64 as the reference that rounds 2^29 times finer.
        onednn: whether PyTorch may use oneDNN; its own kernels are another implementation.
    """

    name = "torch"

    def __init__(self, split: Split, dtype: torch.dtype = torch.float32, onednn: bool = True) -> None:
        self._subgraphs = {subgraph.spec.name: subgraph for subgraph in split.subgraphs}
        self._dtype = dtype
        self._onednn = onednn

    @classmethod
    def of(cls, checkpoint: Checkpoint, dtype: torch.dtype = torch.float32, onednn: bool = True) -> TorchBackend:
        """Return an engine for a checkpoint."""
        return cls(checkpoint.architecture.split(checkpoint.model), dtype, onednn)

    @property
    def granted(self) -> str:
        """Version, precision, kernels."""
        kernels = "with oneDNN" if self._onednn else "without oneDNN"
        return f"torch {torch.__version__}, {str(self._dtype).removeprefix('torch.')}, {kernels}"

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Return the module of this name; ``path`` is not read."""
        subgraph = self._subgraphs.get(graph.spec.name)
        if subgraph is None:
            raise BackendError(f"graph {graph.spec.name}: the checkpoint's model has none of this name")
        module = copy.deepcopy(subgraph.module).to(self._dtype) if self._dtype != torch.float32 else subgraph.module
        return _Module(graph.spec, Subgraph(subgraph.spec, module), self._dtype, self._onednn)


class _Module:
    def __init__(self, spec: GraphSpec, subgraph: Subgraph, dtype: torch.dtype, onednn: bool) -> None:
        self.spec = spec
        self._subgraph = subgraph
        self._dtype = dtype
        self._onednn = onednn

    def run(self, inputs: Tensors) -> dict[str, Array]:
        state = {name: self._tensor(inputs[name]) for name in self.spec.inputs}
        kernels = nullcontext() if self._onednn else torch.backends.mkldnn.flags(enabled=False, allow_tf32=None)
        with torch.inference_mode(), kernels:
            self._subgraph.run(state)
        return {name: state[name].numpy().astype(tensor.dtype) for name, tensor in self.spec.outputs.items()}

    def _tensor(self, array: Array) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor
