"""Convolutions: 8 bits in, 8 bits out, or more where several outputs of 8 bits share the range."""

from __future__ import annotations

import numpy as np

from mlic.calibration.integer.emitter import INT32, UINT8
from mlic.calibration.integer.float_chain import Node
from mlic.calibration.integer.grids import SIGNED_ZERO, TOP, Grid, means
from mlic.calibration.integer.handlers import HANDLERS
from mlic.calibration.integer.lowering import Lowering, static
from mlic.calibration.integer.weights import IntegerWeights, corrected, integer_weights
from mlic.runtime.arrays import Array

_KEPT = ("kernel_shape", "pads", "strides", "dilations")


def code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str:
    """Return a convolution's result on a grid."""
    channels = static(lowering.shape(name), 1)
    scale, zero = (np.broadcast_to(value, (channels,)) for value in (grid.scale, grid.zero))
    return _convolution(lowering, node, np.arange(channels), scale, zero)


def channels_code(lowering: Lowering, node: Node, channels: Array, grid: Grid) -> str:
    """Return some channels of a convolution's result, and no others, on a grid of theirs."""
    scale, zero = (np.broadcast_to(value, (len(channels),)) for value in (grid.scale, grid.zero))
    return _convolution(lowering, node, channels, scale, zero)


def fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Return a convolution's result times 2^bits; from 8 bits."""
    return lowering.fixed_from_code(name, bits)


def in_pieces(lowering: Lowering, node: Node, channels: Array, limits: Array) -> str:
    """Return a convolution's result in more than 8 bits.

    A piece is a copy of the output that covers a part of the range in 255 steps and stays at either end outside of it,
    as 8-bit arithmetic does by itself. The sum of the pieces is a number that grows with the value, in steps that may
    differ from piece to piece.

    Args:
        lowering: where to emit.
        node: the convolution.
        channels: of its output.
        limits: float64 [channels, pieces + 1], ascending: where the pieces begin and end.

    Returns:
        int32 [1, channels, h, w], 0..255 pieces.
    """
    count, pieces = limits.shape[0], limits.shape[1] - 1
    steps = np.diff(limits, axis=1) / TOP  # [channels, pieces]
    zeros = -limits[:, :-1] / steps
    codes = _convolution(lowering, node, np.tile(channels, pieces), steps.T.reshape(-1), zeros.T.reshape(-1))
    emit, graph = lowering.emit, node.graph
    wide = emit.add(graph, "Cast", [codes], INT32, to=INT32)
    apart = emit.add(graph, "Reshape", [wide, emit.int64([pieces, count, 0, 0])], INT32)  # 0: as it is
    total = emit.add(graph, "ReduceSum", [apart, emit.int64([0])], INT32, keepdims=1)
    lowering.bound[total] = TOP * pieces
    return total


def piece_values(limits: Array) -> Array:
    """Return what the sums of ``in_pieces`` stand for: float64 [channels, 255 pieces + 1]."""
    pieces = limits.shape[1] - 1
    places = np.arange(TOP * pieces + 1)
    piece = np.minimum(places // TOP, pieces - 1)
    steps = np.diff(limits, axis=1) / TOP
    result: Array = limits[:, piece] + (places - TOP * piece) * steps[:, piece]
    return result


def _convolution(lowering: Lowering, node: Node, channels: Array, scale: Array, zero: Array) -> str:
    """Emit QLinearConv with these output channels, in this order, and the grid of each."""
    emit, constants, graph = lowering.emit, lowering.chain.constants, node.graph
    source = node.inputs[0]
    weights = constants[node.inputs[1]].astype(np.float64)
    outputs = len(weights)
    bias = constants[node.inputs[2]].astype(np.float64) if len(node.inputs) > 2 else np.zeros(outputs)
    groups = node.attributes.get("group", 1)
    grid = lowering.input_grid(source, 1)
    assert grid.common_zero is not None
    codes = lowering.code(source, grid)
    inputs = static(lowering.shape(source), 1)
    per_group = inputs // groups
    group_of = channels // (outputs // groups)
    used = np.unique(group_of)
    if len(used) < groups:
        first, end = int(used.min()) * per_group, (int(used.max()) + 1) * per_group
        codes = lowering.once(
            ("slice", codes, str(first), str(end)),
            lambda: emit.add(graph, "Slice", [codes, emit.int64([first]), emit.int64([end]), emit.int64([1])], UINT8),
        )
    if len(used) > 1 and np.any(np.diff(group_of) < 0):  # groups in turn, each with all its copies, then back again
        order = np.argsort(group_of, kind="stable")
    else:
        order = np.arange(len(channels))
    chosen = channels[order]
    along = np.broadcast_to(grid.scale, (inputs,)).reshape(groups, per_group)[group_of[order]]
    scaled = weights[chosen] * along[:, :, None, None]
    scale, zero = scale[order], zero[order]
    integers = integer_weights(scaled, bias[chosen] + (zero - SIGNED_ZERO) * scale, grid.common_zero, _title(node))
    biased = _bias_correction(lowering, source, grid, scaled, along, integers, group_of[order], per_group)
    integers = corrected(integers, biased)
    multiplier = (integers.quantum / scale).astype(np.float32)
    kept = {key: value for key, value in node.attributes.items() if key in _KEPT}
    result = emit.add(
        graph,
        "QLinearConv",
        [
            codes,
            emit.constant(np.float32(1)),
            emit.constant(np.uint8(grid.common_zero)),
            emit.constant(integers.integers),
            emit.constant(multiplier),
            emit.constant(np.zeros(len(chosen), np.int8)),
            emit.constant(np.float32(1)),
            emit.constant(np.uint8(SIGNED_ZERO)),
            emit.constant(integers.bias),
        ],
        UINT8,
        group=len(used),
        **kept,
    )
    if np.array_equal(order, np.arange(len(order))):
        return result
    back = emit.constant(np.argsort(order).astype(np.int64))
    return emit.add(graph, "Gather", [result, back], UINT8, axis=1)


def _bias_correction(
    lowering: Lowering,
    source: str,
    grid: Grid,
    scaled: Array,
    along: Array,
    integers: IntegerWeights,
    group_of: Array,
    per_group: int,
) -> Array:
    """Return by how much rounding moves the mean of each output, on the photos of calibration: float64 [out].

    The padding's zeros are taken for inputs like the others.
    """
    before, after = means(lowering.source.of(source, 1), grid)
    sums = scaled.sum((2, 3)) / along, integers.integers.sum((2, 3)) * integers.quantum[:, None] / along
    picked = group_of[:, None] * per_group + np.arange(per_group)
    result: Array = (sums[0] * before[picked] - sums[1] * after[picked]).sum(1)
    return result


def _title(node: Node) -> str:
    return f"graph {node.graph}: layer {node.inputs[1].partition('/')[2]}"


HANDLERS.code["Conv"] = code
HANDLERS.fixed["Conv"] = fixed
