"""LayerNorm by integer sums and an integer square root."""

from __future__ import annotations

import math

import numpy as np

from mlic.calibration.integer.emitter import BOOL, FLOAT, INT32, INT64
from mlic.calibration.integer.fixed_point import LARGEST_EXACT
from mlic.calibration.integer.float_chain import Node
from mlic.calibration.integer.grids import Grid
from mlic.calibration.integer.handlers import HANDLERS
from mlic.calibration.integer.lowering import Lowering

NORM_BITS = 12  # fraction bits of the normalised values
CODE_NORM_BITS = 10  # of those that become codes
LEAST_GAIN_BITS = 6  # of a gain's fraction, for codes
LARGEST_SQUARES = 1 << 62  # of C values up to b: the sum of d² is at most C³ b²


def normalised(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Return LayerNorm over the last axis, times 2^bits."""
    graph, constants = node.graph, lowering.chain.constants
    gain = constants[node.inputs[1]].astype(np.float64)
    made, norm_bits = _centred(lowering, node, NORM_BITS)
    bound = math.ceil(lowering.bound[made] * float(np.abs(gain).max()) * 2.0 ** (bits - norm_bits)) + 2
    gained = lowering.multiplied(made, gain * 2.0 ** (bits - norm_bits), bound, graph)
    bias = lowering.fixed_constant(constants[node.inputs[2]], bits)
    return lowering.arithmetic(graph, "Add", gained, bias, lowering.bound[gained] + lowering.bound[bias])


def normalised_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str | None:
    """Return the codes of LayerNorm: gain and offset in as many bits of 24, which scaling to codes takes, as fit."""
    graph, constants, rank = node.graph, lowering.chain.constants, len(lowering.shape(name))
    gain, offset = (constants[node.inputs[number]].astype(np.float64) for number in (1, 2))
    made, norm_bits = _centred(lowering, node, CODE_NORM_BITS)
    largest = lowering.bound[made] * np.abs(gain) + 2.0**norm_bits * np.abs(offset)
    gain_bits = np.floor(np.log2(LARGEST_EXACT / (largest + lowering.bound[made])))
    if grid.axis != rank - 1:
        gain_bits = gain_bits.min()
    if np.any(gain_bits < LEAST_GAIN_BITS):
        return None
    factor = lowering.fixed_constant(gain * 2.0**gain_bits, 0)
    gained = lowering.arithmetic(graph, "Mul", made, factor, lowering.bound[made] * lowering.bound[factor])
    bias = lowering.fixed_constant(offset * 2.0 ** (norm_bits + gain_bits), 0)
    moved = lowering.arithmetic(graph, "Add", gained, bias, LARGEST_EXACT)
    return lowering.quantise(moved, norm_bits + gain_bits, grid, graph, rank)


def _centred(lowering: Lowering, node: Node, norm_bits: int) -> tuple[str, int]:
    """Return LayerNorm over the last axis before gain and offset, times 2^norm_bits, and the bits: int32.

    With C channels of value x, d = C x - sum(x) is C times the distance to the mean, and the result is
    d / sqrt(sum(d²) / C + C² epsilon).
    """
    emit, graph = lowering.emit, node.graph
    source = node.inputs[0]
    rank = len(lowering.shape(source))
    assert int(node.attributes.get("axis", -1)) % rank == rank - 1
    channels = lowering.shape(source)[-1]
    assert channels is not None
    farthest = math.isqrt(LARGEST_SQUARES // channels**3)
    source_bits = lowering.bits_for(source, min(18, farthest.bit_length() - 2))
    value = lowering.limited(lowering.fixed(source, source_bits), farthest, graph)
    wide = emit.add(graph, "Cast", [value], INT64, to=INT64)
    last = emit.int64([rank - 1])
    total = emit.add(graph, "ReduceSum", [wide, last], INT64, keepdims=1)
    distance = emit.add(graph, "Sub", [emit.add(graph, "Mul", [wide, emit.int64(channels)], INT64), total], INT64)
    squares = emit.add(graph, "Mul", [distance, distance], INT64)
    summed = emit.add(graph, "ReduceSum", [squares, last], INT64, keepdims=1)
    mean = emit.add(graph, "Div", [summed, emit.int64(channels)], INT64)
    epsilon = round(float(node.attributes.get("epsilon", 1e-5)) * (channels * 2.0**source_bits) ** 2)
    root = integer_root(lowering, emit.add(graph, "Add", [mean, emit.int64(max(epsilon, 1))], INT64), graph)
    # |d| / root <= sqrt(C)
    reach = (int(np.ceil(np.sqrt(channels))) + 1) << norm_bits
    up = emit.add(graph, "Mul", [distance, emit.int64(1 << norm_bits)], INT64)
    offset = emit.add(graph, "Mul", [root, emit.int64(reach)], INT64)
    quotient = emit.add(graph, "Div", [emit.add(graph, "Add", [up, offset], INT64), root], INT64)
    narrow = emit.add(graph, "Cast", [quotient], INT32, to=INT32)
    lowering.bound[narrow] = 2 * reach
    return lowering.arithmetic(graph, "Sub", narrow, emit.int32(reach), reach), norm_bits


def integer_root(lowering: Lowering, name: str, graph: str) -> str:
    """Return the largest integer whose square is not above a positive int64 tensor below 2^61.

    Square roots of floats differ between engines in the last bit, and a float32 holds 24 of 62. A step of Newton's
    brings any of them within 1 of the root, and a comparison on either side the rest of the way.
    """
    emit = lowering.emit
    as_float = emit.add(graph, "Cast", [name], FLOAT, to=FLOAT)
    guess = emit.add(graph, "Cast", [emit.add(graph, "Sqrt", [as_float], FLOAT)], INT64, to=INT64)
    guess = emit.add(graph, "Max", [guess, emit.int64(1)], INT64)
    both = emit.add(graph, "Add", [guess, emit.add(graph, "Div", [name, guess], INT64)], INT64)
    root = emit.add(graph, "Div", [both, emit.int64(2)], INT64)
    for step in (-1, 1):
        if step < 0:  # too large by one
            square = emit.add(graph, "Mul", [root, root], INT64)
            wrong = emit.add(graph, "Greater", [square, name], BOOL)
        else:
            after = emit.add(graph, "Add", [root, emit.int64(1)], INT64)
            square = emit.add(graph, "Mul", [after, after], INT64)
            wrong = emit.add(graph, "LessOrEqual", [square, name], BOOL)
        other = emit.add(graph, "Add", [root, emit.int64(step)], INT64)
        root = emit.add(graph, "Where", [wrong, other, root], INT64)
    return root


HANDLERS.fixed["LayerNormalization"] = normalised
HANDLERS.code["LayerNormalization"] = normalised_code
