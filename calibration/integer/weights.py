"""Weights and biases as integers, so small that no accumulator leaves the range in which all engines agree.

Three bounds hold for every output channel, whatever the picture:

- the sum of products and bias stays below 2^24, so that it is exact as a float32 when it is scaled down;
- two products of neighbours stay within 16 bits, because x86 processors without VNNI add such pairs in saturating
  16-bit arithmetic (``VPMADDUBSW``). Which products are neighbours is the engine's choice, so it holds for any two;
- the bias stays below 2^23.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mlic.calibration.errors import CalibrationError
from mlic.runtime.arrays import Array

ACCUMULATOR = 1 << 24
BIAS = 1 << 23
PAIR = 128  # two weights of one sign; 255 * 128 = 32640 < 2^15
STEPS = 48  # of the search for a quantum


@dataclass(frozen=True)
class IntegerWeights:
    """A layer's weights.

    Attributes:
        integers: int8 [out, …].
        quantum: float64 [out], value of 1 in the accumulator.
        bias: int32 [out].
        bound: float64 [out], largest magnitude of the accumulator without the bias.
    """

    integers: Array
    quantum: Array
    bias: Array
    bound: Array


def integer_weights(weights: Array, bias: Array, zero: Array | int, layer: str) -> IntegerWeights:
    """Round weights to the finest quantum that keeps the bounds.

    Args:
        weights: float64 [out, …], multiplied by the scale of their input already.
        bias: float64 [out].
        zero: code of 0.0 of the inputs, 0..255.
        layer: for errors.

    Raises:
        CalibrationError: weights are not finite, or no quantum keeps the bounds.
    """
    flat = weights.reshape(len(weights), -1)
    if not (np.all(np.isfinite(flat)) and np.all(np.isfinite(bias))):
        raise CalibrationError(f"{layer}: its weights are not finite")
    reach = max(int(zero), 255 - int(zero))
    largest = np.abs(flat).max(1)
    quantum = np.maximum(largest / 127, np.abs(bias) / (BIAS - 1))
    quantum = np.maximum(quantum, np.maximum(_two_largest(flat), _two_largest(-flat)) / PAIR)
    quantum = np.maximum(quantum, np.abs(flat).sum(1) * reach / (ACCUMULATOR - BIAS // 64))
    quantum = np.where(quantum > 0, quantum, 1.0)
    for _ in range(STEPS):  # rounding may push a channel over a bound
        rounded = np.rint(flat / quantum[:, None])
        biases = np.rint(bias / quantum)
        bound = np.abs(rounded).sum(1) * reach
        over = bound + np.abs(biases) >= ACCUMULATOR
        over |= (_two_largest(rounded) > PAIR) | (_two_largest(-rounded) > PAIR) | (np.abs(rounded).max(1) > 127)
        if not over.any():
            break
        quantum = np.where(over, quantum * 1.01, quantum)
    else:
        raise CalibrationError(f"{layer}: no weights keep the accumulator below 2^24")
    return IntegerWeights(rounded.reshape(weights.shape).astype(np.int8), quantum, biases.astype(np.int32), bound)


def corrected(integers: IntegerWeights, more: Array) -> IntegerWeights:
    """Add to the bias as much as the bounds leave room for.

    Args:
        integers: a layer's.
        more: float64 [out], in the unit of the float bias.
    """
    room = np.minimum(ACCUMULATOR - 1 - integers.bound, BIAS - 1)
    bias = np.clip(integers.bias + np.rint(more / integers.quantum), -room, room)
    return replace(integers, bias=bias.astype(np.int32))


def _two_largest(rows: Array) -> Array:
    """Return the sum of the two largest positive elements of each row."""
    positive = np.maximum(rows, 0)
    if rows.shape[1] == 1:
        return positive[:, 0]
    result: Array = np.partition(positive, -2, axis=1)[:, -2:].sum(1)
    return result
