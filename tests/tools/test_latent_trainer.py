"""Training of the entropy side alone."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mlic.export.models.mlicpp import Mlicpp
from mlic.runtime.errors import MlicError
from mlic.tools import latent_trainer
from mlic.tools.latent_trainer import LatentTrainer
from mlic.tools.trainer import Options, rate
from tests.small_training import OPTIONS, WIDTHS, Make, assert_equal, steps, weights


@pytest.fixture
def make_latent(make_photo):
    photos = [make_photo(128, 192, seed=seed) for seed in range(3)]

    def build(**changes: object) -> LatentTrainer:
        torch.manual_seed(0)
        model = Mlicpp(replace(WIDTHS, m=96))
        with torch.no_grad():  # coefficients of some units and of different sizes
            model.g_a.analysis_transform[6].weight.mul_(torch.linspace(100, 5, 96)[:, None, None, None])
        options = Options(**{**OPTIONS, "latents": True, "noise": False, **changes})
        return LatentTrainer(model, (photos, []), options, torch.device("cpu"))

    return build


@pytest.mark.usefixtures("one_thread")
def test_transforms_rest_and_the_rate_falls(make_latent):
    trainer = make_latent(learning_rate=0.03, steps=100)  # warm-up leaves a quarter of it at most
    before = weights(trainer)
    rows = steps(trainer, 24)
    after = weights(trainer)
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved.isdisjoint({"g_a", "g_s"})
    assert {"h_a", "h_s", "lrp_anchor", "entropy_parameters_anchor", "entropy_bottleneck", "local_context"} <= moved
    whole = [row["bpp"] for row in rows[:: latent_trainer.WHOLE_EVERY]]
    assert np.mean(whole[-2:]) < 0.95 * np.mean(whole[:2])
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_whole_step_gives_the_rate_of_the_model(make_latent):
    trainer = make_latent(batch=2)
    y = trainer.latents.batch(2, np.random.default_rng(np.random.SeedSequence((3, 0))))
    trainer.codec.eval()
    with torch.no_grad():
        expected = rate(trainer.codec.code(y), 2 * 64 * 64)
    assert steps(trainer, 1)[0]["bpp"] == pytest.approx(float(expected), rel=1e-5)


def test_two_slices_weighted_stand_for_all(make_latent, monkeypatch):
    """Their rate is that of the whole on average, up to what y_hat of the slices before differs from rounded y."""
    trainer = make_latent(learning_rate=0.0)
    y = trainer.latents.batch(2, np.random.default_rng(1))
    monkeypatch.setattr(trainer.latents, "batch", lambda count, generator: y)
    rows = steps(trainer, 4 * latent_trainer.WHOLE_EVERY)
    whole = rows[:: latent_trainer.WHOLE_EVERY]
    others = {round(row["bpp"], 3) for row in rows if row not in whole}
    assert len(others) == 2  # one for each slice but the first
    assert np.mean(list(others)) == pytest.approx(whole[0]["bpp"], rel=0.03)


def test_weights_move_by_shares_of_what_they_meet_and_make(make_latent):
    trainer = make_latent()
    deviations = trainer.latents.deviations()
    assert deviations[0] > 3 * deviations[95] > 0
    before = weights(trainer)
    for parameter in trainer.codec.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer._move()
    after = weights(trainer)

    def moved(key: str) -> torch.Tensor:
        return before[key] - after[key]

    plain = float(moved("h_s.increase.0.bias").mean())
    close = partial(torch.testing.assert_close, rtol=0.02, atol=1e-7)
    meets, makes = plain / deviations.clamp(min=1), plain * deviations.clamp(min=0.2)
    close(moved("h_a.reduction.0.weight").mean(dim=(0, 2, 3)), meets)
    close(moved("channel_context.2.fushion.0.weight").mean(dim=(0, 2, 3)), meets[:64])
    close(moved("global_intra_context.1.keys.0.weight").mean(dim=(0, 2, 3)), meets[:32])
    close(moved("global_intra_context.1.values.0.weight").mean(dim=(0, 2, 3)), meets[32:64])
    close(moved("lrp_nonanchor.0.lrp_transform.0.weight").mean(dim=(0, 2, 3))[:96], torch.full((96,), plain))
    close(moved("lrp_nonanchor.0.lrp_transform.0.weight").mean(dim=(0, 2, 3))[96:], meets[:32])
    close(moved("entropy_parameters_anchor.2.fusion.6.bias"), makes[64:].repeat(2))


def test_run_goes_on_where_it_was_and_not_as_one_of_another_kind(make_latent, make: Make, tmp_path: Path):
    straight = make_latent()
    rows = steps(straight, 5)
    first = make_latent()
    steps(first, 2)
    first.save(tmp_path / "c.pth")
    second = make_latent()
    assert second.resume(tmp_path / "c.pth") == []
    assert steps(second, 3) == rows[2:]
    assert_equal(weights(second), weights(straight))
    with pytest.raises(MlicError, match="is of a run with --latents"):
        make().resume(tmp_path / "c.pth")
