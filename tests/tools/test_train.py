"""The training command: a run that was killed goes on as if it had not been, and leaves what the exporter reads."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mlic.export.checkpoints import load_checkpoint
from mlic.tools.train import app, initial_model, run
from tests.commands import Result, environment, names
from tests.small_training import Make, assert_equal, load_state, steps, weights

pytestmark = pytest.mark.usefixtures("one_thread")

# As ``OPTIONS``, by the command, with widths that it can make.
ARGUMENTS = [
    *("--n", 16, "--m", 32, "--slim", 16, "--batch", 2, "--crop", 64, "--steps", 6, "--ema", 0.9, "--seed", 3),
    *("--learning-rate", 1e-3, "--threads", 1, "--no-bf16"),
]


def test_latents_of_other_architectures_are_refused(photos: Path, train: Callable[..., Result]):
    result = train(photos, "-o", "run", "--arch", "stf", "--latents", "--steps", 1)
    assert result.code == 2
    assert "--latents is for MLIC++" in result.err


@pytest.fixture(scope="module")
def photos(make_photo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(4):
        Image.fromarray(make_photo(80 + 16 * index, 96, seed=index)).save(folder / f"p{index}.png")
    return folder


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def train(*arguments: object) -> Result:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return train


def test_every_option_reaches_the_run(photos: Path, train: Callable[..., Result], tmp_path: Path):
    given = {
        "--lambda": ("rate_lambda", 0.02),
        "--learning-rate": ("learning_rate", 1e-4),
        "--transform-rate": ("transform_rate", 0.3),
        "--decay": ("decay", 0.4),
        "--batch": ("batch", 1),
        "--crop": ("crop", 64),
        "--minutes": ("minutes", 5.0),
        "--steps": ("steps", 1),
        "--ema": ("ema", 0.8),
        "--seed": ("seed", 7),
        "--weight-bits": ("weight_bits", 8),
        "--frozen": ("frozen", r"g_a\."),
    }
    options = [item for name, (_, value) in given.items() for item in (name, value)]
    options += ["--no-bf16", "--no-noise"]
    assert train(photos, "-o", "run", "--n", 16, "--m", 32, "--slim", 16, *options).code == 0
    written = torch.load(tmp_path / "run" / "checkpoint.pth", weights_only=True)["options"]
    assert written == dict(given.values()) | {"bf16": False, "latents": False, "noise": False}


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps by the command that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = [str(photos), "-o", str(folder / "run"), *map(str, ARGUMENTS)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    return folder / "run"


def test_killed_process_goes_on_to_the_same_weights(photos: Path, whole: Path, tmp_path: Path):
    arguments = [str(photos), "-o", "run", *map(str, ARGUMENTS), "--save-every", "0", "--validate-every", "2"]
    # The process kills itself in the middle of its fourth step, after the weights have changed.
    code = (
        "import os, signal, sys\n"
        "from mlic.tools.trainer import Trainer\n"
        "from mlic.tools.train import main\n"
        "average = Trainer._average\n"
        "def last(self):\n"
        "    os.kill(os.getpid(), signal.SIGKILL) if self.step == 3 else average(self)\n"
        "Trainer._average = last\n"
        "main()\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, env=environment(), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert torch.load(tmp_path / "run/checkpoint.pth")["step"] == 3
    command = [sys.executable, "-m", "mlic.tools.train", *arguments]
    again = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, check=False)
    assert (again.returncode, again.stdout, again.stderr) == (0, b"", b"")
    assert_equal(load_state(tmp_path / "run"), load_state(whole))
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_finishes_the_step_and_saves_it(number: signal.Signals, make: Make, tmp_path: Path):
    trainer = make()
    average = trainer._average

    def interrupted() -> None:
        if trainer.step == 1:
            signal.raise_signal(number)
        average()

    trainer._average = interrupted  # type: ignore[method-assign]
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run(trainer, tmp_path, 10, 100, quiet=True)
    assert signal.getsignal(number) is before
    second = make(model_seed=99)
    second.resume(tmp_path / "checkpoint.pth")
    assert second.step == 2
    straight = make()
    steps(straight, 6)
    run(second, tmp_path, 10, 100, quiet=True)
    assert_equal(weights(second), weights(straight))


def test_second_interrupt_stops_at_once_and_keeps_the_last_checkpoint(make: Make, tmp_path: Path):
    trainer = make()

    def interrupted() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    trainer._average = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(trainer, tmp_path, 10, 100, quiet=True)
    assert names(tmp_path) == []


def test_failing_step_does_not_overwrite_the_checkpoint(make: Make, tmp_path: Path):
    trainer = make()
    steps(trainer, 1)
    trainer.save(tmp_path / "checkpoint.pth")
    before = (tmp_path / "checkpoint.pth").read_bytes()

    def fail() -> None:
        raise MemoryError

    trainer._average = fail  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        run(trainer, tmp_path, 10, 100, quiet=True)
    assert (tmp_path / "checkpoint.pth").read_bytes() == before


def test_weights_are_a_checkpoint_with_tables_that_the_exporter_reads(whole: Path):
    loaded = load_checkpoint(whole / "weights.pth")
    assert loaded.architecture.name == "mlicpp"
    state = load_state(whole)
    assert state["gaussian_conditional._quantized_cdf"].shape == (64, 3133)
    assert len(state["entropy_bottleneck._cdf_length"]) == 16
    assert torch.load(whole / "weights.pth")["epoch"] == 6


def test_loss_that_is_not_finite_does_not_spoil_the_log(make: Make, tmp_path: Path):
    trainer = make(steps=3, held_out=0)
    step = trainer.train_step

    def spoilt() -> dict[str, float]:
        row = step()
        return row if trainer.step != 2 else dict.fromkeys(row, math.nan)

    trainer.train_step = spoilt  # type: ignore[method-assign]
    run(trainer, tmp_path, 10, 3, quiet=True)
    line = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=pytest.fail)
    assert (line["step"], line["skipped"], line["held_out"]) == (3, 0, None)
    assert set(line["train"]) == {"loss", "bpp", "psnr"}


def test_run_leaves_its_files_and_another_start_takes_no_step(whole: Path, photos: Path, train, tmp_path: Path):
    assert names(whole) == ["checkpoint.pth", "weights.pth"]  # no log: fewer steps than between validations
    before = load_state(whole)
    assert train(photos, "-o", whole, *ARGUMENTS).code == 0
    assert_equal(load_state(whole), before)
    assert torch.load(whole / "checkpoint.pth")["step"] == 6


def test_start_from_a_checkpoint_takes_its_weights_and_leaves_its_tables(whole: Path):
    model = initial_model(None, whole / "weights.pth", n=64, m=96, slim=3)
    expected = load_state(whole)
    for key, value in model.named_parameters():
        assert torch.equal(value, expected[key]), key
    assert model.get_buffer("gaussian_conditional._quantized_cdf").numel() == 0
    assert model.get_buffer("gaussian_conditional.scale_bound") == torch.tensor([0.11])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nowhere", "-o", "run"), "nowhere: No such file or directory"),
        ((".", "-o", "run"), "no picture of at least 64 pixels a side in ."),
        ((".", "-o", "run", "--init", "no.pth"), "no.pth: no such file"),
        ((".", "-o", "run", "--init", "weights.pth", "--arch", "stf"),
         "weights.pth: found a checkpoint of MLIC++; expected STF"),
    ],
)  # fmt: skip
def test_likely_mistake_is_one_line(arguments: tuple[str, ...], problem: str, train, whole: Path, tmp_path: Path):
    (tmp_path / "weights.pth").write_bytes((whole / "weights.pth").read_bytes())
    assert train(*arguments, *ARGUMENTS).error == f"train: {problem}"
    assert names(tmp_path) == ["weights.pth"]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--crop", "100", "--steps", "1"), ("--m", "40", "--steps", "1"), ("--arch", "vgg", "--steps", "1")],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], train):
    result = train(".", "-o", "run", *arguments)
    assert (result.code, result.out) == (2, "")
    assert "Usage: " in result.err


def test_help_names_every_option():
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0
    for option in (
        "--output", "--init", "--arch", "--n", "--m", "--slim", "--lambda", "--learning-rate", "--batch", "--crop",
        "--minutes", "--steps", "--ema", "--bf16", "--seed", "--threads", "--save-every", "--validate-every",
        "--device", "--quiet",
    ):  # fmt: skip
        assert option in result.stdout
