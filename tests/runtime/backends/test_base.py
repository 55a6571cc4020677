"""What is the same for all engines, against an engine made of Python."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mlic.runtime.backends import LazyGraph, open_backend
from mlic.runtime.backends.base import check_arrays
from mlic.runtime.choices import BACKENDS
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import GraphFile, GraphSpec, TensorSpec

SPEC = GraphSpec(
    "step_03",
    {"a": TensorSpec("float32", (1, 2, "height/16", "width/32"))},
    {"b": TensorSpec("int64", ("height/64", "width/64"))},
    exact=True,
)


class FakeBackend:
    """Returns what it is told to, and counts how often it opened a graph."""

    name = "fake"
    granted = "fake 1"

    def __init__(self, result):
        self.result = result
        self.opened = 0

    def open(self, path, graph):
        self.opened += 1
        self.spec = graph.spec
        return self

    def run(self, inputs):
        self.seen = dict(inputs)
        return {"b": self.result}


def lazy(result):
    backend = FakeBackend(result)
    return LazyGraph(backend, Path("x.onnx"), GraphFile(SPEC, "x.onnx", "", "fp32")), backend


GOOD_INPUT = np.zeros((1, 2, 8, 6), np.float32)
GOOD_OUTPUT = np.zeros((2, 3), np.int64)


def test_a_graph_is_opened_once_when_first_run():
    graph, backend = lazy(GOOD_OUTPUT)
    assert (backend.opened, graph.is_open) == (0, False)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: graph.run({"a": GOOD_INPUT}), range(16)))
    assert (backend.opened, graph.is_open) == (1, True)


def test_a_graph_sees_its_inputs_only():
    graph, backend = lazy(GOOD_OUTPUT)
    graph.run({"a": GOOD_INPUT, "other": GOOD_INPUT})
    assert set(backend.seen) == {"a"}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (GOOD_INPUT.astype(np.float16), "input a is float16"),
        (GOOD_INPUT[0], r"input a is float32 \[2, 8, 6\]"),
        (GOOD_INPUT[:, :1], r"input a is float32 \[1, 1, 8, 6\]; expected float32 \[1, 2, height/16, width/32\]"),
    ],
)
def test_wrong_inputs_are_named(array, message):
    graph, _ = lazy(GOOD_OUTPUT)
    with pytest.raises(BackendError, match="graph step_03: " + message):
        graph.run({"a": array})


@pytest.mark.parametrize("result", [GOOD_OUTPUT[:1], GOOD_OUTPUT.astype(np.int32), GOOD_OUTPUT[None]])
def test_wrong_outputs_are_named(result):
    graph, _ = lazy(result)
    with pytest.raises(BackendError, match=r"output b is .*; expected int64 .* with height 128, width 192"):
        graph.run({"a": GOOD_INPUT})


def test_all_arrays_mean_the_same_picture():
    specs = {"a": TensorSpec("uint8", ("height/16",)), "b": TensorSpec("uint8", ("height/64",))}
    arrays = {"a": np.zeros(4, np.uint8), "b": np.zeros(2, np.uint8)}
    with pytest.raises(BackendError, match=r"input b is uint8 \[2\]; expected uint8 \[height/64\] with height 64"):
        check_arrays("g", "input", arrays, specs, {})


def test_an_unknown_engine_lists_the_known():
    with pytest.raises(BackendError, match=f"'abacus' is unknown; possible: {', '.join(BACKENDS)}"):
        open_backend("abacus")
