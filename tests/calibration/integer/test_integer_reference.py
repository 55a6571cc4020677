"""The readable twin of an engine: each operator as ONNX Runtime computes it, and errors where numbers do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlic.calibration.errors import CalibrationError
from mlic.calibration.integer.float_use import complaints
from mlic.calibration.integer.reference import run_graph
from mlic.runtime.arrays import Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import chain_names, prove
from mlic.runtime.errors import EngineMismatchError
from mlic.runtime.shipped import integer_bundle
from tests.calibration.integer.chains import engine

RNG = np.random.default_rng(12)
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
UINT8, INT32, INT64, FLOAT, BOOL = (
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.FLOAT,
    TensorProto.BOOL,
)


def i32(*values: int) -> Array:
    return np.array(values, np.int32)


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def one_node(
    op: str, inputs: Sequence[Array | None], kind: int, constants: Sequence[int] = (), **attributes: object
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return a graph of one node, inputs numbered in ``constants`` as initializers, and its inputs."""
    names = ["" if array is None else f"x{number}" for number, array in enumerate(inputs)]
    fixed = {names[number]: inputs[number] for number in constants}
    given = {n: a for n, a in zip(names, inputs, strict=True) if a is not None and n not in fixed}
    graph = helper.make_graph(
        [helper.make_node(op, names, ["out"], "node", **attributes)],
        "one",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), None) for n, a in given.items()],
        [helper.make_tensor_value_info("out", kind, None)],
        [numpy_helper.from_array(a, n) for n, a in fixed.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), given


def convolution(seed: int, group: int = 1, zero: int = 131) -> tuple[list[Array], dict[str, object]]:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-60, 61, (6, 4 // group, 3, 3)).astype(np.int8)
    inputs = [
        rng.integers(0, 256, (1, 4, 9, 7)).astype(np.uint8),
        np.float32(1),
        np.uint8(zero),
        weights,
        (2.0 ** rng.uniform(-9, -6, 6)).astype(np.float32),
        np.zeros(6, np.int8),
        np.float32(1),
        np.uint8(128),
        rng.integers(-5000, 5000, 6).astype(np.int32),
    ]
    return inputs, {"group": group, "kernel_shape": [3, 3]}


CODES = RNG.integers(0, 256, (2, 3, 4, 6)).astype(np.uint8)
TURNED = CODES.transpose(0, 1, 3, 2).copy()
WEIGHTS = RNG.integers(-64, 65, (6, 5)).astype(np.int8)
WIDE = RNG.integers(-(1 << 20), 1 << 20, (3, 5)).astype(np.int32)
LONG = RNG.integers(-(1 << 30), 1 << 30, (3, 5)).astype(np.int64)
CASES: dict[str, tuple[str, Sequence[Array | None], int, Mapping[str, object]]] = {
    "division toward zero": ("Div", [i32(7, -7, 7, -7, 0, INT32_MIN), i32(2, 2, -2, -2, 5, 3)], INT32, {}),
    "division of int64": ("Div", [LONG, np.abs(LONG[:1]) // 1000 + 1], INT64, {}),
    "sum": ("Add", [WIDE, WIDE[:1]], INT32, {}),
    "difference": ("Sub", [LONG, LONG[:, :1]], INT64, {}),
    "product": ("Mul", [LONG, LONG[:1]], INT64, {}),
    "lesser": ("Min", [WIDE, i32(17)], INT32, {}),
    "larger": ("Max", [WIDE, i32(17)], INT32, {}),
    "remainder": ("Mod", [np.abs(LONG), i64(7)], INT64, {"fmod": 0}),
    "clip": ("Clip", [WIDE, np.int32(-99), np.int32(99)], INT32, {}),
    "cast down": ("Cast", [WIDE % 256], UINT8, {"to": UINT8}),
    "cast of symbols": ("Cast", [np.array([-3.0, 2.0, -(2.0**24)], np.float32)], INT32, {"to": INT32}),
    "cast to truth": ("Cast", [i64(0, 1, 5)], BOOL, {"to": BOOL}),
    "where": ("Where", [WIDE > 0, WIDE, np.int32(0)], INT32, {}),
    "sum along axes": ("ReduceSum", [LONG, i64(1)], INT64, {"keepdims": 0}),
    "maximum along an axis": ("ReduceMax", [WIDE, i64(0)], INT32, {"keepdims": 1}),
    "reshape, sides kept": ("Reshape", [CODES, i64(0, -1, 6)], UINT8, {}),
    "reshape, zeros meant": ("Reshape", [CODES[:, :0], i64(0, 4)], UINT8, {"allowzero": 1}),
    "transpose": ("Transpose", [CODES], UINT8, {"perm": [0, 2, 3, 1]}),
    "slice, by steps": ("Slice", [CODES, i64(1), i64(2**31 - 1), i64(3), i64(2)], UINT8, {}),
    "slice, from the end": ("Slice", [CODES, i64(-2), i64(99), i64(-1)], UINT8, {}),
    "pad": ("Pad", [CODES, i64(0, 0, 1, 0, 0, 1, 0, 2), np.uint8(128)], UINT8, {}),
    "pad by less than nothing": ("Pad", [CODES, i64(0, 0, -1, 1, 0, 0, 0, -2), np.uint8(3)], UINT8, {}),
    "gather": ("Gather", [CODES, i64(2, 0)], UINT8, {"axis": 1}),
    "gather one": ("Gather", [CODES, np.int64(1)], UINT8, {"axis": 3}),
    "tables": ("GatherElements", [CODES[0, 0], (WIDE[:, :4].T % 6).astype(np.int32)[:, :3]], UINT8, {"axis": 1}),
    "repeat": (
        "Resize",
        [CODES, None, np.array([1, 1, 2, 3], np.float32)],
        UINT8,
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    "product of codes": (
        "MatMulInteger",
        [CODES, CODES.transpose(0, 1, 3, 2).copy(), np.uint8(9), np.uint8(200)],
        INT32,
        {},
    ),
    "product with weights": (
        "MatMulInteger",
        [CODES, RNG.integers(-64, 65, (6, 5)).astype(np.int8), np.uint8(7)],
        INT32,
        {},
    ),
    "product of int32": ("MatMul", [WIDE, WIDE.T.copy() % 100], INT32, {}),
    "sides": ("Shape", [CODES], INT64, {"start": 2, "end": 4}),
    "range": ("Range", [np.int64(0), np.int64(9), np.int64(2)], INT64, {}),
    "expand": ("Expand", [i64(1, 2, 3), i64(2, 1)], INT64, {}),
    "squeeze": ("Squeeze", [CODES[:1], i64(0)], UINT8, {}),
    "unsqueeze": ("Unsqueeze", [WIDE, i64(0, 3)], INT32, {}),
}

SCALED = {  # floats between integers
    "scaled": ("DequantizeLinear", [WIDE, np.array([0.3, 7, 1e-4, 2, 1e-9], np.float32)], FLOAT, {"axis": 1}),
    "scaled by one number": ("DequantizeLinear", [WIDE, np.float32(1 / 3)], FLOAT, {}),
    "to codes": (
        "QuantizeLinear",
        [np.array([-1e30, -128.6, -0.5, 0.5, 1.5, 2.5, 126.49, 1e30], np.float32), np.float32(1), np.uint8(128)],
        UINT8,
        {},
    ),
}


def _constants(op: str, inputs: Sequence[Array | None]) -> list[int]:
    numbers = range(1, len(inputs)) if op in ("Resize", "Pad", "DequantizeLinear", "QuantizeLinear") else ()
    return [number for number in numbers if inputs[number] is not None]


@pytest.mark.parametrize("case", CASES | SCALED)
def test_operators_are_those_of_the_engine(case: str):
    op, inputs, kind, attributes = (CASES | SCALED)[case]
    model, given = one_node(op, inputs, kind, _constants(op, inputs), **attributes)
    expected = engine()(model, given)["out"]
    found = run_graph(model, given)["out"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"pads": [1, 1, 1, 1]},
        {"pads": [2, 0, 1, 1], "strides": [2, 1]},
        {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
    ],
)
def test_convolutions_are_those_of_the_engine(group: int, more: dict[str, object]):
    inputs, attributes = convolution(3, group)
    model, given = one_node("QLinearConv", inputs, UINT8, range(1, 9), **attributes, **more)
    expected = engine()(model, given)["out"]
    assert 0 < np.mean((expected > 0) & (expected < 255)) < 1
    np.testing.assert_array_equal(run_graph(model, given)["out"], expected)


def test_convolutions_round_halves_to_even():
    sums = np.arange(-8, 8)
    inputs = [
        np.arange(120, 136).astype(np.uint8).reshape(1, 1, 1, 16),
        np.float32(1),
        np.uint8(128),
        np.ones((1, 1, 1, 1), np.int8),
        np.array([0.5], np.float32),
        np.zeros(1, np.int8),
        np.float32(1),
        np.uint8(128),
        np.zeros(1, np.int32),
    ]
    model, given = one_node("QLinearConv", inputs, UINT8, range(1, 9), kernel_shape=[1, 1])
    found = run_graph(model, given)["out"].reshape(-1)
    np.testing.assert_array_equal(found, 128 + np.rint(sums / 2).astype(int))
    assert found[sums == 1] == 128  # 0.5
    assert found[sums == 3] == 130  # 1.5
    np.testing.assert_array_equal(found, engine()(model, given)["out"].reshape(-1))


TOO_LARGE = {
    "sum of int32": ("Add", [i32(INT32_MAX), i32(1)], INT32, {}),
    "difference of int32": ("Sub", [i32(INT32_MIN), i32(1)], INT32, {}),
    "product of int32": ("Mul", [i32(1 << 16), i32(1 << 15)], INT32, {}),
    "sum of int64": ("Add", [i64((1 << 63) - 1), i64(1)], INT64, {}),
    "product of int64": ("Mul", [i64(1 << 32), i64(1 << 31)], INT64, {}),
    "quotient of int32": ("Div", [i32(INT32_MIN), i32(-1)], INT32, {}),
    "division by nothing": ("Div", [i32(1), i32(0)], INT32, {}),
    "sum along an axis": ("ReduceSum", [i32(INT32_MAX, 1), i64(0)], INT32, {}),
    "sum of int64 along an axis": ("ReduceSum", [i64((1 << 63) - 1, 1), i64(0)], INT64, {}),
    "cast": ("Cast", [i32(256)], UINT8, {"to": UINT8}),
    "cast of int64": ("Cast", [i64(1 << 31)], INT32, {"to": INT32}),
    "cast to float": ("Cast", [i32(1 << 24)], FLOAT, {"to": FLOAT}),
    "place in a table": ("GatherElements", [WIDE, np.full((3, 1), 5, np.int32)], INT32, {"axis": 1}),
    "place before a table": ("GatherElements", [WIDE, np.full((3, 1), -1, np.int32)], INT32, {"axis": 1}),
    "product of codes": (
        "MatMulInteger",
        [np.full((1, 40000), 255, np.uint8), np.full((40000, 1), 255, np.uint8)],
        INT32,
        {},
    ),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_numbers_that_do_not_fit_are_errors_that_name_the_operator(case: str):
    op, inputs, kind, attributes = TOO_LARGE[case]
    model, given = one_node(op, inputs, kind, **attributes)
    with pytest.raises(CalibrationError, match=rf"^graph one: {op} that gives out: "):
        run_graph(model, given)


def test_accumulators_of_2_to_the_24_are_errors():
    inputs, attributes = convolution(3)
    inputs[8] = np.full(6, (1 << 24) - 1, np.int32)
    model, given = one_node("QLinearConv", inputs, UINT8, range(1, 9), **attributes)
    with pytest.raises(CalibrationError, match=r"accumulator of \d+; it must stay below 2\^24"):
        run_graph(model, given)


def test_unknown_operators_are_named():
    model, given = one_node("Erf", [np.ones(3, np.float32)], FLOAT)
    with pytest.raises(CalibrationError, match="graph one: Erf is no operator of integer graphs"):
        run_graph(model, given)
    assert "operator Erf (node)" in complaints(model)


def test_integers_are_no_reason_to_complain():
    for op, inputs, kind, attributes in CASES.values():
        model, _ = one_node(op, inputs, kind, _constants(op, inputs), **attributes)
        assert complaints(model) == [], op
    inputs_, attributes_ = convolution(1)
    assert complaints(one_node("QLinearConv", inputs_, UINT8, range(1, 9), **attributes_)[0]) == []


def scaled_to_codes(op: str) -> onnx.ModelProto:
    """Return a graph that scales integers and makes something of the floats."""
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["x", "scale"], ["f"]),
            helper.make_node(op, ["f", "one", "zero"], ["out"]),
        ],
        "scaled",
        [helper.make_tensor_value_info("x", INT32, None)],
        [helper.make_tensor_value_info("out", UINT8, None)],
        [
            numpy_helper.from_array(value, name)
            for name, value in (("scale", np.float32(0.3)), ("one", np.float32(1)), ("zero", np.uint8(128)))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_floats_between_integers_and_codes_are_no_reason_to_complain_and_others_are():
    assert complaints(scaled_to_codes("QuantizeLinear")) == []
    assert complaints(scaled_to_codes("Clip"))
    with pytest.raises(CalibrationError, match=r"^graph scaled: DequantizeLinear that gives f: "):
        run_graph(scaled_to_codes("QuantizeLinear"), {"x": i32(1 << 24)})


FLOATS = {
    "scaled and put out": ("DequantizeLinear", [i32(1), np.float32(0.3)], FLOAT, (1,), {}),
    "sum": ("Add", [np.ones(2, np.float32), np.ones(2, np.float32)], FLOAT, (), {}),
    "product": ("Mul", [np.ones(2, np.float32), np.float32(0.5)], FLOAT, (1,), {}),
    "choice": ("Where", [np.ones(2, bool), np.ones(2, np.float32), np.float32(0)], FLOAT, (2,), {}),
    "table": ("GatherElements", [np.ones((2, 3), np.float32), np.zeros((2, 1), np.int32)], FLOAT, (0,), {"axis": 1}),
    "double": ("Cast", [i32(1)], TensorProto.DOUBLE, (), {"to": TensorProto.DOUBLE}),
    "moved": ("Transpose", [np.ones((2, 3), np.float32)], FLOAT, (), {"perm": [1, 0]}),
    "cast that is put out": ("Cast", [i32(1)], FLOAT, (), {"to": FLOAT}),
    "floats as truth": ("Cast", [np.ones(2, np.float32)], BOOL, (), {"to": BOOL}),
    "root that is put out": ("Sqrt", [np.ones(2, np.float32)], FLOAT, (), {}),
}


@pytest.mark.parametrize("case", FLOATS)
def test_floats_elsewhere_are_complained_about(case: str):
    op, inputs, kind, constants, attributes = FLOATS[case]
    model, _ = one_node(op, inputs, kind, constants, **attributes)
    assert complaints(model)


def test_multipliers_that_are_computed_are_complained_about():
    inputs, attributes = convolution(1)
    model, _ = one_node("QLinearConv", inputs, UINT8, (1, 2, 3, 5, 6, 7, 8), **attributes)
    assert complaints(model) == ["input x4 of QLinearConv is a float"]


def output(factor: float) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["f"], to=FLOAT), helper.make_node("Mul", ["f", "scale"], ["out"])],
        "out",
        [helper.make_tensor_value_info("x", INT32, None)],
        [helper.make_tensor_value_info("out", FLOAT, None)],
        [numpy_helper.from_array(np.float32(factor), "scale")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_results_leave_as_floats_by_a_power_of_two_alone():
    assert complaints(output(2.0**-8)) == []
    assert complaints(output(0.3))
    assert complaints(output(-0.5))
    np.testing.assert_array_equal(run_graph(output(2.0**-8), {"x": i32(3)})["out"], np.float32([3 / 256]))


def test_certificate_of_the_model_that_ships_is_what_the_reference_computes():
    bundle = Bundle.open(integer_bundle())
    assert bundle.certificate is not None
    models = {
        name: onnx.load_from_string(bundle.read_graph(bundle.manifest.graphs[name]))
        for name in chain_names(bundle.manifest)
    }
    runs = {name: partial(run_graph, model) for name, model in models.items()}
    prove(bundle.certificate, runs, bundle.manifest, "numpy")
    runs["step_03"] = lambda inputs: {name: value + 1 for name, value in run_graph(models["step_03"], inputs).items()}
    with pytest.raises(EngineMismatchError, match=r"^graph step_03: numpy does not compute the integers"):
        prove(bundle.certificate, runs, bundle.manifest, "numpy")
