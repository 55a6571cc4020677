"""The layers of a graph: which there are, what part they have in it, what they cost."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mlic.calibration.layers import default_layers, layers_of, products_per_pixel, restore_weights
from mlic.calibration.observe import observe
from mlic.export.weights import store_compactly_where_exact
from mlic.runtime.bundle import Bundle
from mlic.runtime.shipped import shipped_bundle
from tests.calibration.graphs import body_graph, conv, graph_of, named, normal, run


@pytest.fixture
def model(rng):
    return body_graph(rng)


def shipped(graph):
    bundle = Bundle.open(shipped_bundle("low"))
    return onnx.load_from_string(bundle.read_graph(bundle.manifest.graphs[graph]))


def matrix(name, inputs, target, operator="MatMul", **attributes):
    return helper.make_node(operator, inputs, [target], name, **attributes)


@pytest.fixture
def attention(rng):
    """Vectors of 8 -> queries and keys of 4, their products -> a weighted sum of the keys -> vectors of 8."""
    nodes = [
        matrix("queries", ["x", "q.weight"], "queries"),
        matrix("keys", ["x", "k.weight"], "keys"),
        helper.make_node("Transpose", ["keys"], ["columns"], "turn", perm=[0, 2, 1]),
        matrix("scores", ["queries", "columns"], "scores"),
        matrix("mix", ["scores", "keys"], "mixed"),
        matrix("result", ["mixed", "r.weight"], "y"),
    ]
    constants = {"q.weight": normal(rng, (8, 4)), "k.weight": normal(rng, (8, 4)), "r.weight": normal(rng, (4, 8))}
    model = graph_of(nodes, constants, ("x", (1, 16, 8)), ("y", (1, 16, 8)))
    return onnx.shape_inference.infer_shapes(model)


def test_layers_come_in_the_order_of_the_nodes_with_their_role_title_and_tensors(model):
    found = layers_of("g_a", model)
    assert [(layer.title, layer.role, layer.inputs, layer.output) for layer in found] == [
        ("first", "first", ("x",), "h"),
        ("inner", "", ("h",), "wide"),
        ("outer", "", ("active",), "back"),
        ("last", "last", ("sum",), "y"),
    ]
    assert [(layer.graph, layer.node) for layer in found] == [
        ("g_a", f"Conv_{name}") for name in ("first", "inner", "outer", "last")
    ]


def test_weight_size_is_that_of_the_weight_without_the_bias(model):
    assert [layer.weight_size for layer in layers_of("g_a", model)] == [6 * 6 * 9, 6 * 16, 6 * 16, 6 * 6 * 9]


def test_all_layers_that_take_the_input_are_first(rng):
    nodes = [conv(name, "x", name) for name in ("a", "b")]
    nodes += [helper.make_node("Add", ["a", "b"], ["sum"], "Add_0"), conv("c", "sum", "y")]
    constants = {f"{name}.weight": normal(rng, (4, 4, 1, 1)) for name in "abc"}
    model = graph_of(nodes, constants, ("x", (1, 4, "h", "w")), ("y", (1, 4, "h", "w")))
    assert [layer.role for layer in layers_of("g", model)] == ["first", "first", "last"]


def test_all_layers_with_nothing_that_multiplies_behind_them_are_last(rng):
    nodes = [conv("a", "x", "h"), *(conv(name, "h", name) for name in ("b", "c"))]
    nodes += [helper.make_node("Gelu", ["b"], ["g"], "Gelu_0"), helper.make_node("Add", ["g", "c"], ["y"], "Add_0")]
    constants = {f"{name}.weight": normal(rng, (4, 4, 1, 1)) for name in "abc"}
    model = graph_of(nodes, constants, ("x", (1, 4, "h", "w")), ("y", (1, 4, "h", "w")))
    assert [layer.role for layer in layers_of("g", model)] == ["first", "last", "last"]


def test_products_of_activations_are_layers_with_two_inputs_and_the_name_of_the_node(attention):
    scores, mix = named(layers_of("g_a", attention), "scores", "mix")
    assert (scores.inputs, scores.weight_size, scores.role) == (("queries", "columns"), 0, "")
    assert (mix.inputs, mix.weight_size, mix.role) == (("scores", "keys"), 0, "")


@pytest.mark.parametrize("graph", ["g_a", "g_s"])
def test_shipped_transforms_have_three_normalisations_and_one_last_layer(graph):
    layers = layers_of(graph, restore_weights(shipped(graph)))
    normalisations = [layer for layer in layers if layer.role == "normalisation"]
    assert len(normalisations) == 3
    assert all("gdn" in layer.title for layer in normalisations)
    assert [layer.role for layer in layers].count("last") == 1
    assert layers[-1].role == "last"
    assert layers[0].role == "first"


def test_default_layers_are_those_without_a_role():
    layers = layers_of("g_s", restore_weights(shipped("g_s")))
    chosen = default_layers(layers)
    assert [layer for layer in layers if layer not in chosen] == [
        layer for layer in layers if layer.role in ("first", "last", "normalisation")
    ]
    assert len(layers) - len(chosen) == 5


def observed(model, x, pixels):
    tensors = {name for layer in layers_of("g", model) for name in (*layer.inputs, layer.output)}
    return observe(model, sorted(tensors), [x], [pixels], 1)


@pytest.mark.parametrize("group", [1, 2])
def test_products_per_pixel_of_a_convolution(group, rng):
    nodes = [conv("c", "x", "y", bias=True, strides=[2, 2], pads=[1, 1, 1, 1], group=group)]
    constants = {"c.bias": normal(rng, (10,)), "c.weight": normal(rng, (10, 4 // group, 3, 3))}
    model = graph_of(nodes, constants, ("x", (1, 4, "h", "w")), ("y", (1, 10, "k", "l")))
    (layer,) = layers_of("g", model)
    found = products_per_pixel(layer, observed(model, normal(rng, (1, 4, 8, 16)), 8 * 16), model)
    assert found == 10 / 4 * (4 // group) * 9  # a quarter of the positions


def test_products_per_pixel_of_products_with_and_without_weights(attention, rng):
    observations = observed(attention, normal(rng, (1, 16, 8)), 16)
    found = {layer.title: products_per_pixel(layer, observations, attention) for layer in layers_of("g", attention)}
    assert found == {"q": 8 * 4, "k": 8 * 4, "scores": 16 * 4, "mix": 4 * 16, "r": 4 * 8}


@pytest.mark.parametrize("transposed", [0, 1])
def test_products_per_pixel_of_a_gemm_whichever_way_its_weight_lies(transposed, rng):
    shape = (5, 8) if transposed else (8, 5)
    model = graph_of(
        [matrix("g", ["x", "g.weight"], "y", "Gemm", transB=transposed)],
        {"g.weight": normal(rng, shape)},
        ("x", ("n", 8)),
        ("y", ("n", 5)),
    )
    (layer,) = layers_of("g", model)
    assert products_per_pixel(layer, observed(model, normal(rng, (16, 8)), 16), model) == 5 * 8


def weights(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("storage", ["int8", "half", "single"])
def test_restoring_inverts_compact_storage(storage, model, rng):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "first.weight")
    steps = np.float16(0.01) * np.arange(1, 7, dtype=np.float16).reshape(-1, 1, 1, 1)
    values = {
        "int8": rng.integers(-127, 128, (6, 6, 3, 3)).astype(np.float32) * steps.astype(np.float32),
        "half": normal(rng, (6, 6, 3, 3)).astype(np.float16).astype(np.float32),
        "single": normal(rng, (6, 6, 3, 3)),
    }[storage]
    tensor.CopyFrom(numpy_helper.from_array(values, "first.weight"))
    stored = onnx.ModelProto.FromString(model.SerializeToString())
    store_compactly_where_exact(stored)
    added = {"int8": ["Cast", "Cast", "Mul"], "half": ["Cast"], "single": []}[storage]
    assert [node.op_type for node in stored.graph.node] == added + [node.op_type for node in model.graph.node]
    restored = restore_weights(stored)
    assert list(restored.graph.node) == list(model.graph.node)
    expected = weights(model)
    found = weights(restored)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        assert np.array_equal(found[name], array)


def test_restoring_leaves_the_graph_given_as_it_was_and_its_values_too(rng):
    stored = shipped("g_a")
    before = stored.SerializeToString()
    restored = restore_weights(stored)
    assert stored.SerializeToString() == before
    assert "Cast" not in {node.op_type for node in restored.graph.node}
    x = rng.random((1, 3, 64, 64)).astype(np.float32)
    assert np.array_equal(run(restored, x), run(stored, x))


def test_restoring_keeps_products_of_activations():
    nodes = [helper.make_node("Mul", ["x", "two"], ["y"], "Mul_0")]
    model = graph_of(nodes, {"two": np.array(2, np.float32)}, ("x", (1, 4)), ("y", (1, 4)))
    assert restore_weights(model) == model
