"""Softmax in integers: a table of exponentials of the distance to the maximum, and their sum.

What takes a softmax is a product that adds up along it; it multiplies the exponentials and divides by their sum
afterwards. Few terms are weighed in 8 bits. Sums over all positions of a latent take 12 bits, as two digits of 6: a
product of a digit and a code is at most 63 * 128, so an accumulator of 32 bits holds 2^18 of them, which is what a
latent of ``container.MAX_LATENT_PIXELS`` has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlic.calibration.integer.emitter import INT32, UINT8
from mlic.calibration.integer.float_chain import Node
from mlic.calibration.integer.grids import TOP, Grid
from mlic.calibration.integer.handlers import HANDLERS
from mlic.calibration.integer.lowering import Lowering
from mlic.calibration.integer.movement import moved_code, moved_fixed
from mlic.runtime.arrays import Array

LOGIT_BITS = 7  # fraction bits of logits that come neither as codes nor as a product with more of them
MOST_LOGIT_BITS = 11  # a table of 8-bit weights that fits into a processor's nearest cache
MOST_TERMS = 64  # more, and as many as follow from the picture, are weighed in 12 bits
DIGIT_BITS = 6
TOP_FEW, TOP_MANY = TOP, (1 << 2 * DIGIT_BITS) - 1


@dataclass(frozen=True)
class Shares:
    """Unnormalised weights.

    Attributes:
        softmax: the node.
        order: which axes of the softmax become those of the product's factor.
        digits: uint8 tensors in that order, and the value of 1 in each.
        is_first: whether they are the first factor of the product.
        terms: how many there are; None if that follows from the picture.
    """

    softmax: Node
    order: tuple[int, ...]
    digits: tuple[tuple[str, int], ...]
    is_first: bool
    terms: int | None


def shares_of(lowering: Lowering, node: Node, emit: bool = True) -> Shares | None:
    """Return the softmax weights that a product adds up along; None if it takes none.

    Args:
        lowering: where to emit.
        node: MatMul.
        emit: make them; otherwise the names in the result are empty.
    """
    for number, source in enumerate(node.inputs):
        found = _softmax_behind(lowering, source)
        if found is None:
            continue
        softmax, order = found
        axis = order.index(softmax_axis(lowering, softmax))
        if axis != len(order) - 1 - number:
            continue
        terms = lowering.shape(source)[axis]
        is_few = terms is not None and terms <= MOST_TERMS
        places = (1,) if is_few else (1 << DIGIT_BITS, 1)
        digits = tuple(
            (in_order(lowering, digit(lowering, softmax, place, is_few), order, node.graph) if emit else "", place)
            for place in places
        )
        return Shares(softmax, order, digits, number == 0, terms)
    return None


def _softmax_behind(lowering: Lowering, name: str) -> tuple[Node, tuple[int, ...]] | None:
    """Return the softmax that a tensor is, and the order of its axes in it; None if it is none."""
    order = tuple(range(len(lowering.shape(name))))
    while (node := lowering.chain.producer.get(name)) is not None and node.op == "Transpose":
        order = after(node.attributes["perm"], order)
        name = node.inputs[0]
    return (node, order) if node is not None and node.op == "Softmax" else None


def after(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """Return the order of axes that two transpositions give together."""
    return tuple(int(first[axis]) for axis in second)


def in_order(lowering: Lowering, name: str, order: Sequence[int], graph: str) -> str:
    """Return a tensor with its axes in another order."""
    if list(order) == sorted(order):
        return name
    kind = lowering.emit.types[name]
    return lowering.once(
        ("in order", name, str(order), graph),
        lambda: lowering.emit.add(graph, "Transpose", [name], kind, perm=list(order)),
    )


def softmax_axis(lowering: Lowering, softmax: Node) -> int:
    """Return the axis of a softmax, not negative."""
    return int(softmax.attributes["axis"]) % len(lowering.shape(softmax.outputs[0]))


def digit(lowering: Lowering, softmax: Node, place: int, is_few: bool) -> str:
    """Return one digit of exp(x - max) times the largest weight, rounded: uint8.

    Args:
        lowering: where to emit.
        softmax: the node.
        place: value of 1 in the digit.
        is_few: whether 8 bits do.
    """

    def make() -> str:
        index, distances = _distance(lowering, softmax, is_few)
        weights = np.rint((TOP_FEW if is_few else TOP_MANY) * np.exp(-distances)).astype(np.int64)
        table = (weights // place) % (TOP_FEW + 1 if is_few else 1 << DIGIT_BITS)
        shape = lowering.shape(softmax.inputs[0])
        return lowering.looked_up(index, table.astype(np.uint8)[None], softmax.graph, shape, UINT8)

    return lowering.once(("digit", softmax.outputs[0], str(place), str(is_few)), make)


def _distance(lowering: Lowering, softmax: Node, is_few: bool) -> tuple[str, Array]:
    """Return how far logits lie below the largest, as an index, and what its values stand for."""
    name, graph, emit = softmax.inputs[0], softmax.graph, lowering.emit
    distances: Array
    if _comes_as_codes(lowering, name):
        grid = lowering.symmetric_grid(name, None)
        logits = emit.add(graph, "Cast", [lowering.code(name, grid)], INT32, to=INT32)
        lowering.bound[logits] = TOP
        distances = np.arange(TOP + 1) * float(grid.scale)
    else:
        bits = min(max(lowering.natural_bits(name) or 0, LOGIT_BITS), MOST_LOGIT_BITS)
        logits = lowering.fixed(name, bits)
        entries = math.ceil(math.log(2 * (TOP_FEW if is_few else TOP_MANY)) * 2**bits) + 2
        distances = np.arange(entries) / 2.0**bits

    def make() -> str:
        axis = emit.int64([softmax_axis(lowering, softmax)])
        largest = emit.add(graph, "ReduceMax", [logits, axis], INT32, keepdims=1)
        distance = lowering.arithmetic(graph, "Sub", largest, logits, 2 * lowering.bound[logits])
        if lowering.bound[logits] == TOP:
            return distance
        return lowering.arithmetic(graph, "Min", distance, emit.int32(len(distances) - 1), len(distances) - 1)

    return lowering.once(("distance", softmax.outputs[0], str(is_few)), make), distances


def _comes_as_codes(lowering: Lowering, name: str) -> bool:
    """Say whether a tensor is moved from a convolution's result, which 8-bit arithmetic gives as codes."""
    node = lowering.chain.producer.get(name)
    while node is not None and node.op in ("Reshape", "Transpose", "AveragePool", "Mul", "Resize"):
        node = lowering.chain.producer.get(node.inputs[0])
    return node is not None and node.op == "Conv"


def share_fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Return one term's share of a softmax (a Gather of one index along it), times 2^bits."""
    softmax = lowering.chain.producer[node.inputs[0]]
    axis = softmax_axis(lowering, softmax)
    rank = len(lowering.shape(node.inputs[0]))
    assert int(node.attributes.get("axis", 0)) % rank == axis, "a softmax is taken apart along another axis"
    emit, graph = lowering.emit, node.graph
    weights = digit(lowering, softmax, 1, is_few=True)
    whole = emit.add(graph, "Squeeze", [total_of_few(lowering, softmax), emit.int64([axis])], INT32)
    term = emit.add(graph, "Gather", [weights, lowering.geometry(node.inputs[1])], UINT8, axis=axis)
    term = emit.add(graph, "Cast", [term], INT32, to=INT32)
    scaled = emit.add(graph, "Mul", [term, emit.int32(1 << bits)], INT32)
    half = emit.add(graph, "Div", [whole, emit.int32(2)], INT32)
    made = emit.add(graph, "Div", [emit.add(graph, "Add", [scaled, half], INT32), whole], INT32)
    lowering.bound[made] = 1 << bits
    return made


def total_of_few(lowering: Lowering, softmax: Node) -> str:
    """Return the sum of 8-bit weights along the softmax, kept as 1: int32, by a product with ones."""

    def make() -> str:
        shape, axis = lowering.shape(softmax.outputs[0]), softmax_axis(lowering, softmax)
        assert axis >= len(shape) - 2, "few terms of a softmax are added up along one of the last two axes"
        terms = shape[axis] or 0
        weights = digit(lowering, softmax, 1, is_few=True)
        is_last = axis == len(shape) - 1
        ones = lowering.emit.constant(np.ones((terms, 1) if is_last else (1, terms), np.uint8))
        factors = [weights, ones] if is_last else [ones, weights]
        return lowering.emit.add(softmax.graph, "MatMulInteger", factors, INT32)

    return lowering.once(("total", softmax.outputs[0]), make)


def gathered_fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Pick elements of fixed values, or a term of a softmax."""
    pick = share_fixed if _is_softmax(lowering, node.inputs[0]) else moved_fixed
    return pick(lowering, node, name, bits)


def gathered_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str | None:
    """Pick elements of codes; a softmax has none."""
    return None if _is_softmax(lowering, node.inputs[0]) else moved_code(lowering, node, name, grid)


def _is_softmax(lowering: Lowering, name: str) -> bool:
    source = lowering.chain.producer.get(name)
    return source is not None and source.op == "Softmax"


HANDLERS.fixed["Gather"] = gathered_fixed
HANDLERS.code["Gather"] = gathered_code
