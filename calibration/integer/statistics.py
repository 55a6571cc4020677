"""What tensors of the float chain hold on photos, channel by channel, and their shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mlic.runtime.arrays import Array

BINS = 512
Shape = tuple[int | None, ...]
Key = tuple[str, int | None]  # tensor, and the axis of its channels; None: all alike


@dataclass(frozen=True)
class Statistics:
    """Histograms of a tensor's channels.

    Attributes:
        low: float64 [C], the least value of each.
        high: float64 [C], the largest.
        counts: int64 [C, BINS], of values in equal parts of ``low``..``high``.
    """

    low: Array
    high: Array
    counts: Array

    @property
    def centres(self) -> Array:
        """The middle of each bin, float64 [C, BINS]."""
        bins = self.counts.shape[1]
        places = (np.arange(bins) + 0.5) / bins
        result: Array = self.low[:, None] + (self.high - self.low)[:, None] * places
        return result

    @property
    def largest(self) -> float:
        """The largest magnitude of all."""
        return float(max(self.high.max(), -self.low.min(), 2.0**-12))


class Source(Protocol):
    """Gives statistics of tensors."""

    def of(self, name: str, axis: int | None) -> Statistics:
        """Return the statistics of a tensor along an axis."""

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape; None for sides that follow the picture's size."""


class Recorder:
    """Stands in for statistics while it is found out which ones are needed.

    Args:
        shapes: of all tensors.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self._shapes = shapes
        self.keys: dict[Key, None] = {}

    def of(self, name: str, axis: int | None) -> Statistics:
        """Note that they will be wanted; return made ones."""
        self.keys[name, axis] = None
        count = 1 if axis is None else self._shapes[name][axis]
        assert count is not None, f"{name} along {axis}: {self._shapes[name]}"
        return Statistics(np.full(count, -1.0), np.ones(count), np.ones((count, 2), np.int64))

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape."""
        return self._shapes[name]


class Measured:
    """Statistics of tensors as they were on photos.

    Args:
        shapes: of all tensors.
        found: by tensor and axis.
    """

    def __init__(self, shapes: Mapping[str, Shape], found: Mapping[Key, Statistics]) -> None:
        self._shapes = shapes
        self._found = found

    def of(self, name: str, axis: int | None) -> Statistics:
        """Return the statistics of a tensor along an axis."""
        return self._found[name, axis]

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape."""
        return self._shapes[name]


def shapes_of(runs: Sequence[Mapping[str, Array]]) -> dict[str, Shape]:
    """Return the shapes of tensors from runs of different sizes: sides that differ follow the picture.

    Args:
        runs: all tensors of each.
    """
    return {
        name: tuple(
            sides[0] if len(set(sides)) == 1 else None for sides in zip(*(run[name].shape for run in runs), strict=True)
        )
        for name in runs[0]
    }


def measure(
    keys: Sequence[Key], runs: Callable[[Sequence[str]], Sequence[Callable[[], Mapping[str, Array]]]]
) -> dict[Key, Statistics]:
    """Run the chain on all photos, twice: for the limits, and for the histograms between them.

    Args:
        keys: what is wanted.
        runs: takes names of tensors and gives a function for each photo that computes them.
    """
    names = list(dict.fromkeys(name for name, _ in keys))
    photos = runs(names)
    limits: dict[Key, tuple[Array, Array]] = {}
    for run in photos:
        values = run()
        for key in keys:
            rows = _rows(values[key[0]], key[1])
            low, high = rows.min(1).astype(np.float64), rows.max(1).astype(np.float64)
            before = limits.get(key, (low, high))
            limits[key] = np.minimum(low, before[0]), np.maximum(high, before[1])
    counts = {key: np.zeros((len(limits[key][0]), BINS), np.int64) for key in keys}
    for run in photos:
        values = run()
        for key in keys:
            counts[key] += _histograms(_rows(values[key[0]], key[1]), *limits[key])
    return {key: Statistics(*limits[key], counts[key]) for key in keys}


def _rows(values: Array, axis: int | None) -> Array:
    """Return [channels, values of each]."""
    if axis is None:
        return values.reshape(1, -1)
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def _histograms(rows: Array, low: Array, high: Array) -> Array:
    width = np.maximum(high - low, 1e-30)
    bins = ((rows - low[:, None]) * (BINS / width)[:, None]).astype(np.int64)
    bins = np.clip(bins, 0, BINS - 1) + np.arange(len(rows))[:, None] * BINS
    return np.bincount(bins.reshape(-1), minlength=len(rows) * BINS).reshape(len(rows), BINS)
