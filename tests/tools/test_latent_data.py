"""Crops of latents that were computed once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mlic.tools.latent_data import LatentCrops


def mean_of_blocks(x: Tensor) -> Tensor:
    """Stand in for an analysis: one channel, the mean of each 16x16 block."""
    return torch.nn.functional.avg_pool2d(x.mean(dim=1, keepdim=True), 16)


def test_crops_are_places_of_both_views_of_photos_that_are_large_enough(make_photo):
    photos = [make_photo(200, 150, seed=1), make_photo(60, 300, seed=2), make_photo(128, 128, seed=3)]
    crops = LatentCrops(photos, 64, mean_of_blocks)
    # 200x150 gives 192x128 twice; 60 is too low; 128x128 gives 128x128, and 64x64 of what the move leaves.
    assert [tuple(y.shape) for y in crops.latents] == [(1, 12, 8), (1, 12, 8), (1, 8, 8), (1, 4, 4)]
    batch = crops.batch(6, np.random.default_rng(0))
    assert batch.shape == (6, 1, 4, 4)
    assert batch.dtype == torch.float32
    windows = {
        w.numpy().tobytes() for y in crops.latents for w in y.float().unfold(1, 4, 1).unfold(2, 4, 1)[0].reshape(-1, 16)
    }
    assert {crop.numpy().tobytes() for crop in batch.reshape(6, 16)} <= windows


def test_second_view_is_mirrored_and_moved_by_half_a_position(make_photo):
    photo = make_photo(128, 128, seed=4)
    _, second = LatentCrops([photo], 64, mean_of_blocks).latents
    block = photo[8:24, ::-1][:, 8:24]
    np.testing.assert_allclose(float(second[0, 0, 0]), block.mean() / 255, rtol=1e-3)


def test_photos_smaller_than_a_crop_may_have_one_view_or_none(make_photo):
    assert len(LatentCrops([make_photo(64, 64, seed=5)], 64, mean_of_blocks).latents) == 1
