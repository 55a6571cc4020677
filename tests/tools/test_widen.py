"""Widening a trained model keeps what it does and gives it room for more."""

from __future__ import annotations

from collections.abc import Callable
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
from mlic.tools.trainer import tensor_from_pixels
from mlic.tools.widen import app, fit_new_filters, widened
from tests.small_training import WIDTHS


@pytest.fixture(scope="module")
def narrow() -> Mlicpp:
    torch.manual_seed(1)
    model = Mlicpp(replace(WIDTHS, m=64)).eval()
    with torch.no_grad():  # latents of some units, so that rounding does not hide them
        model.g_a.analysis_transform[-1].weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def wide(narrow: Mlicpp) -> Mlicpp:
    return widened(narrow, 128, (10, 6))


@pytest.fixture
def x(make_photo: Callable[..., np.ndarray]) -> torch.Tensor:
    return tensor_from_pixels(make_photo(64, 128)[None], torch.device("cpu"))


@torch.no_grad()
def test_old_channels_and_the_picture_stay_as_they_were(narrow: Mlicpp, wide: Mlicpp, x: torch.Tensor):
    y, y_wide = narrow.analysis(x), wide.analysis(x)
    assert y_wide.shape[1] == 128
    torch.testing.assert_close(y_wide[:, :64], y)
    torch.testing.assert_close(wide.h_a(y_wide), narrow.h_a(y))
    torch.testing.assert_close(wide.synthesis(y_wide), narrow.synthesis(y), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_scales_and_means_of_old_slices_stay_as_they_were(narrow: Mlicpp, wide: Mlicpp, x: torch.Tensor):
    without = {k: torch.zeros_like(v) if k.startswith("lrp_") else v for k, v in narrow.state_dict().items()}
    plain = Mlicpp(narrow.widths).eval()
    plain.load_state_dict(without)  # the predictions begin anew, at zero
    before, after = plain(x), wide(x)
    torch.testing.assert_close(after.z_likelihoods, before.z_likelihoods)
    torch.testing.assert_close(after.scales[:, :64], before.scales, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.means[:, :64], before.means, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.y_hat[:, :64], before.y_hat, atol=1e-5, rtol=1e-5)


def test_new_channels_learn(wide: Mlicpp, x: torch.Tensor):
    model = Mlicpp(wide.widths)
    model.load_state_dict(wide.state_dict())
    with torch.enable_grad():
        torch.mean((model(x, noise=True).x_hat - x) ** 2).backward()
    grad = model.g_s.synthesis_transform[0].conv1.weight.grad
    assert grad is not None
    assert grad[:, 64:].abs().max() > 0


@torch.no_grad()
def test_new_filters_follow_what_was_lost_and_have_unit_variance(narrow: Mlicpp, x: torch.Tensor, make_photo):
    model = widened(narrow, 96, (10, 6))
    pixels = np.stack([make_photo(192, 192, seed=seed) for seed in range(6)])
    share = fit_new_filters(model, narrow, pixels)
    assert 0 < share < 1
    y = model.analysis(tensor_from_pixels(pixels, torch.device("cpu")))
    assert torch.equal(y[:, :64], narrow.analysis(tensor_from_pixels(pixels, torch.device("cpu"))))
    powers = y[:, 64:].square().mean(dim=(0, 2, 3))
    torch.testing.assert_close(powers, torch.ones(32), atol=0.1, rtol=0)


@pytest.mark.parametrize("m", [32, 64, 100])
def test_what_is_no_widening_is_refused(m: int, narrow: Mlicpp):
    with pytest.raises(MlicError, match=f"cannot widen M from 64 to {m}"):
        widened(narrow, m, (10, 6))


def test_command_leaves_a_checkpoint_that_loads(narrow: Mlicpp, tmp_path: Path, make_photo):
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        Image.fromarray(make_photo(200, 208, seed=seed)).save(tmp_path / "photos" / f"{seed}.png")
    torch.save({"state_dict": narrow.state_dict()}, tmp_path / "n.pth")
    arguments = [tmp_path / "n.pth", tmp_path / "photos", "-o", tmp_path / "w.pth", "--m", 96, "--lrp", 10, 6]
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert "M 64 to 96; the new filters predict" in result.stdout
    model = load_checkpoint(tmp_path / "w.pth", "auto").model
    assert (model.widths.m, model.widths.lrp, model.widths.h_s) == (96, (10, 6), (64, 96))
