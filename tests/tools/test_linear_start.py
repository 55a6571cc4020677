"""Weights that are a transform codec before any training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mlic.export.checkpoints import load_checkpoint
from mlic.export.models.mlicpp import Mlicpp
from mlic.runtime.errors import MlicError
from mlic.tools.linear_start import app, blocks_of, start, transform_of
from mlic.tools.trainer import distortion_of_latents, rate
from mlic.tools.training_data import tensor_from_pixels
from tests.small_training import WIDTHS

STARTED = replace(WIDTHS, n=48, m=64, h_s=(16, 24))


@pytest.fixture(scope="module")
def pixels(make_photo) -> np.ndarray:
    smooth = []
    for seed in range(12):
        picture = make_photo(128, 192, seed=seed).astype(np.float32)
        for axis in (0, 1):  # neighbours resemble each other, as in photos
            picture = sum(np.roll(picture, shift, axis=axis) for shift in range(5)) / 5
        smooth.append(picture.astype(np.uint8))
    return np.stack(smooth)


@pytest.fixture(scope="module")
def model(pixels: np.ndarray) -> Mlicpp:
    torch.manual_seed(0)
    model = Mlicpp(STARTED).eval()
    start(model, pixels, 0.013)
    return model


def decibels(error: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean(error**2)))


def test_blocks_hold_their_own_pixels_and_lose_none():
    values = np.arange(16 * 24 * 3).reshape(1, 16, 24, 3)
    blocks = blocks_of(values, 3)
    assert blocks.shape == (1, 2, 3, 192)
    assert sorted(blocks.ravel()) == sorted(values.ravel())
    assert sorted(blocks[0, 1, 2]) == sorted(values[0, 8:16, 16:24].ravel())
    assert blocks_of(values, 1)[0, 0, 0].tolist() == [
        *values[0, 0, 0],
        *values[0, 0, 1],
        *values[0, 1, 0],
        *values[0, 1, 1],
    ]


def test_transform_is_orthonormal_and_falls_in_variance(pixels: np.ndarray):
    transform = transform_of(pixels, 48, 64)
    torch.testing.assert_close(transform.small.T @ transform.small, torch.eye(48), atol=1e-5, rtol=0)
    torch.testing.assert_close(transform.large.T @ transform.large, torch.eye(64), atol=1e-5, rtol=0)
    assert (transform.large_deviations[1:].diff() <= 0.02).all()  # ordered by power, the mean included


@torch.no_grad()
def test_networks_compute_the_transform_and_its_inverse(model: Mlicpp, pixels: np.ndarray):
    transform = transform_of(pixels, 48, 64)
    small, large = transform.small.numpy(), transform.large.numpy()
    coefficients = blocks_of(blocks_of(pixels / 255 - 0.5, 3) @ small, 1) @ large
    x = tensor_from_pixels(pixels, torch.device("cpu"))
    y = model.analysis(x)
    step = (18 / (np.log(2) * 0.013 * 255**2)) ** 0.5
    inside = (slice(None), slice(1, -1), slice(1, -1))  # zeros around the picture are no pixels
    found = y.permute(0, 2, 3, 1).numpy()[inside] * step
    assert decibels(found - coefficients[inside]) > decibels(coefficients[inside]) + 20
    limit = decibels(blocks_of(blocks_of(pixels / 255 - 0.5, 3) @ small, 1) - coefficients @ large.T)
    lost = decibels(blocks_of(pixels / 255 - 0.5, 3) - blocks_of(pixels / 255 - 0.5, 3) @ small @ small.T)
    kept = decibels((model.synthesis(y) - x).numpy())
    assert kept > min(limit, lost) - 4


@torch.no_grad()
def test_started_model_is_nearer_and_cheaper_than_one_with_random_weights(model: Mlicpp, pixels: np.ndarray):
    torch.manual_seed(0)
    fresh = Mlicpp(STARTED).eval()
    x = tensor_from_pixels(pixels[:4], torch.device("cpu"))
    losses = []
    for candidate in (model, fresh):
        forward = candidate(x)
        mse = torch.mean((forward.x_hat - x) ** 2)
        losses.append(float(0.013 * 255**2 * mse + rate(forward, x[:, 0].numel())))
    assert losses[0] < 0.5 * losses[1]


@torch.no_grad()
def test_what_rounding_adds_can_be_told_from_the_latents(model: Mlicpp, pixels: np.ndarray):
    x = tensor_from_pixels(pixels, torch.device("cpu"))
    forward = model(x)
    added = torch.mean((forward.x_hat - model.synthesis(forward.y)) ** 2)
    errors = (forward.y_hat - forward.y).square().sum(dim=1).mean()
    assert float(distortion_of_latents(errors, 0.013) / added) == pytest.approx(1, abs=0.02)


@torch.no_grad()
def test_residual_prediction_starts_by_moving_coefficients_towards_their_mean(pixels: np.ndarray):
    torch.manual_seed(0)
    model = Mlicpp(replace(STARTED, lrp=(34, 32))).eval()
    start(model, pixels, 0.013)
    forward = model(tensor_from_pixels(pixels, torch.device("cpu")))
    rounded = torch.round(forward.y - forward.means) + forward.means
    assert (forward.y_hat - forward.y).square().mean() < 0.97 * (rounded - forward.y).square().mean()


@torch.no_grad()
def test_scales_start_as_deviations_and_z_is_not_hidden_by_rounding(model: Mlicpp, pixels: np.ndarray):
    x = tensor_from_pixels(pixels, torch.device("cpu"))
    y = model.analysis(x)
    deviations = y.std(dim=(0, 2, 3))
    scales = model(x).scales.mean(dim=(0, 2, 3))
    assert (torch.log(scales / deviations.clamp(min=0.11)).abs() < 0.7).all()
    z = model.h_a(y)
    assert (z.std(dim=(0, 2, 3)) > 0.5).all()
    assert z.mean(dim=(0, 2, 3)).abs().max() < 1


@pytest.mark.parametrize("widths", [replace(STARTED, n=32), replace(STARTED, m=256), replace(STARTED, old=True)])
def test_widths_without_room_are_refused(widths, pixels: np.ndarray):
    with pytest.raises(MlicError, match="no room for the transform"):
        start(Mlicpp(widths), pixels, 0.013)


def test_command_leaves_a_checkpoint_that_loads(tmp_path: Path, pixels: np.ndarray):
    (tmp_path / "photos").mkdir()
    for index, picture in enumerate(pixels[:8]):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{index}.png")
    widths = ["--n", 48, "--m", 32, "--h-s", 16, 24, "--entropy-parameters", 24, 20, 16, "--lrp", 10, 6]
    arguments = [tmp_path / "photos", "-o", tmp_path / "l.pth", *widths, "--channel-context", 12, 10]
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    model = load_checkpoint(tmp_path / "l.pth", "auto").model
    assert (model.widths.n, model.widths.m, model.widths.h_s, model.widths.lrp) == (48, 32, (16, 24), (10, 6))
