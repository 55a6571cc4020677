"""One training run: its steps, its schedule, its checkpoints, and the weights it leaves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlic.export.checkpoints import load_checkpoint
from mlic.export.models.mlicpp import Mlicpp
from mlic.export.models.stf import Stf, StfWidths
from mlic.export.models.wacnn import Wacnn
from mlic.export.weights import eight_bits_from_values
from mlic.runtime.errors import MlicError
from mlic.tools.trainer import WARM_UP_STEPS, Options, Trainer, psnr, rate
from mlic.tools.training_data import tensor_from_pixels
from tests.small_training import OPTIONS, SLICES, WIDTHS, Make, assert_equal, load_state, steps, weights


@pytest.mark.parametrize("at", [1, 4])
def test_resumed_run_gives_the_weights_of_one_that_was_not_interrupted(at: int, make: Make, tmp_path: Path):
    straight = make()
    rows = steps(straight, 6)
    first = make()
    steps(first, at)
    first.save(tmp_path / "c.pth")
    steps(first, 1)  # lost when the run was killed
    second = make(model_seed=99)
    torch.rand(17)  # whatever else happened in the process
    assert second.resume(tmp_path / "c.pth") == []
    assert second.step == at
    assert steps(second, 6 - at) == rows[at:]
    assert_equal(weights(second), weights(straight))
    assert_equal(second.ema, straight.ema)


def test_validation_and_saving_change_no_step(make: Make, tmp_path: Path):
    straight, checked = make(), make()
    rows = steps(straight, 3)
    found = []
    for _ in range(3):
        found += steps(checked, 1)
        checked.validate()
        checked.save_weights(tmp_path / "w.pth")
    assert found == rows
    assert_equal(weights(checked), weights(straight))


def test_weights_are_the_averaged_ones_in_half_precision_and_constants_are_exact(make: Make, tmp_path: Path):
    trainer = make()
    steps(trainer, 2)
    with torch.no_grad():
        trainer.ema["h_a.reduction.0.bias"][0] = 1e5  # beyond half precision
    trainer.save_weights(tmp_path / "weights.pth")
    state = load_state(tmp_path)
    assert "gaussian_conditional._offset" in state
    parameters = dict(trainer.model.named_parameters())
    for key, value in state.items():
        if key == "h_a.reduction.0.bias":
            assert value[0] == 1e5
        elif key in parameters:
            assert torch.equal(value, trainer.ema[key].half().float()), key
        elif not key.startswith(("entropy_bottleneck._", "gaussian_conditional._", "gaussian_conditional.scale_table")):
            assert torch.equal(value, trainer.ema[key]), key
    assert state["gaussian_conditional.scale_bound"] == torch.tensor([0.11])
    assert trainer.model.get_buffer("gaussian_conditional._offset").numel() == 0  # the model itself is not touched


@pytest.mark.usefixtures("one_thread")
def test_loss_goes_down_on_one_picture():
    torch.manual_seed(0)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0], picture[:32, :, 1] = np.linspace(0, 255, 64).astype(np.uint8), 200
    options = Options(**OPTIONS | {"steps": 60, "learning_rate": 5e-3})
    trainer = Trainer(Mlicpp(WIDTHS), ([picture], []), options, torch.device("cpu"))
    losses = [row["loss"] for row in steps(trainer, 60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradient_that_is_not_finite_is_skipped(value: float, make: Make, tmp_path: Path):
    trainer = make()
    steps(trainer, 1)
    before, average = weights(trainer), {key: t.clone() for key, t in trainer.ema.items()}
    parameter = trainer.model.get_parameter("g_s.synthesis_transform.0.conv1.weight")
    handle = parameter.register_hook(lambda grad: torch.full_like(grad, value))
    steps(trainer, 1)
    handle.remove()
    assert_equal(weights(trainer), before)
    assert_equal(trainer.ema, average)
    assert (trainer.step, trainer.skipped) == (2, 1)
    row = steps(trainer, 1)[0]
    assert math.isfinite(row["loss"])
    assert not torch.equal(parameter, before["g_s.synthesis_transform.0.conv1.weight"])
    trainer.save(tmp_path / "c.pth")
    second = make()
    second.resume(tmp_path / "c.pth")
    assert second.skipped == 1


def test_rate_rises_over_the_warm_up_and_falls_along_a_cosine(make: Make):
    trainer = make(steps=1000, learning_rate=1.0)
    rates = []
    for step in range(1000):
        trainer.step = step
        rates.append(trainer.learning_rate())
    assert rates[0] == pytest.approx(1 / WARM_UP_STEPS)
    assert np.argmax(rates) == WARM_UP_STEPS - 1
    assert rates[500] == pytest.approx(0.505)
    assert rates[-1] == pytest.approx(0.01, rel=1e-2)
    assert all(np.diff(rates[:WARM_UP_STEPS]) > 0)
    assert all(np.diff(rates[WARM_UP_STEPS:]) < 0)


@pytest.mark.parametrize(
    ("decay", "at", "share"), [(0.0, 999, 1.0), (0.25, 740, 1.0), (0.25, 875, 0.505), (0.25, 999, 0.01)]
)
def test_rate_falls_only_over_the_last_share_of_the_run(decay: float, at: int, share: float, make: Make):
    trainer = make(steps=1000, learning_rate=1.0, decay=decay)
    trainer.step = at
    assert trainer.learning_rate() == pytest.approx(share, abs=0.001)


def test_weights_rounded_to_eight_bits_are_close_and_are_stored_in_a_byte_each(make: Make, tmp_path: Path):
    trainer = make(weight_bits=8)
    steps(trainer, 2)
    trainer.save_weights(tmp_path / "weights.pth")
    state = load_state(tmp_path)
    layers = [name for name, module in trainer.model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    fine = [name for name in layers if re.search(r"^g_a\.|upsample|transform\.7\.0$|lrp_transform\.[24]$", name)]
    assert len(fine) == 24
    assert len(layers) > 50
    for name in layers:
        before, after = trainer.ema[f"{name}.weight"].numpy(), state[f"{name}.weight"].numpy()
        if name in fine:  # these carry the picture or correct y
            assert np.array_equal(after, before.astype(np.float16)), name
            continue
        assert eight_bits_from_values(after.reshape(len(after), -1)) is not None, name
        largest = np.abs(before).reshape(len(before), -1).max(axis=1)
        error = np.abs(after - before).reshape(len(before), -1).max(axis=1)
        assert (error <= 0.51 * largest / 127 + 2**-25).all(), name
    key = "g_a.analysis_transform.0.gdn.gamma"
    assert torch.equal(state[key], trainer.ema[key].half().float())


def test_transforms_learn_at_their_share_of_the_rate(make: Make):
    trainer = make(transform_rate=0.0)
    before = weights(trainer)
    steps(trainer, 3)
    after = weights(trainer)
    moved = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved.isdisjoint({"g_a", "g_s"})
    assert {"h_a", "h_s", "entropy_parameters_anchor", "entropy_bottleneck"} <= moved


@pytest.mark.parametrize("frozen", [r"g_a\.|g_s\..*\.upsample\.", r"(?!g_s\.)"], ids=["some", "all but synthesis"])
def test_frozen_parameters_stay(frozen: str, make: Make):
    trainer = make(frozen=frozen)
    before = weights(trainer)
    steps(trainer, 2)
    after = weights(trainer)
    names = {name for name, _ in trainer.model.named_parameters()}
    stayed = {name for name in names if torch.equal(before[name], after[name])}
    assert stayed == {name for name in names if re.match(frozen, name)}


def test_rate_without_noise_is_that_of_the_rounded_values(make: Make):
    assert steps(make(noise=False), 1)[0]["bpp"] == steps(make(noise=False), 1)[0]["bpp"]
    trainer = make(noise=False, batch=1)
    batch = trainer.crops.batch(1, np.random.default_rng(np.random.SeedSequence((3, 0))))
    trainer.model.eval()
    with torch.no_grad():
        expected = rate(trainer.model(tensor_from_pixels(batch, torch.device("cpu"))), 64 * 64)
    assert steps(trainer, 1)[0]["bpp"] == pytest.approx(float(expected), rel=1e-5)


def test_rate_follows_the_minutes_where_they_are_the_limit(make: Make):
    trainer = make(steps=0, minutes=10.0, learning_rate=1.0)
    trainer.step, trainer.seconds = 10_000, 300.0
    assert trainer.progress() == 0.5
    assert trainer.learning_rate() == pytest.approx(0.505)
    trainer.seconds = 601.0
    assert trainer.progress() == 1.0


def test_step_uses_the_scheduled_rate(make: Make):
    trainer = make()
    expected = trainer.learning_rate()
    steps(trainer, 1)
    assert trainer.optimizer.param_groups[0]["lr"] == expected


@pytest.mark.parametrize(
    "model",
    [lambda: Stf(StfWidths(8, heads=(1, 2, 2, 4)), SLICES), lambda: Wacnn(16, SLICES)],
    ids=["stf", "wacnn"],
)
def test_other_architectures_train_and_are_exported(model: Callable[[], nn.Module], make: Make, tmp_path: Path):
    trainer = make(model(), bf16=True)
    before = weights(trainer)
    steps(trainer, 2)
    changed = [
        key for key, _ in trainer.model.named_parameters() if not torch.equal(before[key], weights(trainer)[key])
    ]
    assert len(changed) > 0.9 * len(list(trainer.model.parameters()))
    validation = trainer.validate()
    assert validation is not None
    assert set(validation) == {"loss", "bpp", "psnr"}
    trainer.save_weights(tmp_path / "w.pth")
    assert type(load_checkpoint(tmp_path / "w.pth").model) is type(trainer.model)


def test_validation_is_of_the_averaged_weights_and_puts_the_others_back(make: Make):
    trainer = make()
    steps(trainer, 2)
    before = weights(trainer)
    first = trainer.validate()
    assert_equal(weights(trainer), before)
    assert trainer.model.training
    trainer.model.load_state_dict(trainer.ema)
    assert trainer.validate() == first
    with torch.no_grad():
        trainer.ema["g_s.synthesis_transform.0.conv1.weight"].zero_()
    assert trainer.validate() != first


def test_psnr_of_a_perfect_picture_is_100_db():
    assert psnr(0.01) == pytest.approx(20)
    assert psnr(0.0) == 100


def test_other_options_on_resuming_are_warned_of(make: Make, tmp_path: Path):
    trainer = make()
    trainer.save(tmp_path / "c.pth")
    changed = make(batch=4, steps=99, learning_rate=2e-3).resume(tmp_path / "c.pth")
    assert changed == ["learning_rate was 0.001, is 0.002", "batch was 2, is 4"]


def test_checkpoint_of_another_model_or_cut_is_one_line(make: Make, tmp_path: Path):
    make().save(tmp_path / "c.pth")
    with pytest.raises(MlicError, match=r"is damaged or of another model: .*; name another folder") as caught:
        make(Wacnn(16, SLICES)).resume(tmp_path / "c.pth")
    assert "\n" not in str(caught.value)
    (tmp_path / "c.pth").write_bytes((tmp_path / "c.pth").read_bytes()[:-9000])
    with pytest.raises(MlicError, match="is damaged or of another model"):
        make().resume(tmp_path / "c.pth")
