"""The operators of integer graphs in numpy, as docs/integer-chain.md defines them.

An operator takes its inputs, None where an optional one is left out, and ONNX's attributes. It raises where a number
does not fit into the type that it must have. Sums and products of int64 that might leave it are done with Python's
integers, which have no limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from mlic.runtime.arrays import Array

EXACT_FLOAT = 1 << 24  # float32 holds all integers up to here

Attributes = Mapping[str, Any]
Inputs = Sequence[Array | None]
Operator = Callable[[Inputs, Attributes], Array]


def _given(inputs: Inputs, number: int) -> Array:
    value = inputs[number]
    assert value is not None, f"input {number} is missing"
    return value


def _axes(inputs: Inputs) -> tuple[int, ...]:
    return tuple(int(axis) for axis in _given(inputs, 1).reshape(-1))


# Numbers


def within(values: Array, dtype: np.dtype[Any] | type) -> Array:
    """Return integers in another type.

    Raises:
        OverflowError: one of them does not fit.
    """
    limits = np.iinfo(dtype)
    if values.size and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise OverflowError(f"{values.min()}..{values.max()} does not fit into {np.dtype(dtype)}")
    return values.astype(dtype)


def _limitless(*arrays: Array) -> list[Array]:
    """Return integers so that no sum and no product of two of them, element by element, can overflow."""
    largest = 1
    for values in arrays:
        largest *= 1 + max(abs(int(values.min(initial=0))), abs(int(values.max(initial=0))))
    return [values.astype(np.int64 if largest < 1 << 62 else object) for values in arrays]


def _arithmetic(operation: Callable[[Array, Array], Array]) -> Operator:
    """Return an operator of two integer arrays of one type, whose results must fit into it."""

    def operator(inputs: Inputs, _: Attributes) -> Array:
        one, other = _given(inputs, 0), _given(inputs, 1)
        if one.dtype == np.float32:  # by a power of two, at the outputs
            return np.asarray(operation(one, other))
        assert one.dtype == other.dtype, f"{one.dtype} and {other.dtype}"
        return within(np.asarray(operation(*_limitless(one, other))), one.dtype)

    return operator


def _truncated(one: Array, other: Array) -> Array:
    """Divide and round toward zero, as C does."""
    if np.any(other == 0):
        raise ZeroDivisionError("division by 0")
    quotient = abs(one) // abs(other)
    return np.where((one < 0) == (other < 0), quotient, -quotient)


def _compare(operation: Callable[[Any, Any], Any]) -> Operator:
    return lambda inputs, _: np.asarray(operation(_given(inputs, 0), _given(inputs, 1)), bool)


def _cast(inputs: Inputs, attributes: Attributes) -> Array:
    """Change the type; no value may change but those of int64 that become a first guess at a root."""
    values, dtype = _given(inputs, 0), helper.tensor_dtype_to_np_dtype(attributes["to"])
    if attributes["to"] == TensorProto.FLOAT and values.dtype == np.int32 and np.any(np.abs(values) >= EXACT_FLOAT):
        raise OverflowError("an integer of 2^24 or more as float32")
    if dtype.kind in "iu" and values.dtype.kind in "iuf":
        return within(np.trunc(values) if values.dtype.kind == "f" else values, dtype)
    return values.astype(dtype)


def _sqrt(inputs: Inputs, _: Attributes) -> Array:
    return np.asarray(np.sqrt(_given(inputs, 0)), np.float32)


def _extreme(operation: Callable[[Array, Array], Array]) -> Operator:
    return lambda inputs, _: np.asarray(operation(_given(inputs, 0), _given(inputs, 1)))


def _where(inputs: Inputs, _: Attributes) -> Array:
    condition, one, other = (_given(inputs, number) for number in range(3))
    assert one.dtype == other.dtype, f"{one.dtype} and {other.dtype}"
    return np.where(condition, one, other)


def _clip(inputs: Inputs, _: Attributes) -> Array:
    """Limit values on one side or both."""
    low, high = (inputs[number] if len(inputs) > number else None for number in (1, 2))
    return np.clip(_given(inputs, 0), low, high)


# Products and sums


def _q_linear_conv(inputs: Inputs, attributes: Attributes) -> Array:
    """Convolve codes less their zero, add the bias, multiply once in float32, round halves to even, add the zero."""
    codes, weights = _given(inputs, 0), _given(inputs, 3)
    bias = _given(inputs, 8)
    for number in (1, 6):
        if _given(inputs, number) != 1:
            raise ValueError("scales of inputs and results must be 1: the multiplier is that of the weights")
    if np.any(_given(inputs, 5)):
        raise ValueError("weights with a zero other than 0")
    values = codes.astype(np.int64) - int(_given(inputs, 2))
    sums = convolved(values, weights.astype(np.int64), attributes) + bias.astype(np.int64)[:, None, None]
    if np.abs(sums).max(initial=0) >= EXACT_FLOAT:
        raise OverflowError(f"accumulator of {np.abs(sums).max()}; it must stay below 2^24")
    scaled = sums.astype(np.float32) * _given(inputs, 4).astype(np.float32)[:, None, None]
    result: Array = np.clip(np.rint(scaled).astype(np.int64) + int(_given(inputs, 7)), 0, 255).astype(np.uint8)
    return result


def _dequantize_linear(inputs: Inputs, attributes: Attributes) -> Array:
    """Multiply integers that a float32 holds exactly, once in float32."""
    values, scale = _given(inputs, 0), _given(inputs, 1)
    if len(inputs) > 2 or values.dtype != np.int32:
        raise ValueError("DequantizeLinear of other than int32 without a zero")
    if np.abs(values).max(initial=0) >= EXACT_FLOAT:
        raise OverflowError(f"{np.abs(values).max()} is to be scaled; it must stay below 2^24")
    if scale.ndim:
        axis = attributes.get("axis", 1) % values.ndim
        scale = scale.reshape([-1 if axis == other else 1 for other in range(values.ndim)])
    return np.asarray(values.astype(np.float32) * scale, np.float32)


def _quantize_linear(inputs: Inputs, _: Attributes) -> Array:
    """Round halves to even and add the zero; what is beyond a code's range stays at its end."""
    if np.any(_given(inputs, 1) != 1):
        raise ValueError("the scale of results must be 1")
    # No rounded value that a code can be is beyond 2^24, and int32 holds more.
    rounded = np.clip(np.rint(_given(inputs, 0)), -EXACT_FLOAT, EXACT_FLOAT).astype(np.int64)
    result: Array = np.clip(rounded + int(_given(inputs, 2)), 0, 255).astype(np.uint8)
    return result


def convolved(values: Array, weights: Array, attributes: Attributes) -> Array:
    """Return a convolution of integers.

    Args:
        values: int64 [1, C, h, w].
        weights: int64 [out, C / group, kh, kw].
        attributes: of ONNX's ``Conv``.
    """
    group, (down, across) = attributes.get("group", 1), attributes.get("strides", (1, 1))
    tall, wide = attributes.get("dilations", (1, 1))
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    kernel = weights.shape[2:]
    rows = (padded.shape[2] - tall * (kernel[0] - 1) - 1) // down + 1
    columns = (padded.shape[3] - wide * (kernel[1] - 1) - 1) // across + 1
    outputs, depth = weights.shape[0] // group, weights.shape[1]
    result = np.zeros((values.shape[0], weights.shape[0], rows, columns), np.int64)
    for number in range(group):
        mine = slice(number * outputs, (number + 1) * outputs)
        for row, column in np.ndindex(*kernel):
            y, x = row * tall, column * wide
            seen = padded[:, number * depth : (number + 1) * depth]
            seen = seen[:, :, y : y + down * (rows - 1) + 1 : down, x : x + across * (columns - 1) + 1 : across]
            result[:, mine] += np.tensordot(weights[mine, :, row, column], seen[0], 1)[None]
    return result


def _mat_mul_integer(inputs: Inputs, _: Attributes) -> Array:
    """Multiply matrices of codes, each less its zero, in 32 bits."""
    factors = [_given(inputs, number).astype(np.int64) for number in (0, 1)]
    for number in (0, 1):
        if len(inputs) > number + 2 and inputs[number + 2] is not None:
            factors[number] = factors[number] - _given(inputs, number + 2).astype(np.int64)
    return within(factors[0] @ factors[1], np.int32)


def _mat_mul(inputs: Inputs, _: Attributes) -> Array:
    return within(_given(inputs, 0).astype(np.int64) @ _given(inputs, 1).astype(np.int64), np.int32)


def _reduce_sum(inputs: Inputs, attributes: Attributes) -> Array:
    values = _given(inputs, 0)
    axes = _axes(inputs)
    count = np.array([values.size])  # more than the terms of any sum
    wide, _ = _limitless(values, count)
    return within(np.asarray(wide.sum(axes, keepdims=bool(attributes.get("keepdims", 1)))), values.dtype)


def _reduce_max(inputs: Inputs, attributes: Attributes) -> Array:
    return np.asarray(_given(inputs, 0).max(_axes(inputs), keepdims=bool(attributes.get("keepdims", 1))))


# Moving elements


def _gather(inputs: Inputs, attributes: Attributes) -> Array:
    return np.take(_given(inputs, 0), _given(inputs, 1), attributes.get("axis", 0))


def _gather_elements(inputs: Inputs, attributes: Attributes) -> Array:
    """Look up in the row of a table that belongs to each row of indexes; none may lie outside."""
    table, indexes = _given(inputs, 0), _given(inputs, 1)
    axis = attributes.get("axis", 0)
    if indexes.size and (indexes.min() < 0 or indexes.max() >= table.shape[axis]):
        raise IndexError(f"{indexes.min()}..{indexes.max()} in a table of {table.shape[axis]}")
    return np.take_along_axis(table, indexes.astype(np.int64), axis)


def _reshape(inputs: Inputs, attributes: Attributes) -> Array:
    values, sides = _given(inputs, 0), [int(side) for side in _given(inputs, 1)]
    if not attributes.get("allowzero", 0):
        sides = [side or values.shape[axis] for axis, side in enumerate(sides)]
    return values.reshape(sides)


def _transpose(inputs: Inputs, attributes: Attributes) -> Array:
    return _given(inputs, 0).transpose(attributes.get("perm"))


def _slice(inputs: Inputs, _: Attributes) -> Array:
    values, (starts, ends) = _given(inputs, 0), (_given(inputs, 1), _given(inputs, 2))
    axes = _given(inputs, 3) if len(inputs) > 3 else np.arange(len(starts))
    steps = _given(inputs, 4) if len(inputs) > 4 else np.ones(len(starts), np.int64)
    picked = [slice(None)] * values.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        picked[int(axis)] = slice(int(start), int(end), int(step))
    return values[tuple(picked)]


def _pad(inputs: Inputs, attributes: Attributes) -> Array:
    """Surround with a constant; a negative pad cuts."""
    if attributes.get("mode", b"constant") != b"constant":
        raise ValueError("pads other than constant ones")
    values, pads = _given(inputs, 0), _given(inputs, 1)
    before, after = pads[: values.ndim], pads[values.ndim :]
    cut = values[tuple(slice(max(0, -b), n + min(0, a)) for b, a, n in zip(before, after, values.shape, strict=True))]
    widths = [(max(0, int(b)), max(0, int(a))) for b, a in zip(before, after, strict=True)]
    return np.pad(cut, widths, constant_values=_given(inputs, 2).reshape(-1)[0])


def _resize(inputs: Inputs, attributes: Attributes) -> Array:
    """Repeat elements: nearest neighbours at whole factors."""
    values, factors = _given(inputs, 0), _given(inputs, 2)
    if attributes.get("mode", b"nearest") != b"nearest" or np.any(factors != np.rint(factors)):
        raise ValueError("Resize other than by repeating")
    for axis, factor in enumerate(factors):
        values = np.repeat(values, int(factor), axis)
    return values


def _shape(inputs: Inputs, attributes: Attributes) -> Array:
    return np.array(_given(inputs, 0).shape[attributes.get("start", 0) : attributes.get("end")], np.int64)


def _range(inputs: Inputs, _: Attributes) -> Array:
    return np.arange(*(int(_given(inputs, number)) for number in range(3)), dtype=_given(inputs, 0).dtype)


def _unsqueeze(inputs: Inputs, _: Attributes) -> Array:
    return np.expand_dims(_given(inputs, 0), _axes(inputs))


def _squeeze(inputs: Inputs, _: Attributes) -> Array:
    return _given(inputs, 0).squeeze(_axes(inputs) if len(inputs) > 1 else None)


def _concat(inputs: Inputs, attributes: Attributes) -> Array:
    return np.concatenate([value for value in inputs if value is not None], attributes["axis"])


def _expand(inputs: Inputs, _: Attributes) -> Array:
    values, sides = _given(inputs, 0), tuple(int(side) for side in _given(inputs, 1))
    return np.broadcast_to(values, np.broadcast_shapes(values.shape, sides))


OPERATORS: Mapping[str, Operator] = {
    "Add": _arithmetic(np.add),
    "And": _compare(np.logical_and),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "DequantizeLinear": _dequantize_linear,
    "Div": _arithmetic(_truncated),
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Greater": _compare(np.greater),
    "GreaterOrEqual": _compare(np.greater_equal),
    "Identity": lambda inputs, _: _given(inputs, 0),
    "Less": _compare(np.less),
    "LessOrEqual": _compare(np.less_equal),
    "MatMul": _mat_mul,
    "MatMulInteger": _mat_mul_integer,
    "Max": _extreme(np.maximum),
    "Min": _extreme(np.minimum),
    "Mod": _arithmetic(np.mod),
    "Mul": _arithmetic(np.multiply),
    "Not": lambda inputs, _: np.logical_not(_given(inputs, 0)),
    "Pad": _pad,
    "QLinearConv": _q_linear_conv,
    "QuantizeLinear": _quantize_linear,
    "Range": _range,
    "ReduceMax": _reduce_max,
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Sqrt": _sqrt,
    "Squeeze": _squeeze,
    "Sub": _arithmetic(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
