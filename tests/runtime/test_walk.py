"""The walk, with graphs and coders made of Python."""

import numpy as np
import pytest

from mlic.runtime.manifest import GraphSpec, StepSpec, TensorSpec
from mlic.runtime.walk import State, Step, needed_after, walk

ANY = TensorSpec("float32", (1,))


class FakeGraph:
    """Gives 1 for every output and notes what it was given."""

    def __init__(self, name, inputs, outputs):
        self.spec = GraphSpec(name, dict.fromkeys(inputs, ANY), dict.fromkeys(outputs, ANY), True)

    def run(self, inputs):
        self.seen = sorted(inputs)
        self.values = {name: inputs[name] for name in self.spec.inputs}
        return {name: np.ones((1, 1, 2, 1), np.float32) for name in self.spec.outputs}


class FakeCoder:
    def __init__(self):
        self.calls = []

    def code(self, step, scales, means, part):
        self.calls.append((step.graph, None if part is None else part.tolist()))
        return np.full(scales.shape, len(self.calls), np.float32)


@pytest.fixture
def graphs():
    return [
        FakeGraph("h_s", ["z_symbols"], ["hyper", "once"]),
        FakeGraph("step_00", ["hyper", "once"], ["scales_00", "means_00"]),
        FakeGraph("step_01", ["hyper", "symbols_00", "means_00"], ["scales_01", "means_01", "unused", "late"]),
        FakeGraph("finish", ["symbols_01", "late"], ["y_hat"]),
    ]


@pytest.fixture
def steps(graphs):
    return [
        Step(StepSpec("step_00", (0, 1), "anchor"), graphs[1]),
        Step(StepSpec("step_01", (0, 1), "nonanchor"), graphs[2]),
    ]


def begin(graphs):
    state = State([graph.spec for graph in graphs], {"z_symbols": np.zeros(1)})
    state.run(graphs[0])
    return state


def test_needed_arrays_are_those_that_later_graphs_take(graphs):
    assert [sorted(names) for names in needed_after([graph.spec for graph in graphs])] == [
        ["hyper", "late", "means_00", "once", "symbols_00", "symbols_01"],
        ["hyper", "late", "means_00", "symbols_00", "symbols_01"],
        ["late", "symbols_01"],
        [],
    ]


def test_decoding_visits_the_steps_in_order_without_y(graphs, steps):
    coder = FakeCoder()
    walk(steps, coder, begin(graphs))
    assert coder.calls == [("step_00", None), ("step_01", None)]


def test_encoding_hands_over_each_steps_part_of_y(graphs, steps):
    coder = FakeCoder()
    y = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    walk(steps, coder, begin(graphs), y)
    assert coder.calls == [("step_00", [[[[1.0], [2.0]]]]), ("step_01", [[[[0.0], [3.0]]]])]


def test_arrays_are_dropped_after_their_last_use(graphs, steps):
    state = begin(graphs)
    assert state.names() == {"hyper", "once"}
    walk(steps, FakeCoder(), state)
    assert graphs[1].seen == ["hyper", "once"]
    assert graphs[2].seen == ["hyper", "means_00", "symbols_00"]
    assert state.names() == {"symbols_01", "late"}


def test_symbols_go_to_the_graphs_that_take_them(graphs, steps):
    state = walk(steps, FakeCoder(), begin(graphs))
    assert state.run(graphs[3]).keys() == {"y_hat"}
    assert graphs[2].values["symbols_00"].max() == 1
    assert graphs[3].values["symbols_01"].max() == 2
    assert state.names() == set()
