"""From what a tensor held to the range that 8 bits cover. Every range holds zero, which padding needs exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlic.calibration.observe import Observation
from mlic.runtime.arrays import Array

LEVELS = 256
PERCENTILE = 99.99  # of the values lie inside
SHARES = np.linspace(1.0, 0.2, 33)  # of the outermost values, tried as limits

Range = tuple[float, float]


def min_max(observation: Observation) -> Range:
    """Return the least and the largest value."""
    return min(observation.low, 0.0), max(observation.high, 0.0)


def percentile(observation: Observation) -> Range:
    """Return limits that leave out (100 - ``PERCENTILE``) % of the values, half of them at each end."""
    total = observation.counts.sum()
    if not total:
        return min_max(observation)
    share = np.cumsum(observation.counts) / total
    tail = (1 - PERCENTILE / 100) / 2
    centres = observation.centres
    first, last = int(np.searchsorted(share, tail, side="right")), int(np.searchsorted(share, 1 - tail))
    low, high = float(centres[first]), float(centres[min(last, len(centres) - 1)])
    return min(low, 0.0), max(high, 0.0)


def mean_squared_error(observation: Observation) -> Range:
    """Return the limits at which rounding and clipping together cost the least mean squared error."""
    return _searched(observation, _squared_error)


def entropy(observation: Observation) -> Range:
    """Return the limits at which the distribution after rounding diverges least from that before (Kullback, Leibler).

    As in Migacz, "8-bit inference with TensorRT" (2017), for a range with two ends.
    """
    return _searched(observation, _divergence)


METHODS: dict[str, Callable[[Observation], Range]] = {
    "min-max": min_max,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mean_squared_error,
}


def _searched(observation: Observation, loss: Callable[[Array, Array, Range], float]) -> Range:
    """Shrink one end after the other as long as that lowers the loss."""
    low, high = min_max(observation)
    counts, centres = observation.counts, observation.centres
    if not counts.sum():
        return low, high
    best, best_loss = (low, high), np.inf
    for _ in range(2):
        for end in ("low", "high"):
            kept = best  # the other end of it stays
            for share in SHARES:
                limits = (low * share, kept[1]) if end == "low" else (kept[0], high * share)
                found = loss(counts, centres, limits)
                if found < best_loss:
                    best, best_loss = limits, found
    return best


def _levels(centres: Array, limits: Range) -> tuple[Array, float]:
    """Return the level that each centre is rounded to, clipped, and the distance between two levels."""
    step = (limits[1] - limits[0]) / (LEVELS - 1)
    if not step:
        return np.zeros(len(centres)), 0.0
    return np.clip(np.rint(centres / step), np.rint(limits[0] / step), np.rint(limits[1] / step)), step


def _squared_error(counts: Array, centres: Array, limits: Range) -> float:
    levels, step = _levels(centres, limits)
    return float((counts * (levels * step - centres) ** 2).sum())


def _divergence(counts: Array, centres: Array, limits: Range) -> float:
    levels, _ = _levels(centres, limits)
    _, places = np.unique(levels, return_inverse=True)
    # Within a level, what was rounded is spread evenly over the bins that were not empty
    filled = counts > 0
    sums, bins = np.bincount(places, counts), np.bincount(places, filled)
    spread = np.where(filled, sums[places] / np.maximum(bins[places], 1), 0.0)
    before = counts / counts.sum()
    # Values beyond the limits come out at the outermost level, whose own bins alone are spread over
    inside = (centres >= limits[0]) & (centres <= limits[1])
    outermost = np.where(inside, spread, 0.0)
    after = outermost / max(outermost.sum(), 1e-300)
    floor = 1e-9  # what is clipped away must not cost infinitely much
    used = before > 0
    return float((before[used] * np.log(before[used] / np.maximum(after[used], floor))).sum())
