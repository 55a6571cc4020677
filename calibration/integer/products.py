"""Matrix products: with constant weights, of two activations, and with the weights of a softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mlic.calibration.integer.emitter import INT32, INT64, UINT8
from mlic.calibration.integer.float_chain import Node
from mlic.calibration.integer.grids import SIGNED_ZERO, TOP, Grid
from mlic.calibration.integer.handlers import HANDLERS
from mlic.calibration.integer.lowering import Lowering
from mlic.calibration.integer.movement import moved_code
from mlic.calibration.integer.softmax import Shares, in_order, shares_of, total_of_few
from mlic.calibration.integer.weights import integer_weights


def weighed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Return a product with constant weights, Gemm or MatMul, times 2^bits."""
    constants, emit, graph = lowering.chain.constants, lowering.emit, node.graph
    source, weights = node.inputs[0], constants[node.inputs[1]].astype(np.float64)
    if node.attributes.get("transB"):
        weights = weights.T
    assert not node.attributes.get("transA")
    columns = weights.shape[-1]
    shape = lowering.shape(source)
    root, _ = lowering.root_of(source)
    axis = None if root != source or weights.ndim > 2 else len(shape) - 1
    grid = lowering.input_grid(source, axis)
    assert grid.common_zero is not None
    codes = lowering.code(source, grid)
    scaled = weights * np.broadcast_to(grid.scale, (weights.shape[-2],))[:, None]
    # One quantum for each column, shared by all matrices of a batch.
    rows = np.moveaxis(scaled, -1, 0).reshape(columns, -1)
    integers = integer_weights(rows, np.zeros(columns), grid.common_zero, f"graph {graph}: {node.inputs[1]}")
    matrix = np.moveaxis(integers.integers.reshape(columns, *scaled.shape[:-1]), 0, -1)
    product = emit.add(
        graph,
        "MatMulInteger",
        [codes, emit.constant(np.ascontiguousarray(matrix)), emit.constant(np.uint8(grid.common_zero))],
        INT32,
    )
    lowering.bound[product] = int(integers.bound.max())
    factor = integers.quantum * 2.0**bits
    bound = math.ceil(float((integers.bound * factor).max())) + 1
    made = lowering.multiplied(product, factor, bound, graph)
    if len(node.inputs) > 2:
        bias = lowering.fixed_constant(constants[node.inputs[2]], bits)
        made = lowering.arithmetic(graph, "Add", made, bias, lowering.bound[made] + lowering.bound[bias])
    return made


def product_fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Return a matrix product times 2^bits."""
    if lowering.chain.is_constant(node.inputs[1]):
        if lowering.is_mask(node.inputs[0]) or _is_masklike(lowering, node.inputs[0]):
            return _of_integers(lowering, node, bits)
        return weighed(lowering, node, name, bits)
    shares = shares_of(lowering, node)
    if shares is not None:
        return _shared_fixed(lowering, node, shares, bits)
    made = lowering.once(("product", name), lambda: _product(lowering, node))
    own = _factor_grids(lowering, node)[1]
    shift = lowering.scaled_up if bits >= own else lowering.shifted_down
    return shift(made, abs(bits - own), node.graph)


def _factor_grids(lowering: Lowering, node: Node) -> tuple[list[Grid], int]:
    """Return the grids of two activations whose product has a quantum of 2^-bits, and the bits.

    Both are made coarser by less than the root of 2, so that what comes out needs no multiplication.
    """
    grids = [lowering.symmetric_grid(source, None) for source in node.inputs]
    quantum = float(grids[0].scale * grids[1].scale)
    bits = math.floor(-math.log2(quantum))
    coarser = math.sqrt(2.0**-bits / quantum)
    return [Grid(grid.scale * coarser, grid.zero) for grid in grids], bits


def product_bits(lowering: Lowering, node: Node) -> int | None:
    """Return the fraction bits that a product of two activations has by itself; None for other products."""
    if any(lowering.chain.is_constant(source) for source in node.inputs) or shares_of(lowering, node, emit=False):
        return None
    return _factor_grids(lowering, node)[1]


def _product(lowering: Lowering, node: Node) -> str:
    """Return a product of two activations, with the bits that it has by itself."""
    emit, graph = lowering.emit, node.graph
    grids, _ = _factor_grids(lowering, node)
    codes = [lowering.code(source, grid) for source, grid in zip(node.inputs, grids, strict=True)]
    zero = emit.constant(np.uint8(SIGNED_ZERO))
    made = emit.add(graph, "MatMulInteger", [*codes, zero, zero], INT32)
    depth = lowering.shape(node.inputs[0])[-1]
    assert depth is not None
    lowering.bound[made] = depth * SIGNED_ZERO**2
    return made


def _is_masklike(lowering: Lowering, name: str) -> bool:
    """Say whether a tensor is a mask, or one less a mask, in another shape."""
    node = lowering.chain.producer.get(name)
    return node is not None and node.op in ("Slice", "Reshape", "Unsqueeze") and lowering.is_mask(node.inputs[0])


def _of_integers(lowering: Lowering, node: Node, bits: int) -> str:
    """Return the product of a mask with constants, in 32 bits."""
    ones = lowering.fixed(node.inputs[0], 0)
    weights = lowering.fixed_constant(lowering.chain.constants[node.inputs[1]], bits)
    depth = lowering.chain.constants[node.inputs[1]].shape[-2]
    return lowering.arithmetic(node.graph, "MatMul", ones, weights, depth * lowering.bound[weights])


def _sums(lowering: Lowering, node: Node, shares: Shares, other: str, grid: Grid) -> tuple[str, str]:
    """Return the sums of values weighed by a softmax's numerators, and the sums of the numerators.

    A row or column of ones among the values makes the second come with the first. Both are int32, or int64 for several
    digits.
    """
    emit, graph = lowering.emit, node.graph
    codes = lowering.code(other, grid)
    zero, none = emit.constant(np.uint8(SIGNED_ZERO)), emit.constant(np.uint8(0))
    rank = len(lowering.shape(other))
    if (
        shares.is_first and shares.terms is not None and len(shares.digits) == 1
    ):  # a column would have to be cut off again
        total = in_order(lowering, total_of_few(lowering, shares.softmax), shares.order, graph)
        return emit.add(graph, "MatMulInteger", [shares.digits[0][0], codes, none, zero], INT32), total
    along = rank - 1 if shares.is_first else rank - 2
    pads = [0] * (2 * rank)
    pads[rank + along] = 1
    values = emit.add(graph, "Pad", [codes, emit.int64(pads), emit.constant(np.uint8(SIGNED_ZERO + 1))], UINT8)
    kind, both = INT32, ""
    for digit, place in shares.digits:
        factors = [digit, values, none, zero] if shares.is_first else [values, digit, zero, none]
        part = emit.add(graph, "MatMulInteger", factors, INT32)
        if len(shares.digits) > 1:
            kind = INT64
            part = emit.add(graph, "Cast", [part], INT64, to=INT64)
            part = emit.add(graph, "Mul", [part, emit.int64(place)], INT64)
        both = part if not both else emit.add(graph, "Add", [both, part], INT64)
    last = lowering.shape(other)[along]
    assert last is not None
    ends = [(0, last), (last, last + 1)]
    sums, total = (
        emit.add(graph, "Slice", [both, *(emit.int64([v]) for v in (first, end, along))], kind) for first, end in ends
    )
    return sums, total


def _shared_grid(lowering: Lowering, node: Node) -> Grid | None:
    """Return the grid of the values that a softmax weighs, if their mean is to lie on it too."""
    shares = shares_of(lowering, node, emit=False)
    if shares is None or len(shares.digits) > 1:
        return None
    return lowering.symmetric_grid(node.inputs[1 if shares.is_first else 0], None)


def product_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str | None:
    """Return the mean of values weighed by a softmax on the grid of the values: a division and no product."""
    return _shared_code(lowering, node, grid, range(len(lowering.shape(name))))


def turned_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str | None:
    """Transpose codes; what a softmax weighs is divided afterwards, in the order that is asked for."""
    before = lowering.chain.producer.get(node.inputs[0])
    if before is not None and before.op == "MatMul":
        order = [int(axis) for axis in node.attributes["perm"]]
        if (found := _shared_code(lowering, before, grid, order)) is not None:
            return found
    return moved_code(lowering, node, name, grid)


def _shared_code(lowering: Lowering, node: Node, grid: Grid, order: Sequence[int]) -> str | None:
    """Return the mean of values weighed by a softmax, with its axes in an order, if it comes on this grid by itself.

    Dividing where rows are long is what engines do fast.
    """
    if lowering.chain.is_constant(node.inputs[1]):
        return None
    natural = _shared_grid(lowering, node)
    if natural is None or natural.key != grid.key:
        return None
    shares = shares_of(lowering, node)
    assert shares is not None
    emit, graph = lowering.emit, node.graph
    sums, total = (
        in_order(lowering, made, order, graph)
        for made in _sums(lowering, node, shares, node.inputs[1 if shares.is_first else 0], grid)
    )
    # (sum + 128 total + total / 2) / total: positive, so that truncation rounds down.
    scaled = emit.add(graph, "Mul", [total, emit.int32(2 * SIGNED_ZERO + 1)], INT32)
    half = emit.add(graph, "Div", [scaled, emit.int32(2)], INT32)
    up = emit.add(graph, "Add", [sums, half], INT32)
    quotient = emit.add(graph, "Div", [up, total], INT32)
    capped = emit.add(graph, "Min", [quotient, emit.int32(TOP)], INT32)
    return emit.add(graph, "Cast", [capped], UINT8, to=UINT8)


def _shared_fixed(lowering: Lowering, node: Node, shares: Shares, bits: int) -> str:
    """Return the mean of values weighed by a softmax, times 2^bits, in 64 bits between."""
    emit, graph = lowering.emit, node.graph
    other = node.inputs[1 if shares.is_first else 0]
    grid = lowering.symmetric_grid(other, None)
    sums, total = (
        made if emit.types[made] == INT64 else emit.add(graph, "Cast", [made], INT64, to=INT64)
        for made in _sums(lowering, node, shares, other, grid)
    )
    # sum / total lies in -128..127; 2^16 times that, then the scale.
    moved = emit.add(graph, "Mul", [sums, emit.int64(1 << 16)], INT64)
    offset = emit.add(graph, "Mul", [total, emit.int64((SIGNED_ZERO + 1) << 16)], INT64)
    quotient = emit.add(graph, "Div", [emit.add(graph, "Add", [moved, offset], INT64), total], INT64)
    centred = emit.add(graph, "Sub", [quotient, emit.int64((SIGNED_ZERO + 1) << 16)], INT64)
    narrow = emit.add(graph, "Cast", [centred], INT32, to=INT32)
    lowering.bound[narrow] = (SIGNED_ZERO + 1) << 16
    factor = float(grid.scale) * 2.0 ** (bits - 16)
    return lowering.multiplied(narrow, np.array(factor), math.ceil(lowering.bound[narrow] * factor) + 1, graph)


HANDLERS.fixed["Gemm"] = weighed
HANDLERS.fixed["MatMul"] = product_fixed
HANDLERS.code["MatMul"] = product_code
HANDLERS.code["Transpose"] = turned_code
HANDLERS.natural["MatMul"] = _shared_grid
HANDLERS.bits["MatMul"] = product_bits
