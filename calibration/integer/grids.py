"""The 8-bit grids on which activations lie: value = (code - zero) * scale, in a vector along one axis or all alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlic.calibration.integer.statistics import Statistics
from mlic.runtime.arrays import Array

SIGNED_ZERO = 128
TOP = 255
SHARES = np.geomspace(1.0, 0.08, 24)  # of the observed range, tried as limits
SMALLEST_RANGE = 2.0**-12  # of a channel that hardly moves
SMALLEST_SCALE = 2.0**-12
WIDEST_RATIO = 512  # between the scales of a tensor's channels


@dataclass(frozen=True, eq=False)
class Grid:
    """How codes stand for values.

    Attributes:
        scale: float64, a scalar or a vector along ``axis``.
        zero: int64, the code of 0.0, likewise; outside 0..255 where the range does not hold 0.
        axis: of the tensor, not negative; None if both are scalars.
    """

    scale: Array
    zero: Array
    axis: int | None = None

    @property
    def key(self) -> str:
        """Equal for equal grids."""
        data = np.asarray(self.scale, np.float64).tobytes() + np.asarray(self.zero, np.int64).tobytes()
        return hashlib.sha256(data + str(self.axis).encode()).hexdigest()[:16]

    def equals(self, other: Grid) -> bool:
        """Say whether codes stand for the same values on another grid, though one may be written as a vector."""
        return bool(np.all(self.scale == other.scale) and np.all(self.zero == other.zero))

    @property
    def common_zero(self) -> int | None:
        """The code of 0.0 if it is the same for all channels and is a code."""
        first = int(np.asarray(self.zero).reshape(-1)[0])
        return first if 0 <= first <= TOP and bool(np.all(np.asarray(self.zero) == first)) else None

    def moved(self, axis: int | None) -> Grid:
        """Return the grid along another axis."""
        return Grid(self.scale, self.zero, axis)

    def part(self, channels: Array | slice) -> Grid:
        """Return the grid of some channels; a scalar one as it is."""
        if self.axis is None:
            return self
        zero = self.zero if np.ndim(self.zero) == 0 else self.zero[channels]
        return Grid(self.scale[channels], zero, self.axis)

    def values(self, codes: int = TOP + 1) -> Array:
        """Return what the codes 0, 1, … stand for: float64 [channels or 1, codes]."""
        scale = np.atleast_1d(self.scale)[:, None]
        zero = np.atleast_1d(self.zero)[:, None]
        result: Array = (np.arange(codes)[None] - zero) * scale
        return result

    def codes(self, values: Array) -> Array:
        """Return the codes nearest to values [channels or 1, …]: uint8."""
        scale = np.atleast_1d(self.scale)[:, None]
        zero = np.atleast_1d(self.zero)[:, None]
        result: Array = np.clip(np.rint(values / scale) + zero, 0, TOP).astype(np.uint8)
        return result


def means(statistics: Statistics, grid: Grid) -> tuple[Array, Array]:
    """Return the mean of each channel, and what it is after rounding and clipping to a grid: float64 [C] both."""
    weights = statistics.counts / np.maximum(statistics.counts.sum(1, keepdims=True), 1)
    centres = statistics.centres
    scale, zero = np.atleast_1d(grid.scale)[:, None], np.atleast_1d(grid.zero)[:, None]
    # Bins are coarser than codes where a channel's range is wide: rounding is taken to be fair, clipping is not.
    clipped = np.clip(centres, -zero * scale, (TOP - zero) * scale)
    return (weights * centres).sum(1), (weights * clipped).sum(1)


def symmetric(statistics: Statistics, axis: int | None) -> Grid:
    """Return the grid around ``SIGNED_ZERO`` at which rounding and clipping cost the least mean squared error."""
    return with_zero(statistics, axis, SIGNED_ZERO)


def with_zero(statistics: Statistics, axis: int | None, zero: int) -> Grid:
    """Return the best grid with 0.0 at a given code."""
    widest = np.maximum(statistics.high / (TOP - zero), -statistics.low / zero if zero else 0)
    widest = np.maximum(widest, SMALLEST_RANGE / TOP)
    scales = widest[:, None] * SHARES
    losses = _loss(statistics, -zero * scales, scales, None)
    best = scales[np.arange(len(scales)), losses.argmin(1)]
    best = np.maximum(best, max(float(best.max()) / WIDEST_RATIO, SMALLEST_SCALE))
    return Grid(best if axis is not None else best[0], np.asarray(zero), axis)


def positive(statistics: Statistics, axis: int | None) -> Grid:
    """Return the best grid of values that are seldom below zero, such as those of GELU; its zero is common."""
    candidates = [with_zero(statistics, axis, zero) for zero in (4, 8, 16, 32, 64)]

    def cost(grid: Grid) -> float:
        scales = np.atleast_1d(grid.scale)[:, None]
        return float(_loss(statistics, -float(grid.zero) * scales, scales, None).sum())

    return min(candidates, key=cost)


def free(statistics: Statistics, axis: int | None, function: Callable[[Array], Array]) -> Grid:
    """Return the grid, its zero anywhere, at which rounding costs a function of the values least.

    Args:
        statistics: of the values.
        axis: that they were taken along.
        function: elementwise.
    """
    low, high = statistics.low, np.maximum(statistics.high, statistics.low + SMALLEST_RANGE)
    tops = np.stack([low + (high - low) * share for share in SHARES], 1)
    bottoms = np.stack([high - (high - low) * share for share in SHARES], 1)
    rows = np.arange(len(low))
    top = high
    for _ in range(2):  # one end after the other
        scales = (top[:, None] - bottoms) / TOP
        bottom = bottoms[rows, _loss(statistics, bottoms, np.maximum(scales, 1e-12), function).argmin(1)]
        scales = (tops - bottom[:, None]) / TOP
        usable = tops > bottom[:, None] + SMALLEST_RANGE / 2
        losses = np.where(
            usable,
            _loss(statistics, np.broadcast_to(bottom[:, None], tops.shape), np.maximum(scales, 1e-12), function),
            np.inf,
        )
        top = np.where(usable.any(1), tops[rows, losses.argmin(1)], bottom + SMALLEST_RANGE)
    scale = np.maximum(top - bottom, SMALLEST_RANGE) / TOP
    zero = np.rint(-bottom / scale).astype(np.int64)
    if axis is None:
        return Grid(scale[0], zero[0], None)
    return Grid(scale, zero, axis)


def _loss(statistics: Statistics, bottoms: Array, scales: Array, function: Callable[[Array], Array] | None) -> Array:
    """Return the mean squared error of each channel [C, candidates] for limits ``bottoms``.. + 255 ``scales``."""
    centres = statistics.centres  # [C, bins]
    weights = statistics.counts / np.maximum(statistics.counts.sum(1, keepdims=True), 1)
    losses = np.empty(scales.shape)
    exact = centres if function is None else function(centres)
    if function is None:
        slopes = weights
    else:
        step = 1e-3
        slopes = weights * ((function(centres + step) - function(centres - step)) / (2 * step)) ** 2
    for candidate in range(scales.shape[1]):
        bottom, scale = bottoms[:, candidate, None], scales[:, candidate, None]
        clipped = np.clip(centres, bottom, bottom + TOP * scale)
        inside = clipped == centres
        error = (clipped if function is None else function(clipped)) - exact
        losses[:, candidate] = (weights * error**2).sum(1) + (slopes * inside * scale**2 / 12).sum(1)
    return losses
