"""Another rate is another scale of y, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mlic.export.checkpoints import load_checkpoint
from mlic.export.models.mlicpp import Mlicpp
from mlic.runtime.errors import MlicError
from mlic.tools.change_rate import app, rescale
from mlic.tools.training_data import tensor_from_pixels
from tests.small_training import WIDTHS

FACTOR = 2.5


@pytest.fixture
def models() -> tuple[Mlicpp, Mlicpp]:
    torch.manual_seed(0)
    before = Mlicpp(replace(WIDTHS, m=64)).eval()
    after = Mlicpp(before.widths).eval()
    after.load_state_dict(before.state_dict())
    rescale(after, FACTOR)
    return before, after


@torch.no_grad()
def test_y_is_scaled_and_what_takes_it_sees_no_difference(models: tuple[Mlicpp, Mlicpp], make_photo):
    before, after = models
    x = tensor_from_pixels(make_photo(64, 128)[None], torch.device("cpu"))
    y, scaled = before.analysis(x), after.analysis(x)
    torch.testing.assert_close(scaled, FACTOR * y)
    torch.testing.assert_close(after.h_a(scaled), before.h_a(y))
    for name in ("channel_context", "global_inter_context"):
        torch.testing.assert_close(after.at(name, 1)(scaled[:, :32]), before.at(name, 1)(y[:, :32]))
    intra = after.at("global_intra_context", 1)(scaled[:, :32], scaled[:, 32:])
    torch.testing.assert_close(intra, before.at("global_intra_context", 1)(y[:, :32], y[:, 32:]))
    hyper = torch.randn(1, 64, *y.shape[2:])
    found = after.at("lrp_anchor", 0)(torch.cat([hyper, scaled[:, :32]], dim=1))
    torch.testing.assert_close(found, before.at("lrp_anchor", 0)(torch.cat([hyper, y[:, :32]], dim=1)))


@torch.no_grad()
def test_scales_and_means_follow(models: tuple[Mlicpp, Mlicpp], make_photo):
    before, after = models
    contexts = torch.randn(1, 128, 4, 8)
    head = "entropy_parameters_anchor"
    torch.testing.assert_close(after.at(head, 0)(contexts), FACTOR * before.at(head, 0)(contexts))


@torch.no_grad()
def test_picture_stays_but_for_one_activation(models: tuple[Mlicpp, Mlicpp]):
    before, after = models
    for model in models:  # the branch that is not exact
        model.g_s.synthesis_transform[0].conv2.weight.zero_()
        model.g_s.synthesis_transform[0].conv2.bias.zero_()
    y = torch.randn(1, 64, 4, 8)
    torch.testing.assert_close(after.synthesis(FACTOR * y), before.synthesis(y), atol=1e-5, rtol=1e-5)


def test_old_variant_is_refused():
    with pytest.raises(MlicError, match="old MLIC"):
        rescale(Mlicpp(replace(WIDTHS, old=True)), 2.0)


def test_command_scales_by_the_root_of_the_ratio(models: tuple[Mlicpp, Mlicpp], tmp_path: Path):
    before, _ = models
    torch.save({"state_dict": before.state_dict()}, tmp_path / "a.pth")
    arguments = [str(tmp_path / "a.pth"), "-o", str(tmp_path / "b.pth"), "--from", "0.013", "--to", "0.0325"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    key = "g_a.analysis_transform.6.weight"
    after = load_checkpoint(tmp_path / "b.pth", "auto").model
    torch.testing.assert_close(after.get_parameter(key), 2.5**0.5 * before.get_parameter(key))
    result = CliRunner().invoke(app, [*arguments[:-1], "0"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
