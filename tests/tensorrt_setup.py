"""A codec on TensorRT on a device made of numpy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from mlic.runtime import Codec
from mlic.runtime.backends import Graph
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.backends.tensorrt import TensorRtBackend
from mlic.runtime.backends.tensorrt_flavour import Flavour
from mlic.runtime.bundle import Bundle
from mlic.runtime.graph_bytes import read_graph
from mlic.runtime.manifest import GraphFile
from tests.fake_device import FakeDevice
from tests.fake_tensorrt import MAGIC, fake_flavour

HEIGHT, WIDTH = 128, 192


def plan_of(path: Path, graph: GraphFile, flavour: Flavour, device: str) -> bytes:
    assert device == FakeDevice.name
    return MAGIC + read_graph(path, graph.spec.name)


class Setup:
    """A backend and what is under it."""

    def __init__(self, folder: Path, rtx: bool = False, capturable: bool = True, **options: Any) -> None:
        self.device = FakeDevice()
        self.flavour = fake_flavour(self.device, rtx)
        self.flavour.module.capturable = capturable
        self.backend = TensorRtBackend(
            device=self.device, flavour=self.flavour, **({"plans": plan_of, "cuda_graphs": True} | options)
        )
        self.bundle = Bundle.open(folder)
        self.codec = Codec(self.bundle, self.backend)

    @property
    def contexts(self) -> list[Any]:
        """The engine's execution contexts, in the order in which they were made."""
        return [context() for context in self.flavour.module.contexts]

    def open(self, name: str, **changes: Any) -> Graph:
        """Open a graph as if the manifest had it with changes."""
        graph = self.bundle.manifest.graphs[name]
        graph = dataclasses.replace(graph, spec=dataclasses.replace(graph.spec, **changes))
        return self.backend.open(self.bundle.path_of(graph), graph)

    def bytes_of_latent(self) -> int:
        """Return how many bytes y has, for a picture of the tests' size."""
        return 4 * int(np.prod(self.bundle.manifest.graphs["g_a"].spec.outputs["y"].concrete(HEIGHT, WIDTH)))

    def bytes_of(self, kind: str) -> int:
        """Return how many bytes the chain's arrays of one kind have, for a picture of the tests' size."""
        specs = self.bundle.manifest.graphs["h_a"].spec
        sizes = {"z_symbols": specs.outputs["z_symbols"], "y": specs.inputs["y"]}
        for step in self.bundle.manifest.steps:
            sizes |= self.bundle.manifest.graphs[step.graph].spec.outputs
        names = {
            "scales": [step.scales for step in self.bundle.manifest.steps],
            "means": [step.means for step in self.bundle.manifest.steps],
            "symbols": [step.scales for step in self.bundle.manifest.steps],  # of the same shape
        }.get(kind, [kind])
        return sum(4 * int(np.prod(sizes[name].concrete(HEIGHT, WIDTH))) for name in names)


def opened_on_cpu(setup: Setup, name: str) -> Graph:
    """Open the same graph on ONNX Runtime."""
    graph = setup.bundle.manifest.graphs[name]
    return OnnxRuntimeBackend(1).open(setup.bundle.path_of(graph), graph)
