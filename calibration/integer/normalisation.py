"""LayerNorm by integer sums and an integer square root."""

from __future__ import annotations

import math

import numpy as np

from mlic.calibration.integer.emitter import BOOL, FLOAT, INT32, INT64
from mlic.calibration.integer.float_chain import Node
from mlic.calibration.integer.lowering import HANDLERS, Lowering

NORM_BITS = 12  # fraction bits of the normalised values
GAIN_BITS = 10
LARGEST_SQUARES = 1 << 62  # of C values up to b: the sum of d² is at most C³ b²


def normalised(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Return LayerNorm over the last axis, times 2^bits.

    With C channels of value x, d = C x - sum(x) is C times the distance to the mean, and the result is
    d / sqrt(sum(d²) / C + C² epsilon) times gain plus offset.
    """
    emit, graph, constants = lowering.emit, node.graph, lowering.chain.constants
    source = node.inputs[0]
    rank = len(lowering.shape(source))
    assert int(node.attributes.get("axis", -1)) % rank == rank - 1
    channels = lowering.shape(source)[-1]
    assert channels is not None
    farthest = math.isqrt(LARGEST_SQUARES // channels**3)
    source_bits = lowering.bits_for(source, min(18, farthest.bit_length() - 2))
    value = _within(lowering, lowering.fixed(source, source_bits), farthest, graph)
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
    reach = (int(np.ceil(np.sqrt(channels))) + 1) << NORM_BITS
    up = emit.add(graph, "Mul", [distance, emit.int64(1 << NORM_BITS)], INT64)
    offset = emit.add(graph, "Mul", [root, emit.int64(reach)], INT64)
    quotient = emit.add(graph, "Div", [emit.add(graph, "Add", [up, offset], INT64), root], INT64)
    centred = emit.add(graph, "Sub", [quotient, emit.int64(reach)], INT64)
    gain = constants[node.inputs[1]].astype(np.float64)
    gained = emit.add(graph, "Mul", [centred, emit.constant(np.rint(gain * 2.0**GAIN_BITS).astype(np.int64))], INT64)
    shift = NORM_BITS + GAIN_BITS - bits
    assert shift > 0
    bound = int(np.ceil(reach * np.abs(gain).max() * 2.0 ** (bits - NORM_BITS))) + 2
    moved = emit.add(graph, "Add", [gained, emit.int64((bound << shift) + (1 << (shift - 1)))], INT64)
    shifted = emit.add(graph, "Div", [moved, emit.int64(1 << shift)], INT64)
    back = emit.add(graph, "Sub", [shifted, emit.int64(bound)], INT64)
    made = emit.add(graph, "Cast", [back], INT32, to=INT32)
    lowering.bound[made] = bound
    bias = lowering.fixed_constant(constants[node.inputs[2]], bits)
    return lowering.arithmetic(graph, "Add", made, bias, bound + lowering.bound[bias])


def _within(lowering: Lowering, name: str, farthest: int, graph: str) -> str:
    """Clip a fixed tensor, where it may be larger."""
    if lowering.bound[name] <= farthest:
        return name
    made = lowering.emit.add(
        graph, "Clip", [name, lowering.emit.int32(-farthest), lowering.emit.int32(farthest)], INT32
    )
    lowering.bound[made] = farthest
    return made


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
