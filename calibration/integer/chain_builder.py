"""The integer chain of a bundle: what each graph puts out, and the graphs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from mlic.calibration.errors import CalibrationError
from mlic.calibration.integer import arithmetic, convolution, movement, normalisation, products, softmax
from mlic.calibration.integer.convolution import in_pieces, piece_values
from mlic.calibration.integer.emitter import FLOAT, UINT8
from mlic.calibration.integer.float_chain import FloatChain, Node
from mlic.calibration.integer.grids import TOP
from mlic.calibration.integer.lowering import Y_BITS, Lowering
from mlic.calibration.integer.movement import split_part
from mlic.calibration.integer.statistics import Source, Statistics
from mlic.runtime.arithmetic import INTEGER
from mlic.runtime.arrays import Array
from mlic.runtime.manifest import StepSpec

__all__ = ["IntegerChain", "Pieces", "build", "layer_of"]
_HANDLERS = (arithmetic, convolution, movement, normalisation, products, softmax)  # they register what they know

SMALLEST_SCALE = 0.07  # below the first boundary of any table of the family, 0.11
HEADROOM = 1.5  # of what steps put out, beyond what was observed


@dataclass(frozen=True)
class Pieces:
    """How finely steps put out their results: 255 levels a piece.

    Attributes:
        scales: pieces of a channel's standard deviations, in geometric progression.
        means: of equal width.
    """

    scales: int = 4
    means: int = 8


@dataclass(frozen=True)
class IntegerChain:
    """The graphs.

    Attributes:
        models: by name, in running order.
        lowering: what they were made by; it knows which tensor stands for which of the float chain.
    """

    models: Mapping[str, onnx.ModelProto]
    lowering: Lowering


def build(
    chain: FloatChain,
    steps: Sequence[StepSpec],
    scale_table: Array,
    source: Source,
    pieces: Pieces | None = None,
) -> IntegerChain:
    """Return the integer chain.

    Args:
        chain: the float one.
        steps: in coding order.
        scale_table: float32 [levels]; the index of a scale is the number of its entries, but the last, below it.
        source: statistics of the float chain's tensors.
        pieces: of the results of steps.

    Raises:
        CalibrationError: an operator has no integer form, or no bound holds.
    """
    pieces = pieces or Pieces()
    lowering = Lowering(chain, source)
    results: dict[str, list[str]] = {}
    for step in steps:
        scales = _indexes(lowering, step, scale_table, pieces.scales)
        means = _means(lowering, step.means, pieces.means)
        results[step.graph] = [scales, _as_float(lowering, means, step.graph, step.means)]
    y_hat = lowering.fixed("y_hat", Y_BITS)
    results["finish"] = [_as_float(lowering, y_hat, "finish", "y_hat")]
    return IntegerChain(lowering.emit.models(results), lowering)


def _as_float(lowering: Lowering, fixed: str, graph: str, name: str) -> str:
    """Put out a fixed tensor as float32, which holds it exactly.

    Raises:
        CalibrationError: it may be too large for that.
    """
    if lowering.bound[fixed] >= 1 << 24:
        raise CalibrationError(f"graph {graph}: {name} times 2^{Y_BITS} may be too large for a float32 to hold exactly")
    as_float = lowering.emit.add(graph, "Cast", [fixed], FLOAT, to=FLOAT)
    scale = lowering.emit.constant(np.float32(2.0**-Y_BITS))
    return lowering.emit.add(graph, "Mul", [as_float, scale], FLOAT, name)


def layer_of(lowering: Lowering, name: str) -> tuple[Node, Array]:
    """Return the convolution that gives a tensor, and which of its channels that are."""
    node = lowering.node(name)
    if node.op == "Conv":
        return node, np.arange(lowering.shape(name)[1] or 0)
    if node.op not in ("Slice", "Split"):
        raise CalibrationError(f"graph {node.graph}: {name} comes from {node.op}; expected a convolution")
    inner, channels = layer_of(lowering, node.inputs[0])
    if node.op == "Split":
        first, end, axis = split_part(lowering, node, name)
    else:
        first, end, axis = (int(lowering.chain.constants[given].reshape(-1)[0]) for given in node.inputs[1:4])
    assert axis == 1
    return inner, channels[first : min(end, len(channels))]


def _indexes(lowering: Lowering, step: StepSpec, scale_table: Array, pieces: int) -> str:
    """Put out the indexes of a step's scales."""
    node, channels = layer_of(lowering, step.scales)
    limits = _scale_limits(lowering.source.of(step.scales, 1), pieces)
    total = in_pieces(lowering, node, channels, limits)
    values = piece_values(limits)
    table = np.searchsorted(scale_table[:-1].astype(np.float64), values, side="left").astype(np.uint8)
    found = lowering.looked_up(total, table, step.graph, lowering.shape(step.scales), UINT8)
    return lowering.emit.add(step.graph, "Identity", [found], UINT8, INTEGER.output(step))


def _scale_limits(statistics: Statistics, pieces: int) -> Array:
    low = np.maximum(statistics.low / HEADROOM, SMALLEST_SCALE)
    high = np.maximum(statistics.high * HEADROOM, 2 * low)
    places = np.arange(pieces + 1) / pieces
    limits: Array = low[:, None] * (high / low)[:, None] ** places
    return limits


def _means(lowering: Lowering, name: str, pieces: int) -> str:
    """Return a step's means, fixed, from more than 8 bits; what takes them later finds them."""
    node, channels = layer_of(lowering, name)
    statistics = lowering.source.of(name, 1)
    middle, half = (statistics.high + statistics.low) / 2, (statistics.high - statistics.low) / 2
    half = np.maximum(half * HEADROOM, 2.0**-6)
    limits = (middle - half)[:, None] + 2 * half[:, None] * np.arange(pieces + 1) / pieces
    total = in_pieces(lowering, node, channels, limits)
    # Pieces of equal width make a straight line.
    step, start = ((limits[:, -1] - limits[:, 0]) / (TOP * pieces))[:, None, None], limits[:, :1, None]
    bound = math.ceil(float(np.abs(limits).max()) * 2**Y_BITS) + 1
    risen = lowering.multiplied(total, step * 2.0**Y_BITS, 2 * bound, node.graph)
    base = lowering.fixed_constant(start, Y_BITS)
    made = lowering.arithmetic(node.graph, "Add", risen, base, 3 * bound)
    lowering.primary[name] = (made, Y_BITS)
    return lowering.fixed(name, Y_BITS)
