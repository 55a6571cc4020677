"""Train a codec on a folder of photos: ``python -m mlic.tools.train PHOTOS -o RUN``.

The loss is that of the papers, lambda * 255^2 * MSE + bpp, with a separate optimiser for the quantiles of the
bottleneck. A run can be killed at any time and started again with the same command; it goes on from its last
checkpoint. Progress is measured in the seconds trained or in steps, whichever limit is given.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from mlic.export.models.forward import Forward
from mlic.export.models.mlicpp import Mlicpp, MlicppWidths
from mlic.runtime.arrays import UInt8Array
from mlic.tools.training_data import RandomCrops, centre_crops, load_photos

GRADIENT_NORM = 1.0
WARM_UP_STEPS = 100
BOTTLENECK_RATE = 1e-3
VALIDATION_SIZE = 256


@dataclass(frozen=True)
class Options:
    """What defines a run; it is written into its checkpoints.

    Attributes:
        rate_lambda: weight of the distortion.
        learning_rate: at its highest, after the warm-up; falls to 1 % of it along a cosine.
        batch: crops a step.
        crop: side of a crop in pixels, a multiple of 64.
        minutes: training time over all starts of the run, or 0.
        steps: number of steps, or 0; one of the two must be given.
        ema: decay of the averaged weights.
        bf16: run the networks in bfloat16 where autocast allows.
        seed: of crops, flips and noise.
    """

    rate_lambda: float
    learning_rate: float
    batch: int
    crop: int
    minutes: float
    steps: int
    ema: float
    bf16: bool
    seed: int


def rate(forward: Forward, pixels: int) -> Tensor:
    """Return the bits per pixel that the likelihoods stand for, a scalar."""
    bits = -torch.log2(forward.y_likelihoods).sum() - torch.log2(forward.z_likelihoods).sum()
    return bits / pixels


def tensor_from_pixels(pixels: UInt8Array, device: torch.device) -> Tensor:
    """Return float32 [B, 3, H, W] in 0..1 from uint8 [B, H, W, 3]."""
    moved = torch.from_numpy(np.ascontiguousarray(pixels)).to(device, non_blocking=True)
    # Contiguous on purpose: with channels-last strides torch 2.13 corrupts its heap in the backward pass on the CPU.
    return moved.permute(0, 3, 1, 2).contiguous().float().div_(255)


class Trainer:
    """One run: model, averaged model, optimisers, data, and how to save them all."""

    def __init__(
        self,
        model: nn.Module,
        photos: tuple[list[UInt8Array], list[UInt8Array]],
        options: Options,
        device: torch.device,
    ) -> None:
        self.options, self.device = options, device
        self.model = model.to(device)
        self.ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
        quantiles = [p for name, p in model.named_parameters() if name.endswith("quantiles")]
        others = [p for name, p in model.named_parameters() if not name.endswith("quantiles")]
        self.optimizer = torch.optim.AdamW(others, lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
        self.bottleneck = torch.optim.Adam(quantiles, lr=BOTTLENECK_RATE)
        self.crops = RandomCrops(photos[0], options.crop, options.seed)
        self.held_out = centre_crops([p for p in photos[1] if min(p.shape[:2]) >= VALIDATION_SIZE], VALIDATION_SIZE)
        self.step, self.seconds = 0, 0.0
        torch.manual_seed(options.seed)

    def progress(self) -> float:
        """Return how far the run is, 0..1."""
        parts = [0.0]
        if self.options.minutes:
            parts.append(self.seconds / (60 * self.options.minutes))
        if self.options.steps:
            parts.append(self.step / self.options.steps)
        return min(1.0, max(parts))

    def train_step(self) -> dict[str, float]:
        """Take one step and return ``loss``, ``bpp`` and ``psnr`` (dB) of its batch."""
        start = time.perf_counter()
        options = self.options
        warm_up = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress()))
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate * warm_up * decay
        x = tensor_from_pixels(self.crops.batch(options.batch), self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=options.bf16):
            forward = self.model(x, noise=True)
        mse = torch.mean((forward.x_hat.float() - x) ** 2)
        bpp = rate(forward, x.shape[0] * x.shape[2] * x.shape[3])
        loss = options.rate_lambda * 255**2 * mse + bpp
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_((p for g in self.optimizer.param_groups for p in g["params"]), GRADIENT_NORM)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.bottleneck.zero_grad(set_to_none=True)
        self.model.entropy_bottleneck.loss().backward()  # type: ignore[operator,union-attr]
        self.bottleneck.step()
        self._average()
        self.step += 1
        self.seconds += time.perf_counter() - start
        return {"loss": loss.item(), "bpp": bpp.item(), "psnr": -10 * math.log10(mse.item())}

    @torch.no_grad()
    def _average(self) -> None:
        # Young averages follow the weights closely, so that a fresh run's average is not its initialisation.
        decay = min(self.options.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                self.ema[name].lerp_(value, 1 - decay)
            else:
                self.ema[name].copy_(value)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return mean ``loss``, ``bpp`` and ``psnr`` of the averaged weights on the held-out photos."""
        kept = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        self.model.eval()
        rows = []
        for pixels in self.held_out:
            x = tensor_from_pixels(pixels[None], self.device)
            forward = self.model(x)
            mse = torch.mean((forward.x_hat.clamp(0, 1) - x) ** 2).item()
            bpp = rate(forward, x.shape[2] * x.shape[3]).item()
            rows.append((self.options.rate_lambda * 255**2 * mse + bpp, bpp, -10 * math.log10(mse)))
        self.model.load_state_dict(kept)
        self.model.train()
        loss, bpp, psnr = np.mean(rows, axis=0)
        return {"loss": float(loss), "bpp": float(bpp), "psnr": float(psnr)}

    def save(self, path: Path) -> None:
        """Write everything needed to go on, through a temporary name."""
        content = {
            "options": asdict(self.options),
            "step": self.step,
            "seconds": self.seconds,
            "state_dict": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "bottleneck": self.bottleneck.state_dict(),
            "crops": self.crops.generator.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }
        temporary = path.with_suffix(".partial")
        torch.save(content, temporary)
        temporary.replace(path)

    def resume(self, path: Path) -> None:
        """Take up the state that ``save`` wrote."""
        content: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        self.step, self.seconds = content["step"], content["seconds"]
        self.model.load_state_dict(content["state_dict"])
        self.ema = content["ema"]
        self.optimizer.load_state_dict(content["optimizer"])
        self.bottleneck.load_state_dict(content["bottleneck"])
        self.crops.generator.bit_generator.state = content["crops"]
        torch.set_rng_state(content["torch_rng"].cpu())

    def save_weights(self, path: Path) -> None:
        """Write the averaged weights as a checkpoint of the official form, rounded to half precision.

        Rounded weights let the exporter store them in half the bytes without loss.
        """
        state = {k: v.half().to(v.dtype) if v.dtype.is_floating_point else v for k, v in self.ema.items()}
        temporary = path.with_suffix(".partial")
        torch.save({"epoch": self.step, "state_dict": state, "loss": None}, temporary)
        temporary.replace(path)


def main(
    photos: Annotated[Path, typer.Argument(help="Folder of pictures.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    init: Annotated[Path | None, typer.Option(help="Checkpoint to start from; gives the widths too.")] = None,
    n: Annotated[int, typer.Option("--n", help="Channels of the transforms.")] = 64,
    m: Annotated[int, typer.Option("--m", help="Channels of y, a multiple of 32.")] = 96,
    slim: Annotated[int, typer.Option(help="Divide the hidden widths of the context networks by this.")] = 3,
    rate_lambda: Annotated[float, typer.Option("--lambda", help="Weight of the distortion.")] = 0.013,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 5e-4,
    batch: Annotated[int, typer.Option(help="Crops a step.")] = 8,
    crop: Annotated[int, typer.Option(help="Side of a crop.")] = 128,
    minutes: Annotated[float, typer.Option(help="Training time over all starts.")] = 0.0,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 0,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights.")] = 0.999,
    bf16: Annotated[bool, typer.Option(help="Networks in bfloat16 where possible.")] = True,
    seed: Annotated[int, typer.Option(help="Of crops, flips and noise.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves it to torch.")] = 0,
    save_every: Annotated[float, typer.Option(help="Minutes between checkpoints.")] = 3.0,
    validate_every: Annotated[int, typer.Option(help="Steps between validations.")] = 500,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train MLIC++ and leave RUN/checkpoint.pth (to go on), RUN/weights.pth (to export) and RUN/log.jsonl."""
    if not minutes and not steps:
        raise typer.BadParameter("give --minutes or --steps")
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = _initial_model(init, n, m, slim)
    options = Options(rate_lambda, learning_rate, batch, crop, minutes, steps, ema, bf16, seed)
    trainer = Trainer(model, load_photos(photos, crop, 0.05), options, torch.device(device))
    checkpoint = output / "checkpoint.pth"
    if checkpoint.exists():
        trainer.resume(checkpoint)
    run(trainer, output, save_every, validate_every)


def _initial_model(init: Path | None, n: int, m: int, slim: int) -> nn.Module:
    if init is None:
        defaults = MlicppWidths()
        ep, lrp, channel = defaults.entropy_parameters, defaults.lrp, defaults.channel_context
        return Mlicpp(
            MlicppWidths(
                n=n,
                m=m,
                entropy_parameters=(ep[0] // slim, ep[1] // slim, ep[2] // slim),
                lrp=(lrp[0] // slim, lrp[1] // slim),
                channel_context=(channel[0] // slim, channel[1] // slim),
            )
        )
    state = torch.load(init, map_location="cpu", weights_only=True)["state_dict"]
    model = Mlicpp.from_state_dict(state)
    own = model.state_dict()
    model.load_state_dict({k: v for k, v in state.items() if v.shape == own[k].shape}, strict=False)
    return model


def run(trainer: Trainer, output: Path, save_every: float, validate_every: int) -> None:
    """Train until the limit, logging a line of JSON each validation and saving every few minutes."""
    log = (output / "log.jsonl").open("a", encoding="utf-8")
    saved = time.monotonic()
    averages: dict[str, float] = {}
    try:
        while trainer.progress() < 1:
            row = trainer.train_step()
            averages = {k: 0.99 * averages.get(k, v) + 0.01 * v for k, v in row.items()}
            if trainer.step % validate_every == 0:
                line = {
                    "step": trainer.step,
                    "seconds": round(trainer.seconds),
                    "train": averages,
                    "held_out": trainer.validate(),
                }
                log.write(json.dumps(line) + "\n")
                log.flush()
            if time.monotonic() - saved > 60 * save_every:
                trainer.save(output / "checkpoint.pth")
                trainer.save_weights(output / "weights.pth")
                saved = time.monotonic()
    finally:
        trainer.save(output / "checkpoint.pth")
        trainer.save_weights(output / "weights.pth")
        log.close()


if __name__ == "__main__":
    typer.run(main)
