"""Operators of a few nodes each: near their float twins, equal on the engine, and without overflow at any input."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from mlic.calibration.errors import CalibrationError
from mlic.calibration.integer.chain_builder import build
from mlic.calibration.integer.emitter import INT32, INT64, Emitter
from mlic.calibration.integer.float_chain import FloatChain
from mlic.calibration.integer.grids import Grid
from mlic.calibration.integer.lowering import MAX_SYMBOL, Lowering
from mlic.calibration.integer.normalisation import integer_root
from mlic.calibration.integer.reference import run_graph
from mlic.calibration.integer.reference_operators import OPERATORS
from mlic.calibration.integer.softmax import DIGIT_BITS, TOP_FEW, TOP_MANY
from mlic.calibration.integer.statistics import Recorder
from mlic.runtime.bundle import Bundle
from mlic.runtime.container import MAX_LATENT_PIXELS
from tests.calibration.integer.chains import Small, engine, result_of

EXTREME = (-float(1 << 24), -float(MAX_SYMBOL), -1.0, 0.0, 1.0, float(MAX_SYMBOL), float(1 << 24))
BITS = 8


def whole(shape: tuple[int, ...], seed: int, spread: float = 3.0) -> np.ndarray:
    """Inputs of chains are symbols: whole numbers."""
    return np.rint(np.random.default_rng(seed).normal(0, spread, shape)).astype(np.float32)


def extremes(shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(8)
    return [np.full(shape, value, np.float32) for value in EXTREME] + [rng.choice(EXTREME, shape).astype(np.float32)]


# The root


def root_graph() -> onnx.ModelProto:
    lowering = Lowering(FloatChain(("small",)), Recorder({}))
    lowering.emit.outside("x", "small", INT64)
    made = integer_root(lowering, "x", "small")
    return lowering.emit.models({"small": [made]})["small"]


def around_squares() -> np.ndarray:
    rng = np.random.default_rng(0)
    roots = [*range(1, 2000), *(int(2**e) for e in rng.uniform(10, 30.49, 4000)), 1518500248, (1 << 12) - 1, 1 << 24]
    near = [k * k + d for k in roots for d in (-2, -1, 0, 1, 2)]
    random = [int(2**e) for e in rng.uniform(0, 61, 4000)]
    return np.array([x for x in (*near, *random) if 0 < x < 1 << 61], np.int64)


@pytest.mark.parametrize("off", [-2, -1, 0, 1, 2])
def test_roots_are_exact_even_if_the_first_guess_is_off(off: int):
    values = around_squares()

    def inexact(inputs, _):
        return (np.sqrt(inputs[0]).view(np.int32) + np.int32(off)).view(np.float32)

    (found,) = run_graph(root_graph(), {"x": values}, {**OPERATORS, "Sqrt": inexact}).values()
    np.testing.assert_array_equal(found, [math.isqrt(value) for value in values.tolist()])


def test_roots_are_the_engines():
    values = around_squares()
    (found,) = engine()(root_graph(), {"x": values}).values()
    np.testing.assert_array_equal(found, [math.isqrt(value) for value in values.tolist()])


# LayerNorm


def layer_norm(channels: int) -> Small:
    rng = np.random.default_rng(3)
    constants = {
        "gain": rng.normal(1, 0.3, channels).astype(np.float32),
        "offset": rng.normal(0, 0.5, channels).astype(np.float32),
    }
    nodes = [("LayerNormalization", ["x", "gain", "offset"], "out", {"axis": -1, "epsilon": 1e-5})]
    return Small(nodes, constants, [{"x": whole((1, n, channels), n)} for n in (12, 20)])


@pytest.mark.parametrize("channels", [8, 48, 192])
def test_layer_norm_is_near_its_float_twin(channels: int):
    small = layer_norm(channels)
    model, bound = small.lower(BITS)
    example = {"x": whole((1, 33, channels), 5)}
    found = result_of(model, example)
    assert np.abs(found).max() <= bound
    assert np.abs(found / 2**BITS - small.run_float(example)).max() < 0.01


def test_layer_norm_never_overflows():
    model, bound = layer_norm(16).lower(BITS)
    for x in extremes((1, 9, 16)):
        assert np.abs(result_of(model, {"x": x})).max() <= bound


@pytest.mark.parametrize("channels", [8, 48, 192])
def test_codes_of_layer_norm_are_near_their_float_twin(channels: int):
    small = layer_norm(channels)
    model, grid = small.lower_code(axis=2)
    example = {"x": whole((1, 33, channels), 5)}
    expected = small.run_float(example)
    inside = np.abs(expected) < 126 * grid.scale  # beyond, codes end
    found = (result_of(model, example).astype(np.float64) - 128) * grid.scale
    assert np.mean(inside) > 0.95
    assert (np.abs(found - expected) / grid.scale)[inside].max() < 0.8  # 0.5, and what 24 bits leave to small gains
    for x in extremes((1, 9, channels)):
        result_of(model, {"x": x})  # raises where a number leaves its type


# Codes of fixed values


@pytest.mark.parametrize("zero", [np.array(128), np.array(0), np.array(-300), np.array([128, 7, 500, -20])])
def test_codes_of_fixed_values_are_rounded_and_end_at_their_range(zero: np.ndarray):
    channels, bits = 4, 6
    grid = Grid(np.array([0.7, 1.3, 2.0, 5.1]), zero, 1)
    lowering = Lowering(FloatChain(("small",)), Recorder({}))
    lowering.emit.outside("x", "small", INT32)
    lowering.bound["x"] = (1 << 31) - (1 << 20)
    made = lowering.quantise("x", bits, grid, "small", 2)
    model = lowering.emit.models({"small": [made]})["small"]
    rng = np.random.default_rng(4)
    near = rng.integers(-200_000, 200_000, (50, channels))
    far = rng.choice([-1, 1], (9, channels)) * ((1 << 31) - (1 << 20))
    values = np.concatenate([near, far]).astype(np.int32)
    exact = values / (grid.scale * 2.0**bits) + zero
    found = result_of(model, {"x": values}).astype(np.float64)
    assert np.abs(found - np.clip(exact, 0, 255)).max() < 0.52  # a zero that is no code is rounded before
    assert set(found[-9:].ravel()) == {0, 255}


def test_grids_that_are_too_fine_or_too_wide_for_the_bits_are_refused():
    for scale, problem in ((0.1, "finer than 2^-2"), (1e6, "too wide for fractions of 10 bits")):
        lowering = Lowering(FloatChain(("small",)), Recorder({}))
        lowering.emit.outside("x", "small", INT32)
        lowering.bound["x"] = 1 << 30
        with pytest.raises(CalibrationError, match=problem.replace("^", r"\^")):
            lowering.quantise("x", 2 if scale < 1 else 10, Grid(np.array(scale), np.array(128)), "small", 2)


# Products of activations


@pytest.mark.parametrize("size", [0.003, 0.05, 1.0, 50.0])
def test_products_of_activations_are_near_their_float_twin_whatever_their_size(size: float):
    scale = {"scale": np.array(size, np.float32)}
    nodes = [
        ("Mul", ["x", "scale"], "small_x", {}),
        ("MatMul", ["small_x", "v"], "out", {}),
    ]
    small = Small(nodes, scale, [{"x": whole((1, 6, 16), k), "v": whole((1, 16, 7), k + 3)} for k in range(2)])
    for bits in (4, 14):
        model, bound = small.lower(bits)
        example = {"x": whole((1, 6, 16), 0), "v": whole((1, 16, 7), 3)}
        found, expected = result_of(model, example), small.run_float(example)
        assert np.abs(found).max() <= bound
        # Codes of 8 bits, a thirtieth of a unit coarser at most; sums of 16.
        assert np.abs(found / 2.0**bits - expected).max() < 0.06 * np.abs(expected).max() + 2.0**-bits


# Softmax


def attention(terms: int) -> Small:
    """Softmax over the last axis of ``x``, times ``v``; more than 64 terms follow the picture."""
    nodes = [("Softmax", ["x"], "shares", {"axis": -1}), ("MatMul", ["shares", "v"], "out", {})]
    counts = (terms, terms if terms <= 64 else terms + 8)
    examples = [{"x": whole((1, 6, n), k, 1.5), "v": whole((1, n, 7), 7 + k)} for k, n in enumerate(counts)]
    return Small(nodes, {}, examples)


@pytest.mark.parametrize("terms", [4, 25, 64, 100])
def test_means_weighed_by_a_softmax_are_near_their_float_twin(terms: int):
    small = attention(terms)
    model, bound = small.lower(BITS)
    example = {"x": whole((1, 6, terms), 21, 1.5), "v": whole((1, terms, 7), 22)}
    found = result_of(model, example)
    assert np.abs(found).max() <= bound
    expected = small.run_float(example)
    assert np.abs(found / 2**BITS - expected).max() < 0.06 * np.abs(example["v"]).max()


def turned_attention(terms: int) -> Small:
    """Softmax over the axis before the last, positions last; turned for the product with ``v``, and back."""
    nodes = [
        ("Softmax", ["x"], "shares", {"axis": 1}),
        ("Transpose", ["shares"], "turned", {"perm": [2, 0, 1]}),
        ("MatMul", ["turned", "v"], "weighed", {}),
        ("Transpose", ["weighed"], "out", {"perm": [1, 2, 0]}),
    ]
    examples = [{"x": whole((5, terms, n), n, 1.5), "v": whole((n, terms, 7), 7 + n)} for n in (6, 8)]
    return Small(nodes, {}, examples)


@pytest.mark.parametrize("terms", [4, 25, 64])
def test_means_weighed_along_another_axis_are_near_their_float_twin(terms: int):
    small = turned_attention(terms)
    example = {"x": whole((5, terms, 6), 21, 1.5), "v": whole((6, terms, 7), 22)}
    expected = small.run_float(example)
    model, grid = small.lower_code(axis=None)
    codes = result_of(model, example).astype(np.float64)
    assert np.abs((codes - 128) * grid.scale - expected).max() < 0.06 * np.abs(example["v"]).max()
    operators = [node.op_type for node in model.graph.node]
    # What is divided has positions last: the product is turned before, and nothing is turned after.
    assert operators.index("Transpose", operators.index("MatMulInteger")) < operators.index("Div")
    assert "Transpose" not in operators[operators.index("Div") :][2:]
    fixed, bound = small.lower(BITS)
    found = result_of(fixed, example)
    assert np.abs(found).max() <= bound
    assert np.abs(found / 2**BITS - expected).max() < 0.06 * np.abs(example["v"]).max()


@pytest.mark.parametrize("terms", [4, 100])
def test_softmax_never_overflows(terms: int):
    model, bound = attention(terms).lower(BITS)
    for x, v in zip(extremes((1, 6, terms)), extremes((1, terms, 7))[::-1], strict=True):
        assert np.abs(result_of(model, {"x": x, "v": v})).max() <= bound


@pytest.mark.parametrize("value", [-float(MAX_SYMBOL), float(MAX_SYMBOL)])
def test_a_softmax_takes_all_positions_of_the_largest_latent(value: float):
    positions = MAX_LATENT_PIXELS // 256
    assert positions == 1 << 18
    model, bound = attention(100).lower(BITS)
    example = {"x": np.zeros((1, 6, positions), np.float32), "v": np.full((1, positions, 7), value, np.float32)}
    (found,) = run_graph(model, example).values()  # raises where a sum leaves 32 bits
    assert 0 < np.abs(found).max() <= bound


def test_digits_make_up_the_weight():
    distances = np.arange(2000) / 128
    weights = np.rint(TOP_MANY * np.exp(-distances)).astype(np.int64)
    high, low = (weights // place % (1 << DIGIT_BITS) for place in (1 << DIGIT_BITS, 1))
    np.testing.assert_array_equal((high << DIGIT_BITS) + low, weights)
    assert high[0] == low[0] == (1 << DIGIT_BITS) - 1
    # A digit times the farthest code, for every position of the largest latent, in an accumulator of 32 bits.
    assert (MAX_LATENT_PIXELS // 256) * int(high[0]) * 128 < 1 << 31
    assert TOP_FEW * 128 * 64 < 1 << 31


# What cannot be lowered


@pytest.mark.parametrize("value", [-1e9, np.inf, np.nan])
def test_constants_that_do_not_fit_are_refused(value: float):
    nodes = [("Add", ["x", "c"], "out", {})]
    small = Small(nodes, {"c": np.array([value], np.float32)}, [{"x": whole((1, n), n)} for n in (4, 6)])
    with pytest.raises(CalibrationError, match=r"a constant of \S+ times 2\^8 does not fit into 32 bits"):
        small.lower(BITS)


def test_an_unknown_operator_is_named_with_its_graph():
    small = Small([("Erf", ["x"], "out", {})], {}, [{"x": whole((1, n), n)} for n in (4, 6)])
    with pytest.raises(CalibrationError, match=r"graph small: no integer form of operator Erf is known"):
        small.lower(BITS)


def test_a_bundle_whose_scales_come_from_no_convolution_is_refused(bundle_folder):
    bundle = Bundle.open(bundle_folder)
    chain = FloatChain.of(bundle)
    shapes = dict.fromkeys(chain.types, (1, 8, None, None))
    with pytest.raises(CalibrationError, match="graph step_00: scales_00 comes from Identity; expected a convolution"):
        build(chain, bundle.manifest.steps, bundle.entropy.scale_table, Recorder(shapes))


def test_constants_are_shared_and_truth_values_travel_as_bytes():
    emit = Emitter(("a", "b"))
    assert emit.int32(7) == emit.constant(np.array(7, np.int32))
    assert emit.int32(7) != emit.int64(7)
    emit.outside("x", "a", onnx.TensorProto.INT32)
    truth = emit.add("a", "Greater", ["x", emit.int32(0)], onnx.TensorProto.BOOL)
    result = emit.add("b", "Not", [truth], onnx.TensorProto.BOOL)
    kept = emit.add("b", "Cast", [result], onnx.TensorProto.UINT8, to=onnx.TensorProto.UINT8)
    models = emit.models({"b": [kept]})
    (given,) = models["b"].graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    state = engine()(models["a"], {"x": np.array([-1, 0, 5], np.int32)})
    (found,) = engine()(models["b"], state).values()
    np.testing.assert_array_equal(found, [1, 1, 0])
