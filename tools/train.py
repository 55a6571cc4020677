"""Train a codec on a folder of photos: ``python -m mlic.tools.train PHOTOS -o RUN``.

The loss is that of the papers, lambda * 255^2 * MSE + bpp, with a separate optimiser for the quantiles of the
bottleneck. A run can be killed at any time and started again with the same command; it goes on from its last
checkpoint. Progress is measured in the seconds trained or in steps, whichever limit is given.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mlic.tools.console import reported_errors
from mlic.tools.extras import required
from mlic.tools.progress import training_bar

with required("train", "export", "cpu"):
    import torch
    from torch import nn

    from mlic.export.checkpoints import load_checkpoint
    from mlic.export.models.mlicpp import Mlicpp, MlicppWidths
    from mlic.export.models.stf import Stf
    from mlic.export.models.wacnn import Wacnn
    from mlic.tools.latent_trainer import LatentTrainer
    from mlic.tools.trainer import Options, Trainer
    from mlic.tools.training_data import load_photos

HELD_OUT = 0.05  # share of the photos that only validation sees

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Arch(StrEnum):
    """Architectures."""

    mlicpp = "mlicpp"
    stf = "stf"
    wacnn = "wacnn"


class WeightBits(StrEnum):
    """Bits of an exported weight."""

    eight = "8"
    half = "16"


@app.command()
def train(
    photos: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from; gives architecture and widths too.")
    ] = None,
    arch: Annotated[
        Arch | None, typer.Option(help="Architecture; default: mlicpp, or what --init holds.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("--n", min=8, help="MLIC++: channels of the transforms.")] = 64,
    m: Annotated[int, typer.Option("--m", min=32, help="MLIC++: channels of y, a multiple of 32.")] = 96,
    slim: Annotated[
        int, typer.Option(min=1, help="MLIC++: divide the hidden widths of the context networks by this.")
    ] = 3,
    rate_lambda: Annotated[float, typer.Option("--lambda", help="Weight of the distortion.")] = 0.013,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 5e-4,
    transform_rate: Annotated[
        float, typer.Option(min=0, help="Learning rate of analysis and synthesis, as a share of that of all else.")
    ] = 1.0,
    frozen: Annotated[
        str, typer.Option(metavar="REGEX", help="Parameters to leave as they are: those whose names match its start.")
    ] = "",
    latents: Annotated[
        bool,
        typer.Option(
            "--latents",
            help="MLIC++ from linear_start: train what lies between y and y_hat alone, on y computed once.",
        ),
    ] = False,
    noise: Annotated[
        bool, typer.Option(help="Take the rate at noisy values; otherwise at rounded ones, as in files.")
    ] = True,
    decay: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the run, its last, over which the learning rate falls.")
    ] = 1.0,
    batch: Annotated[int, typer.Option(min=1, help="Crops a step.")] = 8,
    crop: Annotated[int, typer.Option(min=64, help="Side of a crop, a multiple of 64.")] = 128,
    minutes: Annotated[float, typer.Option(min=0, help="Training time over all starts.")] = 0.0,
    steps: Annotated[int, typer.Option(min=0, help="Number of steps.")] = 0,
    ema: Annotated[float, typer.Option(min=0, max=1, help="Decay of the averaged weights.")] = 0.999,
    bf16: Annotated[bool, typer.Option(help="Networks in bfloat16 where possible.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights, crops, flips and noise.")] = 1,
    weight_bits: Annotated[
        WeightBits, typer.Option(help="Round the exported weights to 8 bits a channel, or to half precision.")
    ] = WeightBits.half,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")] = 0,
    save_every: Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")] = 3.0,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 500,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Train a codec and leave RUN/checkpoint.pth (to go on), RUN/weights.pth (to export) and RUN/log.jsonl."""
    if not minutes and not steps:
        raise typer.BadParameter("give --minutes or --steps")
    if crop % 64:
        raise typer.BadParameter(f"--crop is {crop}; expected a multiple of 64")
    if m % 32:
        raise typer.BadParameter(f"--m is {m}; expected a multiple of 32")
    with reported_errors("train", quiet):
        if threads:
            torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        torch.manual_seed(seed)
        model = initial_model(arch, init, n, m, slim)
        if latents and not isinstance(model, Mlicpp):
            raise typer.BadParameter("--latents is for MLIC++")
        options = Options(
            rate_lambda=rate_lambda,
            learning_rate=learning_rate,
            decay=decay,
            batch=batch,
            crop=crop,
            minutes=minutes,
            steps=steps,
            ema=ema,
            bf16=bf16,
            seed=seed,
            transform_rate=transform_rate,
            frozen=frozen,
            latents=latents,
            noise=noise,
            weight_bits=int(weight_bits),
        )
        data = load_photos(photos, crop, HELD_OUT)
        trainer: Trainer
        if latents and isinstance(model, Mlicpp):
            trainer = LatentTrainer(model, data, options, torch.device(device))
        else:
            trainer = Trainer(model, data, options, torch.device(device))
        output.mkdir(parents=True, exist_ok=True)
        checkpoint = output / "checkpoint.pth"
        if checkpoint.exists():
            for difference in trainer.resume(checkpoint):
                print(f"train: warning: going on with another option: {difference}", file=sys.stderr)
        run(trainer, output, save_every, validate_every, quiet)


def initial_model(arch: Arch | None, init: Path | None, n: int, m: int, slim: int) -> nn.Module:
    """Return the model to train: of a checkpoint, or with random weights.

    Args:
        arch: None for that of the checkpoint, or MLIC++.
        init: checkpoint; gives the widths.
        n: channels of the transforms of an MLIC++.
        m: channels of its y.
        slim: divides the hidden widths of its context networks.

    Raises:
        CheckpointError: ``init`` is no checkpoint, or of another architecture than ``arch``.
    """
    if init is not None:
        loaded = load_checkpoint(init, arch.value if arch else "auto")
        state = dict(loaded.model.named_parameters())
        model = loaded.architecture.build(state)  # anew: tables of the file would be those of other weights
        model.load_state_dict(state, strict=False)
        return model
    if arch is Arch.stf:
        return Stf()
    if arch is Arch.wacnn:
        return Wacnn()
    official = MlicppWidths()
    ep, lrp, channel = official.entropy_parameters, official.lrp, official.channel_context
    widths = MlicppWidths(
        n=n,
        m=m,
        entropy_parameters=(ep[0] // slim, ep[1] // slim, ep[2] // slim),
        lrp=(lrp[0] // slim, lrp[1] // slim),
        channel_context=(channel[0] // slim, channel[1] // slim),
    )
    return Mlicpp(widths)


def run(trainer: Trainer, output: Path, save_every: float, validate_every: int, quiet: bool = False) -> None:
    """Train until the limit, logging a line of JSON each validation and saving every few minutes.

    Args:
        trainer: fresh or resumed.
        output: folder of the run.
        save_every: minutes between checkpoints.
        validate_every: steps between validations.
        quiet: show no progress.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; the step at hand was finished and saved.
    """
    log = output / "log.jsonl"
    _forget_later_lines(log, trainer.step)
    saved = time.monotonic()
    averages: dict[str, float] = {}
    with _stop_asked() as stop_asked, training_bar(quiet) as show:
        while trainer.progress() < 1 and not stop_asked():
            row = trainer.train_step()
            if all(map(math.isfinite, row.values())):
                averages = {k: 0.99 * averages.get(k, v) + 0.01 * v for k, v in row.items()}
            show(trainer.progress(), {"step": trainer.step, **averages})
            if trainer.step % validate_every == 0:
                line = {
                    "step": trainer.step,
                    "seconds": round(trainer.seconds),
                    "skipped": trainer.skipped,
                    "train": averages,
                    "held_out": trainer.validate(),
                }
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            if time.monotonic() - saved > 60 * save_every:
                _save(trainer, output)
                saved = time.monotonic()
        _save(trainer, output)
    if stop_asked():
        raise KeyboardInterrupt


def _save(trainer: Trainer, output: Path) -> None:
    trainer.save_weights(output / "weights.pth")
    trainer.save(output / "checkpoint.pth")


def _forget_later_lines(log: Path, step: int) -> None:
    """Remove from the log what a killed run wrote after its last checkpoint: those steps are taken again."""
    if not log.exists():
        return
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if kept != lines:
        log.write_text("".join(kept), encoding="utf-8")


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Let the first SIGINT or SIGTERM end the run after the step at hand, and the second at once."""
    asked = False

    def note(number: int, _: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
