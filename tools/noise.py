"""Differences between two engines, as a distribution to draw from."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlic.runtime.arrays import Float32Array

NEIGHBOURS = 2000  # by size of the scale, among which a difference is drawn


class Noise:
    """Differences between two engines, drawn by the size of the scale.

    Args:
        ours: float32 [n], one engine's scales.
        theirs: float32 [n], the other's.
    """

    def __init__(self, ours: Float32Array, theirs: Float32Array) -> None:
        order = np.argsort(ours, kind="stable")
        self._sorted = ours[order]
        self._differences = (theirs.astype(np.float64) - ours)[order]

    def draw(self, rng: np.random.Generator, scales: Float32Array, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return differences, of either sign.

        Args:
            rng: to draw with.
            scales: float, whose last axis is that of ``shape``.
            shape: of what is returned.
        """
        middle = np.searchsorted(self._sorted, scales)
        places = middle + rng.integers(-NEIGHBOURS, NEIGHBOURS + 1, shape)
        values = self._differences[np.clip(places, 0, len(self._sorted) - 1)]
        signed: NDArray[np.float64] = values * rng.choice([-1.0, 1.0], values.shape)
        return signed

    @cached_property
    def largest(self) -> float:
        """The largest difference."""
        return float(np.abs(self._differences).max())
