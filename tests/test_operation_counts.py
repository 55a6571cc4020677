"""What one picture costs, counted instead of timed: engine calls, bytes copied, nodes, calls within the package.

The numbers are those of the models that ship. A change that raises one has to be worth it; one that lowers it may lower
the limit here.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import mlic.runtime
from mlic.runtime import Codec
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.manifest import GraphFile
from mlic.runtime.shipped import shipped_bundle

STEPS = 12
SIZE = (128, 192)
PACKAGE = str(Path(mlic.runtime.__file__).parent)


class CountingBackend(OnnxRuntimeBackend):
    """Counts runs, bytes of arrays that go in and out, and those that had to be copied on the way in."""

    def __init__(self):
        super().__init__(threads=1)
        self.runs, self.taken, self.copied, self.given = Counter(), Counter(), Counter(), Counter()

    def open(self, path, graph):
        return _CountingGraph(super().open(path, graph), self)


class _CountingGraph:
    def __init__(self, inner, counts):
        self.inner, self.counts, self.spec = inner, counts, inner.spec

    def run(self, inputs):
        name, counts = self.spec.name, self.counts
        counts.runs[name] += 1
        for array in (inputs[key] for key in self.spec.inputs):
            counts.taken[name] += array.nbytes
            counts.copied[name] += 0 if array.flags.c_contiguous else array.nbytes
        outputs = self.inner.run(inputs)
        counts.given[name] += sum(array.nbytes for array in outputs.values())
        return outputs


@pytest.fixture(scope="module")
def pixels(make_photo):
    return make_photo(*SIZE)


@pytest.fixture(scope="module")
def counted(pixels) -> dict[str, CountingBackend]:
    """One encode and one decode, each with a backend of its own."""
    backends = {"encode": CountingBackend(), "decode": CountingBackend()}
    data = Codec.load(backend=backends["encode"]).encode(pixels)
    Codec.load(backend=backends["decode"]).decode(data)
    return backends


def test_every_graph_runs_once_a_picture(counted):
    steps = [f"step_{number:02}" for number in range(STEPS)]
    assert counted["encode"].runs == Counter(["g_a", "h_a", "h_s", *steps])
    assert counted["decode"].runs == Counter(["h_s", *steps, "finish", "g_s"])


def test_no_array_is_copied_before_a_graph_takes_it(counted):
    for backend in counted.values():
        assert sum(backend.copied.values()) == 0


def test_bytes_that_the_steps_exchange_for_each_position_of_the_latent(counted):
    """Twelve steps of six slices; per position, so that the size of the picture does not matter."""
    positions = SIZE[0] // 16 * (SIZE[1] // 16)
    chain = ["h_s", *(f"step_{number:02}" for number in range(STEPS))]
    backend = counted["decode"]
    assert sum(backend.given[name] for name in chain) / positions <= 7_566
    assert sum(backend.taken[name] for name in chain) / positions <= 27_272


def test_nodes_of_the_graphs():
    bundle = Bundle.open(shipped_bundle())

    def computing(file: GraphFile) -> int:
        """Count the nodes that remain once constants are folded."""
        graph = onnx.load_from_string(bundle.read_graph(file)).graph
        constant = {tensor.name for tensor in graph.initializer}
        count = 0
        for node in graph.node:
            if all(name in constant for name in node.input if name):
                constant.update(node.output)
            else:
                count += 1
        return count

    counts = {name: computing(file) for name, file in bundle.manifest.graphs.items()}
    later_steps = {kind: [counts[f"step_{n:02}"] for n in range(2 + kind, STEPS, 2)] for kind in (0, 1)}
    assert max(later_steps[0]) <= 64
    assert max(later_steps[1]) <= 142
    limits = {"g_a": 43, "h_a": 11, "h_s": 71, "step_00": 9, "step_01": 105, "finish": 15, "g_s": 111}
    assert {name: counts[name] for name, limit in limits.items() if counts[name] > limit} == {}


def test_calls_within_the_runtime(pixels):
    """Python's own work grows with the number of steps, not with the picture."""
    codec = Codec.load(threads=1)
    larger = np.tile(pixels, (2, 2, 1))
    for picture in (pixels, larger):
        data = codec.encode(picture)
        codec.decode(data)  # graphs are open now
        assert calls_in_package(codec.encode, picture) <= 1_240
        assert calls_in_package(codec.decode, data) <= 1_400  # five of them a step, to be able to come back to it


def calls_in_package(function, argument) -> int:
    """Return how many Python functions of the runtime a call enters."""
    count = 0

    def profile(frame, event, _):
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(PACKAGE)

    sys.setprofile(profile)
    try:
        function(argument)
    finally:
        sys.setprofile(None)
    return count
