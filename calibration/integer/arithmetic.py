"""Sums, products and quotients of activations, and the packing of a checkerboard half."""

from __future__ import annotations

import functools
import math

import numpy as np

from mlic.calibration.errors import CalibrationError
from mlic.calibration.integer.emitter import BOOL, INT32, INT64, UINT8
from mlic.calibration.integer.fixed_point import INT32_MAX
from mlic.calibration.integer.float_chain import Node
from mlic.calibration.integer.grids import Grid
from mlic.calibration.integer.handlers import HANDLERS
from mlic.calibration.integer.lowering import Lowering

FRACTION = 14  # bits of the factors of a product


def added(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Add or subtract fixed values."""
    one, other = (lowering.fixed(source, bits) for source in node.inputs)
    return lowering.arithmetic(node.graph, node.op, one, other, lowering.bound[one] + lowering.bound[other])


def multiplied(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Multiply two fixed values; a mask chooses instead."""
    for source, other in (node.inputs, node.inputs[::-1]):
        if lowering.is_mask(other):
            value = lowering.fixed(source, bits)
            made = lowering.emit.add(node.graph, "Where", [lowering.mask(other), value, lowering.emit.int32(0)], INT32)
            lowering.bound[made] = lowering.bound[value]
            return made
    bit = [
        min(FRACTION, lowering.bits_for(source, 18)) if not lowering.chain.is_constant(source) else FRACTION
        for source in node.inputs
    ]
    factors = [lowering.fixed(source, b) for source, b in zip(node.inputs, bit, strict=True)]
    emit, graph = lowering.emit, node.graph
    wide = [emit.add(graph, "Cast", [factor], INT64, to=INT64) for factor in factors]
    product = emit.add(graph, "Mul", wide, INT64)
    largest = lowering.bound[factors[0]] * lowering.bound[factors[1]]
    return _narrowed(lowering, product, largest, sum(bit) - bits, graph)


def _narrowed(lowering: Lowering, product: str, largest: int, shift: int, graph: str) -> str:
    """Return an int64 tensor divided by 2^shift, rounded, as int32."""
    emit = lowering.emit
    if shift < 0:
        product = emit.add(graph, "Mul", [product, emit.int64(1 << -shift)], INT64)
        largest, shift = largest << -shift, 0
    bound = (largest >> shift) + 1
    if shift:
        moved = emit.add(graph, "Add", [product, emit.int64((bound << shift) + (1 << (shift - 1)))], INT64)
        divided = emit.add(graph, "Div", [moved, emit.int64(1 << shift)], INT64)
        product = emit.add(graph, "Sub", [divided, emit.int64(bound)], INT64)
    if bound > INT32_MAX:
        raise CalibrationError(f"graph {graph}: a product may leave the range of 32 bits")
    made = emit.add(graph, "Cast", [product], INT32, to=INT32)
    lowering.bound[made] = bound
    return made


def divided(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Divide two positive fixed values."""
    emit, graph = lowering.emit, node.graph
    one, other = (lowering.fixed(source, FRACTION) for source in node.inputs)
    up, down = (emit.add(graph, "Cast", [value], INT64, to=INT64) for value in (one, other))
    up = emit.add(graph, "Mul", [up, emit.int64(1 << bits)], INT64)
    down = emit.add(graph, "Max", [down, emit.int64(1)], INT64)
    half = emit.add(graph, "Div", [down, emit.int64(2)], INT64)
    quotient = emit.add(graph, "Div", [emit.add(graph, "Add", [up, half], INT64), down], INT64)
    largest = math.ceil(2 * lowering.source.of(name, None).largest * 2.0**bits)
    capped = emit.add(graph, "Min", [quotient, emit.int64(largest)], INT64)
    floored = emit.add(graph, "Max", [capped, emit.int64(0)], INT64)
    made = emit.add(graph, "Cast", [floored], INT32, to=INT32)
    lowering.bound[made] = largest
    return made


def summed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Add up along axes that do not follow the picture."""
    source = lowering.fixed(node.inputs[0], bits)
    axes = lowering.chain.constants[node.inputs[1]]
    count = math.prod(lowering.shape(node.inputs[0])[int(axis)] or 0 for axis in axes)
    if not 0 < count * lowering.bound[source] <= INT32_MAX:
        raise CalibrationError(f"graph {node.graph}: ReduceSum may leave the range of 32 bits")
    made = lowering.emit.add(node.graph, "ReduceSum", [source, lowering.emit.int64(axes)], INT32, **node.attributes)
    lowering.bound[made] = count * lowering.bound[source]
    return made


def masked_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str | None:
    """Choose between codes and zero."""
    for source, other in (node.inputs, node.inputs[::-1]):
        if lowering.is_mask(other) and grid.common_zero is not None:
            zero = lowering.emit.constant(np.uint8(grid.common_zero))
            return lowering.emit.add(
                node.graph, "Where", [lowering.mask(other), lowering.code(source, grid), zero], UINT8
            )
    return None


def _packed(lowering: Lowering, node: Node) -> tuple[str, str] | None:
    """Return the map and the mask of ``AveragePool(map * 2 mask)`` over pairs in a row, which packs a half."""
    product = lowering.chain.producer.get(node.inputs[0])
    if tuple(node.attributes["kernel_shape"]) != (1, 2) or product is None or product.op != "Mul":
        return None
    for source, other in (product.inputs, product.inputs[::-1]):
        twice = lowering.chain.producer.get(other)
        if twice is not None and twice.op == "Mul":
            for mask, factor in (twice.inputs, twice.inputs[::-1]):
                if lowering.is_mask(mask) and lowering.is_number(factor, 2):
                    return source, mask
    return None


def packed_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str | None:
    """Pack a half of a checkerboard: one code of each pair."""
    found = _packed(lowering, node)
    if found is None:
        return None
    source, mask = found
    return _half(lowering, node.graph, lowering.code(source, grid), mask)


def packed_fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Pack a half of a checkerboard: one value of each pair."""
    found = _packed(lowering, node)
    assert found is not None, "AveragePool is known as the packing of a checkerboard alone"
    source, mask = found
    value = lowering.fixed(source, bits)
    made = _half(lowering, node.graph, value, mask)
    lowering.bound[made] = lowering.bound[value]
    return made


def _half(lowering: Lowering, graph: str, name: str, mask: str) -> str:
    """Return of each pair in a row the element that a mask keeps; it keeps one of them.

    Odd and even columns are taken apart by a transposition, once for both halves: engines move elements fast that way,
    and one by one slowly.
    """
    emit, kind = lowering.emit, lowering.emit.types[name]

    def columns(parity: int) -> str:
        end, axis = emit.int64([parity + 1]), emit.int64([0])
        apart = lowering.once(("columns apart", name, graph), turned)
        taken = emit.add(graph, "Slice", [apart, emit.int64([parity]), end, axis], kind)
        return emit.add(graph, "Squeeze", [taken, axis], kind)

    def turned() -> str:
        pairs = emit.add(graph, "Reshape", [name, emit.int64([0, 0, 0, -1, 2])], kind)  # 0: as it is
        return emit.add(graph, "Transpose", [pairs], kind, perm=[4, 0, 1, 2, 3])

    def is_even() -> str:
        limits = [emit.int64([value]) for value in (0, 2**31 - 1, 3, 2)]
        return emit.add(graph, "Slice", [lowering.mask(mask), *limits], BOOL)

    even, odd = (
        lowering.once(("columns", name, str(parity), graph), functools.partial(columns, parity)) for parity in (0, 1)
    )
    kept = lowering.once(("even columns kept", mask, graph), is_even)
    return emit.add(graph, "Where", [kept, even, odd], kind)


def _unmasked(lowering: Lowering, node: Node, name: str) -> tuple[str, None] | None:
    """Return what a mask is laid over, or a half is packed from."""
    if node.op == "AveragePool":
        found = _packed(lowering, node)
        return None if found is None else (found[0], None)
    for source, other in (node.inputs, node.inputs[::-1]):
        if lowering.is_mask(other):
            return source, None
    return None


HANDLERS.part["Mul"] = HANDLERS.part["AveragePool"] = _unmasked
HANDLERS.fixed["Add"] = added
HANDLERS.fixed["Sub"] = added
HANDLERS.fixed["Mul"] = multiplied
HANDLERS.code["Mul"] = masked_code
HANDLERS.fixed["Div"] = divided
HANDLERS.fixed["ReduceSum"] = summed
HANDLERS.code["AveragePool"] = packed_code
HANDLERS.fixed["AveragePool"] = packed_fixed
