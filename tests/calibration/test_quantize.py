"""Q/DQ nodes: around the chosen layers alone, in the forms that engines take, near to the float values."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mlic.calibration.layers import layers_of
from mlic.calibration.quantize import FORMS, quantize
from tests.calibration.graphs import body_graph, conv, graph_of, named, normal, operators, optimised, ranges_of, run

QDQ = ("QuantizeLinear", "DequantizeLinear")
TITLES = ("first", "inner", "outer", "last")


@pytest.fixture
def x(rng):
    return normal(rng, (1, 6, 16, 24))


@pytest.fixture
def model(rng):
    return body_graph(rng)


@pytest.fixture
def quantized(model, x):
    """Returns a function that quantises the layers with these titles."""
    layers, ranges = layers_of("g", model), ranges_of(model, x)

    def quantized(form, *titles):
        return quantize(model, named(layers, *titles), ranges, form)

    return quantized


class Wiring:
    """What feeds what in a graph, and the values of its constants."""

    def __init__(self, model):
        self.producers = {output: node for node in model.graph.node for output in node.output}
        self.nodes = {node.name: node for node in model.graph.node}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    def path(self, name, index=0):
        """Return the operators from an input of a node back through Q and DQ, and where that ends."""
        tensor, passed = self.nodes[name].input[index], []
        while tensor in self.producers and self.producers[tensor].op_type in QDQ:
            passed.append(self.producers[tensor].op_type)
            tensor = self.producers[tensor].input[0]
        return passed, tensor

    def behind(self, name):
        """Return the operators that take what a node gives."""
        output = self.nodes[name].output[0]
        return [node.op_type for node in self.nodes.values() if output in node.input]

    def parameters(self, kind, source):
        """Return scale and zero point of the Q or DQ node that takes a tensor."""
        (node,) = (node for node in self.nodes.values() if node.op_type == kind and node.input[0] == source)
        return tuple(self.constants[name] for name in node.input[1:])


@pytest.mark.parametrize("form", FORMS)
def test_no_layers_give_the_same_graph(form, model, quantized):
    assert quantized(form) == model


@pytest.mark.parametrize("form", FORMS)
def test_graph_given_stays_as_it_was(form, model, quantized):
    before = model.SerializeToString()
    quantized(form, *TITLES)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("titles", [("inner",), ("outer",), ("inner", "outer"), TITLES])
def test_result_is_a_valid_graph_with_the_same_input_and_output(form, titles, model, quantized):
    found = quantized(form, *titles)
    onnx.checker.check_model(found, full_check=True)
    assert (found.graph.input, found.graph.output) == (model.graph.input, model.graph.output)
    assert found.opset_import == model.opset_import
    assert set(operators(found)) - set(operators(model)) == set(QDQ)


@pytest.mark.parametrize("form", FORMS)
def test_only_the_chosen_layers_take_rounded_tensors_and_weights(form, quantized):
    wiring = Wiring(quantized(form, "inner", "outer"))
    both = ["DequantizeLinear", "QuantizeLinear"]
    assert wiring.path("Conv_inner") == (both, "h")
    assert wiring.path("Conv_outer") == (both, "active")
    for name in ("inner", "outer"):
        assert wiring.path(f"Conv_{name}", 1)[0] == ["DequantizeLinear"]
    for name in ("first", "last"):
        assert wiring.path(f"Conv_{name}")[0] == []
        assert wiring.nodes[f"Conv_{name}"].input[1] == f"{name}.weight"


@pytest.mark.parametrize("form", FORMS)
def test_skip_connection_beside_a_quantised_layer_stays_in_float(form, quantized):
    wiring = Wiring(quantized(form, "inner", "outer"))
    assert wiring.nodes["Add_0"].input[0] == wiring.nodes["Conv_first"].output[0] == "h"


def two_after_one(rng):
    """x -> (a, b) -> their sum, both convolutions of the same tensor."""
    nodes = [
        conv("a", "x", "left"),
        conv("b", "x", "right"),
        helper.make_node("Add", ["left", "right"], ["y"], "Add_0"),
    ]
    constants = {f"{name}.weight": normal(rng, (4, 6, 1, 1)) for name in "ab"}
    return graph_of(nodes, constants, ("x", (1, 6, "h", "w")), ("y", (1, 4, "h", "w")))


@pytest.mark.parametrize("form", FORMS)
def test_layers_that_share_a_tensor_share_its_rounding(form, x, rng):
    model = two_after_one(rng)
    found = quantize(model, layers_of("g", model), ranges_of(model, x), form)
    wiring = Wiring(found)
    assert wiring.nodes["Conv_a"].input[0] == wiring.nodes["Conv_b"].input[0]
    assert operators(found).count("QuantizeLinear") == (3 if form == "unsigned" else 1)


def test_unsigned_form_rounds_to_uint8_before_and_after_each_layer(model, x, quantized):
    found = quantized("unsigned", "inner", "outer")
    wiring, ranges = Wiring(found), ranges_of(model, x)
    assert operators(found).count("QuantizeLinear") == 4
    for name, before, after in (("inner", "h", "wide"), ("outer", "active", "back")):
        assert wiring.behind(f"Conv_{name}") == ["QuantizeLinear"]
        for tensor, source in ((before, before), (after, wiring.nodes[f"Conv_{name}"].output[0])):
            scale, zero = wiring.parameters("QuantizeLinear", source)
            low, high = ranges[tensor]
            assert (zero.dtype, zero.shape) == (np.uint8, ())
            assert scale == pytest.approx((high - low) / 255, rel=1e-5)
            assert zero == pytest.approx(-low / scale, abs=0.51)


def test_symmetric_form_rounds_inputs_alone_to_int8_around_zero(model, x, quantized):
    found = quantized("symmetric", "inner", "outer")
    wiring, ranges = Wiring(found), ranges_of(model, x)
    assert operators(found).count("QuantizeLinear") == 2
    assert (wiring.behind("Conv_inner"), wiring.behind("Conv_outer")) == (["Gelu"], ["Add"])
    for source in ("h", "active"):
        scale, zero = wiring.parameters("QuantizeLinear", source)
        assert (zero.dtype, zero.tolist()) == (np.int8, 0)
        assert scale == pytest.approx(max(map(abs, ranges[source])) / 127, rel=0.005)  # or / 127.5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("title", TITLES)
def test_weights_are_int8_with_a_scale_for_each_output_channel(form, title, model, quantized):
    wiring, before = Wiring(quantized(form, title)), Wiring(model).constants[f"{title}.weight"]
    _, stored = wiring.path(f"Conv_{title}", 1)
    integers = wiring.constants[stored]
    scales, zeros = wiring.parameters("DequantizeLinear", stored)
    assert (integers.dtype, zeros.dtype, np.count_nonzero(zeros)) == (np.int8, np.int8, 0)
    np.testing.assert_allclose(scales, np.abs(before).max(axis=(1, 2, 3)) / 127, rtol=0.005)
    assert np.array_equal(np.abs(integers).max(axis=(1, 2, 3)), np.full(len(scales), 127))
    assert np.abs(integers * scales[:, None, None, None] - before).max() <= 0.51 * scales.max()


def test_bias_stays_in_float_in_the_symmetric_form_alone(quantized):
    kinds = {}
    for form in FORMS:
        wiring = Wiring(quantized(form, "inner"))
        kinds[form] = wiring.constants[wiring.path("Conv_inner", 2)[1]].dtype
    assert kinds == {"unsigned": np.int32, "symmetric": np.float32}


@pytest.mark.parametrize(
    ("titles", "kernels"),
    [
        ((), ["Conv"] * 4),
        (("inner",), ["Conv", "Conv", "Conv", "QLinearConv"]),
        (("inner", "outer"), ["Conv", "Conv", "QLinearConv", "QLinearConv"]),
        (TITLES, ["QLinearConv"] * 4),
    ],
)
def test_onnx_runtime_computes_exactly_the_chosen_layers_of_the_unsigned_form_in_8_bits(
    titles, kernels, quantized, tmp_path
):
    found = operators(optimised(quantized("unsigned", *titles), tmp_path))
    assert sorted(kind.replace("FusedConv", "Conv") for kind in found if "Conv" in kind) == kernels


def one_layer(rng):
    node = conv("c", "x", "y", bias=True)
    constants = {"c.weight": normal(rng, (4, 6, 1, 1)), "c.bias": normal(rng, (4,))}
    return graph_of([node], constants, ("x", (1, 6, "h", "w")), ("y", (1, 4, "h", "w")))


@pytest.mark.parametrize("form", FORMS)
def test_values_of_a_layer_differ_from_float_by_less_than_its_roundings(form, x, rng):
    model = one_layer(rng)
    ranges = ranges_of(model, x)
    weights = np.abs(Wiring(model).constants["c.weight"][:, :, 0, 0])
    expected, found = run(model, x), run(quantize(model, layers_of("g", model), ranges, form), x)
    (low, high), (least, largest) = ranges["x"], ranges["y"]
    step = (high - low) / 255 if form == "unsigned" else max(-low, high) / 127
    weight_steps = weights.max(axis=1, keepdims=True) / 127
    # Half a step of every factor, of the result, and of the bias, whose steps are as fine as those of the products
    allowed = (weights + weight_steps / 2).sum(axis=1) * step / 2 + np.abs(x).sum(axis=1).max() * weight_steps[:, 0] / 2
    allowed += weight_steps[:, 0] * step + ((largest - least) / 255 * 0.5 if form == "unsigned" else 0)
    errors = np.abs(found - expected).max(axis=(0, 2, 3))
    assert (errors < allowed).all()
    assert (errors > allowed / 20).all()


@pytest.mark.parametrize("form", FORMS)
def test_values_of_all_layers_together_are_near_to_float(form, model, x, quantized):
    expected, found = run(model, x), run(quantized(form, *TITLES), x)
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert 0.001 < error < 0.03  # four layers of 256 levels: about 1 % each


@pytest.mark.parametrize("form", FORMS)
def test_values_beyond_the_range_are_clipped(form, x, rng):
    model = one_layer(rng)
    ranges = ranges_of(model, x) | {"x": (-0.5, 0.5)}
    found = quantize(model, layers_of("g", model), ranges, form)
    just, far = (run(found, np.where(x > 0, size, -size).astype(np.float32)) for size in (0.6, 8))
    assert np.array_equal(just, far)


@pytest.mark.parametrize("form", FORMS)
def test_tensor_that_is_always_zero_can_be_quantised(form, x, rng):
    model = one_layer(rng)
    ranges = ranges_of(model, x) | {"x": (0.0, 0.0)}
    found = run(quantize(model, layers_of("g", model), ranges, form), np.zeros_like(x))
    np.testing.assert_allclose(found, run(model, np.zeros_like(x)), atol=0.05)


@pytest.mark.parametrize("form", FORMS)
def test_product_of_two_activations_has_both_rounded(form, rng):
    nodes = [
        helper.make_node("Transpose", ["x"], ["columns"], "turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "columns"], ["y"], "scores"),
    ]
    model = graph_of(nodes, {}, ("x", (1, 16, 8)), ("y", (1, 16, 16)))
    array = normal(rng, (1, 16, 8))
    found = quantize(model, layers_of("g", model), ranges_of(model, array), form)
    wiring = Wiring(found)
    both = ["DequantizeLinear", "QuantizeLinear"]
    assert [wiring.path("scores", index) for index in (0, 1)] == [(both, "x"), (both, "columns")]
    assert wiring.path("turn") == ([], "x")
    np.testing.assert_allclose(run(found, array), run(model, array), atol=0.3)


@pytest.mark.parametrize("form", FORMS)
def test_quantising_twice_gives_the_same_bytes(form, quantized):
    first, again = (quantized(form, *TITLES).SerializeToString(deterministic=True) for _ in range(2))
    assert first == again
