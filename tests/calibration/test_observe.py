"""Observation: what numpy finds in the same values."""

import numpy as np
import pytest
from onnx import helper

from mlic.calibration.observe import BINS, SAMPLES, Observation, observe, session
from tests.calibration.graphs import graph_of, normal

PIXELS = [64 * 64, 64 * 128]


@pytest.fixture(scope="module")
def model():
    """y = 2 (x + 3), of which x is also multiplied by zero."""
    nodes = [
        helper.make_node("Mul", ["x", "zero"], ["nothing"], "Mul_0"),
        helper.make_node("Add", ["x", "three"], ["sum"], "Add_0"),
        helper.make_node("Mul", ["sum", "two"], ["y"], "Mul_1"),
        helper.make_node("ReduceMean", ["nothing", "axes"], ["constant"], "ReduceMean_0"),
    ]
    constants = {name: np.array(value, np.float32) for name, value in (("zero", 0), ("three", 3), ("two", 2))}
    constants["axes"] = np.array([1], np.int64)
    return graph_of(nodes, constants, ("x", (1, 4, "h", "w")), ("y", (1, 4, "h", "w")))


@pytest.fixture
def inputs(rng):
    return [normal(rng, (1, 4, 8, 8)), normal(rng, (1, 4, 8, 16), 2)]


@pytest.mark.parametrize(
    ("tensor", "function"),
    [
        ("x", lambda x: x),
        ("sum", lambda x: x + np.float32(3)),
        ("y", lambda x: (x + np.float32(3)) * np.float32(2)),
    ],
)
def test_limits_and_histogram_are_those_of_all_values_of_all_pictures(tensor, function, model, inputs):
    found = observe(model, [tensor], inputs, PIXELS, 1)[tensor]
    values = function(np.concatenate([array.reshape(-1) for array in inputs]))
    counts, edges = np.histogram(values, BINS)
    assert (found.low, found.high) == (values.min(), values.max())
    # A value on an edge may fall on its other side: numpy takes the limits in the precision of the values
    assert np.abs(np.cumsum(found.counts) - np.cumsum(counts)).max() <= 1
    assert found.counts.sum() == values.size
    np.testing.assert_allclose(found.centres, (edges[1:] + edges[:-1]) / 2, rtol=1e-5, atol=1e-5)


def test_density_is_elements_per_pixel_of_all_pictures(model, inputs):
    found = observe(model, ["x", "constant"], inputs, PIXELS, 1)
    assert found["x"].density == 4 * (8 * 8 + 8 * 16) / sum(PIXELS)
    assert found["constant"].density == (8 * 8 + 8 * 16) / sum(PIXELS)


def test_constant_tensor_has_limits_and_an_empty_histogram(model, inputs):
    found = observe(model, ["constant"], inputs, PIXELS, 1)["constant"]
    assert (found.low, found.high, found.counts.shape, found.counts.sum()) == (0, 0, (BINS,), 0)


def test_several_tensors_are_observed_as_each_alone(model, inputs):
    together = observe(model, ["x", "nothing", "sum", "y"], inputs, PIXELS, 1)
    assert list(together) == ["x", "nothing", "sum", "y"]
    for name, found in together.items():
        alone = observe(model, [name], inputs, PIXELS, 1)[name]
        assert (found.low, found.high, found.density) == (alone.low, alone.high, alone.density)
        assert np.array_equal(found.counts, alone.counts)


def test_no_tensors_give_no_observations(model, inputs):
    assert observe(model, [], inputs, PIXELS, 1) == {}


def test_large_tensor_is_counted_in_part_and_its_limits_are_those_of_all_values(model, rng):
    x = normal(rng, (1, 4, 300, 300))
    x.flat[1], x.flat[2] = -100, 100  # neither lies in the part
    found = observe(model, ["x"], [x], [300 * 300], 1)["x"]
    assert (found.low, found.high) == (-100, 100)
    assert SAMPLES / 2 < found.counts.sum() <= SAMPLES
    assert (found.counts[0], found.counts[-1]) == (0, 0)


def test_progress_is_called_twice_a_picture(model, inputs):
    calls = []
    observe(model, ["y"], inputs, PIXELS, 1, lambda: calls.append(1))
    assert len(calls) == 4


def test_centres_lie_in_the_middle_of_equal_parts():
    centres = Observation(-1.0, 3.0, np.zeros(BINS, np.int64), 1.0).centres
    np.testing.assert_allclose(centres[[0, BINS // 2, -1]], [-1 + 2 / BINS, 1 + 2 / BINS, 3 - 2 / BINS], rtol=1e-12)


def test_session_gives_further_tensors_and_leaves_the_graph_as_it_was(model, inputs):
    before = model.SerializeToString()
    found = session(model, 1, ["sum", "y"]).run(["sum", "y"], {"x": inputs[0]})
    np.testing.assert_array_equal(found[1], found[0] * 2)
    assert model.SerializeToString() == before
