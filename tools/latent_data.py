"""Latents to train on: y of every photo, computed once, and random crops of it.

Where analysis and synthesis rest, neither needs to run in a step: the entropy side alone takes a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mlic.runtime.arrays import UInt8Array
from mlic.tools.training_data import tensor_from_pixels

Y_STRIDE, Z_STRIDE = 16, 64
SPARSE = 7  # every so many places are enough for statistics


class LatentCrops:
    """Random crops of y, from two views of each photo.

    Latents cannot be mirrored, so photos are: the second view is mirrored and moved by half a position of y.
    """

    def __init__(self, photos: list[UInt8Array], size: int, analysis: Callable[[Tensor], Tensor]) -> None:
        """Compute y of the photos, as many whole positions of z as they have.

        Args:
            photos: uint8 [H, W, 3], any sizes; those too small for a crop are left out.
            size: side of a crop in pixels, a multiple of 64.
            analysis: maps pictures float32 [1, 3, H, W] to y [1, M, H/16, W/16].
        """
        self.size = size // Y_STRIDE
        views = [_latents(view, analysis) for photo in photos for view in _views(photo) if min(view.shape[:2]) >= size]
        # Half precision keeps y to 1/30 of a quantisation step up to 64, and a set of 100 megapixels in 300 MB.
        self.latents = [y.half() for y in views]
        areas = np.array([float(y.shape[1] * y.shape[2]) for y in self.latents])
        self._shares = areas / areas.sum()

    def batch(self, count: int, generator: np.random.Generator) -> Tensor:
        """Return float32 [count, M, size/16, size/16]."""
        chosen = generator.choice(len(self.latents), size=count, p=self._shares)
        return torch.stack([self._crop(self.latents[i], generator) for i in chosen]).float()

    def deviations(self) -> Tensor:
        """Return the standard deviation of each coefficient, float32 [M], from a part of all places."""
        return torch.cat([y.flatten(1)[:, ::SPARSE] for y in self.latents], dim=1).float().std(dim=1)

    def _crop(self, y: Tensor, generator: np.random.Generator) -> Tensor:
        top = generator.integers(y.shape[1] - self.size + 1)
        left = generator.integers(y.shape[2] - self.size + 1)
        return y[:, top : top + self.size, left : left + self.size]


def _views(photo: UInt8Array) -> Iterator[UInt8Array]:
    for view in (photo, photo[Y_STRIDE // 2 :, ::-1][:, Y_STRIDE // 2 :]):
        height, width = (side // Z_STRIDE * Z_STRIDE for side in view.shape[:2])
        yield view[:height, :width]


@torch.no_grad()
def _latents(photo: UInt8Array, analysis: Callable[[Tensor], Tensor]) -> Tensor:
    return analysis(tensor_from_pixels(photo[None], torch.device("cpu")))[0]
