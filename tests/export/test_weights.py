"""Half precision: lossless as storage, and as arithmetic with divisive normalisation left in float32."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mlic.export.errors import ExportError
from mlic.export.models.gdn import GDN
from mlic.export.split.base import Subgraph
from mlic.export.trace import trace
from mlic.export.weights import (
    SMALLEST,
    eight_bits_from_values,
    half_precision,
    normalisation_nodes,
    store_compactly_where_exact,
)
from mlic.runtime.backends import open_backend
from mlic.runtime.manifest import GraphFile, GraphSpec, TensorSpec

CHANNELS = 16
SPEC = TensorSpec("float32", (1, CHANNELS, "height/16", "width/16"))
GRAPH = GraphSpec("g", {"x": SPEC}, {"y": SPEC}, exact=False)
LOUD = 400.0  # squares of such values leave half precision, the values do not

Float32 = NDArray[np.float32]


class _Normalised(nn.Module):
    """A convolution, a GDN, a convolution, the inverse GDN: what the transforms are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.gdn = GDN(CHANNELS)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.igdn = GDN(CHANNELS, inverse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.igdn(self.second(self.gdn(self.first(x))))


@pytest.fixture(scope="module")
def module() -> _Normalised:
    torch.manual_seed(0)
    module = _Normalised().eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False).copy_(parameter.half())  # as checkpoints made for export are
    return module


@pytest.fixture(scope="module")
def traced(module: _Normalised) -> onnx.ModelProto:
    return trace(Subgraph(GRAPH, module))


@pytest.fixture(scope="module")
def half(traced: onnx.ModelProto) -> onnx.ModelProto:
    return half_precision(copy.deepcopy(traced))


@pytest.fixture
def run(tmp_path: Path):
    def run(model: onnx.ModelProto, x: Float32) -> Float32:
        path = tmp_path / "g.onnx"
        path.write_bytes(model.SerializeToString())
        return open_backend("onnxruntime", 1).open(path, GraphFile(GRAPH, path.name, "", "fp32")).run({"x": x})["y"]

    return run


def values(amplitude: float = 1.0) -> Float32:
    rng = np.random.default_rng(5)
    return (amplitude * rng.standard_normal((1, CHANNELS, 4, 8))).astype(np.float32)


def relative_rms(found: Float32, expected: Float32) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def graph_of(weight: Float32) -> onnx.ModelProto:
    """Return a 1x1 convolution with this weight."""
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, CHANNELS, "h", "w"]) for n in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], "Conv_0")
    graph = helper.make_graph([node], "g", value[:1], value[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def initializers(model: onnx.ModelProto) -> dict[str, int]:
    return {value.name: value.data_type for value in model.graph.initializer}


def test_half_storage_gives_the_same_values_from_half_the_bytes(traced: onnx.ModelProto, run):
    stored = copy.deepcopy(traced)
    store_compactly_where_exact(stored)
    onnx.checker.check_model(stored)
    weights = [v for v in stored.graph.initializer if numpy_helper.to_array(v).size >= SMALLEST]
    # gamma is computed from its stored form, so it need not be a half-precision number.
    assert sum(v.data_type == TensorProto.FLOAT16 for v in weights) >= 2
    sizes = [len(model.SerializeToString()) for model in (traced, stored)]
    convolutions = 4 * (CHANNELS * CHANNELS * 10)
    assert sizes[0] - sizes[1] == pytest.approx(convolutions / 2, rel=0.1)
    assert np.array_equal(run(stored, values()), run(traced, values()))


def test_half_storage_of_a_large_weight_halves_the_file(run):
    weight = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float16)
    model = graph_of(np.tile(weight, (1, 1, 32, 1)).astype(np.float32))
    stored = copy.deepcopy(model)
    store_compactly_where_exact(stored)
    sizes = [len(m.SerializeToString()) for m in (model, stored)]
    assert sizes[1] <= 0.51 * sizes[0]


@pytest.mark.parametrize("odd", [1 / 3, 1e-9, 1e6, np.nan])
def test_weight_with_one_value_that_half_precision_lacks_stays_as_it_is(odd: float):
    weight = np.ones((CHANNELS, CHANNELS, 1, 1), np.float32)
    weight[3, 5] = odd
    model = graph_of(weight)
    before = model.SerializeToString()
    store_compactly_where_exact(model)
    assert model.SerializeToString() == before


def test_extreme_values_of_half_precision_are_kept(run):
    weight = np.zeros((CHANNELS, CHANNELS, 1, 1), np.float32)
    weight.flat[:5] = [65504, -65504, 2**-24, -0.0, 2**-14]
    model = graph_of(weight)
    stored = copy.deepcopy(model)
    store_compactly_where_exact(stored)
    assert initializers(stored) == {"w_half": TensorProto.FLOAT16}
    assert np.array_equal(run(stored, values()), run(model, values()))


def test_small_and_whole_number_initializers_stay_as_they_are():
    model = graph_of(np.linspace(-1, 1, CHANNELS**2, dtype=np.float16).astype(np.float32).reshape(CHANNELS, -1, 1, 1))
    few, whole = np.ones(SMALLEST - 1, np.float32), np.ones(SMALLEST, np.int64)
    model.graph.initializer.extend([numpy_helper.from_array(few, "few"), numpy_helper.from_array(whole, "whole")])
    store_compactly_where_exact(model)
    assert initializers(model) == {
        "w_half": TensorProto.FLOAT16, "few": TensorProto.FLOAT, "whole": TensorProto.INT64
    }  # fmt: skip


def eight_bits(shape: tuple[int, ...], axis: int = 0) -> Float32:
    """Return weights on a grid of 127 steps, another for each channel of an axis, as training rounds them."""
    rng = np.random.default_rng(3)
    integers = rng.integers(-127, 128, shape).astype(np.float32)
    steps = rng.uniform(1e-5, 1e-2, shape[axis]).astype(np.float16).astype(np.float32)
    return integers * steps.reshape([-1 if i == axis else 1 for i in range(len(shape))])


@pytest.mark.parametrize(
    ("shape", "axis"), [((CHANNELS, CHANNELS, 1, 1), 0), ((8, 4, 3, 3), 0), ((12, 20), 0), ((12, 20), 1)]
)
def test_multiples_of_a_step_a_channel_are_found(shape: tuple[int, ...], axis: int):
    weight = eight_bits(shape, axis)
    found = eight_bits_from_values(weight)
    assert found is not None
    integers, steps = found
    assert (integers.dtype, integers.shape, steps.dtype) == (np.int8, shape, np.float16)
    assert np.array_equal(integers.astype(np.float32) * steps.astype(np.float32), weight)


def test_parts_of_a_layer_whose_largest_weight_lies_elsewhere_are_found():
    weight = eight_bits((8, 40))
    part = weight[:, 5:11]
    assert (np.abs(part).max(axis=1) < np.abs(weight).max(axis=1)).any()
    assert eight_bits_from_values(part) is not None


def test_channels_of_zeros_are_found_and_one_value_off_the_grid_is_noticed():
    weight = eight_bits((8, 40))
    weight[3] = 0
    assert eight_bits_from_values(weight) is not None
    weight[5, 7] = np.nextafter(weight[5, 7], np.float32(1))
    assert eight_bits_from_values(weight) is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_left_alone(value: float):
    weight = eight_bits((8, 40))
    weight[0, 0] = value
    assert eight_bits_from_values(weight) is None


def test_eight_bits_are_a_quarter_of_the_file_and_the_same_values(run):
    weight = eight_bits((CHANNELS, CHANNELS, 1, 1))
    model = graph_of(weight)
    stored = copy.deepcopy(model)
    store_compactly_where_exact(stored)
    onnx.checker.check_model(stored, full_check=True)
    assert initializers(stored) == {"w_int8": TensorProto.INT8, "w_steps": TensorProto.FLOAT16}
    assert np.array_equal(run(stored, values()), run(model, values()))


def test_half_precision_keeps_names_shapes_and_float32_at_the_border(traced: onnx.ModelProto, half: onnx.ModelProto):
    onnx.checker.check_model(half, full_check=True)
    assert half.graph.name == traced.graph.name
    for ours, theirs in ((half.graph.input, traced.graph.input), (half.graph.output, traced.graph.output)):
        assert [v.SerializeToString() for v in ours] == [v.SerializeToString() for v in theirs]


def test_half_precision_keeps_normalisation_in_float32(traced: onnx.ModelProto, half: onnx.ModelProto):
    kept = normalisation_nodes(traced)
    assert [name.partition("_")[0] for name in kept] == [
        "Mul", "Conv", "Sqrt", "Reciprocal", "Mul", "Mul", "Conv", "Sqrt", "Mul"
    ]  # fmt: skip
    types = initializers(half)
    producers = {output: node for node in half.graph.node for output in node.output}
    for node in half.graph.node:
        if node.name in kept:
            for name in node.input:
                if name in types:
                    assert types[name] == TensorProto.FLOAT
                elif producers[name].name not in kept:  # not through half precision from one to the next
                    assert producers[name].op_type == "Cast"
                    source = producers[producers[name].input[0]]
                    assert source.name not in kept
        elif node.op_type == "Conv":
            assert {types[name] for name in node.input[1:]} == {TensorProto.FLOAT16}


def test_half_precision_is_close_to_float32(module: _Normalised, half: onnx.ModelProto, run):
    expected = module(torch.from_numpy(values())).numpy()
    assert relative_rms(run(half, values()), expected) <= 2e-3  # some units of 2^-11


def test_half_precision_survives_squares_beyond_its_range(module: _Normalised, half: onnx.ModelProto, run):
    x = values(LOUD * CHANNELS)
    first = module.first(torch.from_numpy(x))
    assert 65504**0.5 * 10 < float(first.abs().max()) < 65504
    found = run(half, x)
    assert np.isfinite(found).all()
    assert relative_rms(found, module(torch.from_numpy(x)).numpy()) <= 2e-3


def test_half_precision_refuses_weights_beyond_its_range():
    weight = np.ones((CHANNELS, CHANNELS, 1, 1), np.float32)
    weight[3, 5] = -70000
    with pytest.raises(ExportError, match="graph g: a weight of 70000 is beyond half precision"):
        half_precision(graph_of(weight))


def test_half_precision_keeps_weights_up_to_the_end_of_its_range(run):
    weight = np.zeros((CHANNELS, CHANNELS, 1, 1), np.float32)
    weight[0, 0], weight[1, 0] = 65504, 60000
    found = run(half_precision(graph_of(weight)), np.full((1, CHANNELS, 4, 8), 2**-8, np.float32))
    assert found[0, :3, 0, 0].tolist() == [np.float16(65504 / 256), np.float16(60000 / 256), 0]


def test_half_precision_gives_the_same_bytes_again(traced: onnx.ModelProto, half: onnx.ModelProto):
    again = half_precision(copy.deepcopy(traced))
    assert again.SerializeToString(deterministic=True) == half.SerializeToString(deterministic=True)
