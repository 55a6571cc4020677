"""One training run: model, averaged model, optimisers and data; a step, a validation, and how all is saved.

Nothing random is carried from step to step: crops, flips and noise of a step follow from the run's seed and the step's
number. A run that was killed and resumed therefore takes the same steps as one that was not.
"""

from __future__ import annotations

import copy
import math
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlic.export.models.forward import Forward
from mlic.export.official_tables import fill_tables
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.errors import MlicError
from mlic.tools.training_data import RandomCrops, centre_crops, tensor_from_pixels

GRADIENT_NORM = 1.0
WARM_UP_STEPS = 100
BOTTLENECK_RATE = 1e-3
VALIDATION_SIZE = 256
BLOCK_VALUES = 3 * 16**2  # of a picture for each position of y
TRANSFORMS = ("g_a.", "g_s.", "patch_embed.", "layers.", "syn_layers.", "end_conv.")  # of all architectures
RESIDUAL_BRANCHES = r"g_s\.synthesis_transform\.\d+\.(conv\d?|subpel_conv\.0)"  # of MLIC++
RESIDUAL_PREDICTION = r"lrp_(anchor|nonanchor)\.\d+\.lrp_transform\.[1-9]"  # behind the wide first layer
SMALLEST_STEP = 2.0**-24  # the smallest positive number in half precision


@dataclass(frozen=True, kw_only=True)
class Options:
    """What defines a run; it is written into its checkpoints.

    Attributes:
        rate_lambda: weight of the distortion.
        learning_rate: at its highest, after the warm-up.
        decay: share of the run, its last, over which the rate falls to 1 % along half a cosine; 0..1.
        batch: crops a step.
        crop: side of a crop in pixels, a multiple of 64.
        minutes: training time over all starts of the run, or 0.
        steps: number of steps, or 0; one of the two must be given.
        ema: decay of the averaged weights.
        bf16: run the networks in bfloat16 where autocast allows.
        seed: of crops, flips and noise.
        transform_rate: learning rate of analysis and synthesis, as a share of that of all else.
        frozen: regular expression; parameters whose names match its start stay as they are. "" for none.
        latents: the run is one of a ``LatentTrainer``.
        noise: take the rate at y and z with uniform noise (Ballé et al. 2017); otherwise at the rounded values, with
            straight-through gradients, which is the rate of files.
        weight_bits: 8 or 16: what the exported weights are rounded to; training itself does not round.
    """

    rate_lambda: float
    learning_rate: float
    decay: float
    batch: int
    crop: int
    minutes: float
    steps: int
    ema: float
    bf16: bool
    seed: int
    transform_rate: float = 1.0
    frozen: str = ""
    latents: bool = False
    noise: bool = True
    weight_bits: int = 16


LIMITS = (
    "minutes",
    "steps",
    "decay",
    "transform_rate",
    "noise",
    "weight_bits",
)  # options that may change when a run goes on


def rate(forward: Forward, pixels: int) -> Tensor:
    """Return the bits per pixel that the likelihoods stand for, a scalar."""
    bits = -torch.log2(forward.y_likelihoods).sum() - torch.log2(forward.z_likelihoods).sum()
    return bits / pixels


def distortion_of_latents(errors: Tensor, rate_lambda: float) -> Tensor:
    """Return what rounding y adds to the mean squared error of a picture, values of 0..1, if g_s is orthonormal.

    So it is after ``tools/linear_start.py``, up to the quantisation step that is set there: step^2 = 12 D with
    D = 3 / (2 ln 2 lambda 255^2).

    Args:
        errors: squared differences of y_hat and y, summed over the coefficients of a position; any shape.
        rate_lambda: weight of the distortion that the model was started for.
    """
    return 12 * 3 / (2 * math.log(2) * rate_lambda * 255**2) * errors / BLOCK_VALUES


def psnr(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error of values in 0..1; at most 100."""
    return -10 * math.log10(max(mse, 1e-10))


class Trainer:
    """One run.

    Attributes:
        step: number of steps taken.
        seconds: time spent in them, over all starts.
        skipped: steps whose gradient was not finite, so that the weights stayed as they were.
    """

    def __init__(
        self,
        model: nn.Module,
        photos: tuple[list[UInt8Array], list[UInt8Array]],
        options: Options,
        device: torch.device,
    ) -> None:
        self.options, self.device = options, device
        self.model = model.to(device).train()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not (options.frozen and re.match(options.frozen, name)))
        self.ema = {k: v.detach().clone() for k, v in model.state_dict().items()}
        quantiles = [p for name, p in model.named_parameters() if name.endswith("quantiles")]
        others = {name: p for name, p in model.named_parameters() if not name.endswith("quantiles")}
        others = {name: p for name, p in others.items() if p.requires_grad}
        transforms = [p for name, p in others.items() if name.startswith(TRANSFORMS)]
        entropy = [p for name, p in others.items() if not name.startswith(TRANSFORMS)]
        groups = [{"params": entropy, "share": 1.0}, {"params": transforms, "share": options.transform_rate}]
        self.optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
        self.bottleneck = torch.optim.Adam(quantiles, lr=BOTTLENECK_RATE)
        self.crops = RandomCrops(photos[0], options.crop)
        self.held_out = centre_crops([p for p in photos[1] if min(p.shape[:2]) >= VALIDATION_SIZE], VALIDATION_SIZE)
        self.step, self.seconds, self.skipped = 0, 0.0, 0

    def progress(self) -> float:
        """Return how far the run is, 0..1."""
        parts = [0.0]
        if self.options.minutes:
            parts.append(self.seconds / (60 * self.options.minutes))
        if self.options.steps:
            parts.append(self.step / self.options.steps)
        return min(1.0, max(parts))

    def learning_rate(self) -> float:
        """Return the rate of the next step: a linear warm-up, a constant, then half a cosine down to 1 %."""
        warm_up = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        left = 1 - self.progress()
        fallen = max(0.0, 1 - left / self.options.decay) if self.options.decay else 0.0
        decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fallen))
        return self.options.learning_rate * warm_up * decay

    def train_step(self) -> dict[str, float]:
        """Take one step and return ``loss``, ``bpp`` and ``psnr`` (dB) of its batch."""
        start = time.perf_counter()
        options = self.options
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate() * group["share"]
        seeds = np.random.SeedSequence((options.seed, self.step))
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))  # the noise, on every device
        loss, bpp, mse = self._losses(np.random.default_rng(seeds))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_((p for g in self.optimizer.param_groups for p in g["params"]), GRADIENT_NORM)
        if torch.isfinite(norm):
            self._move()
            if self.model.entropy_bottleneck.quantiles.requires_grad:  # type: ignore[union-attr]
                self.bottleneck.zero_grad(set_to_none=True)
                self.model.entropy_bottleneck.loss().backward()  # type: ignore[operator,union-attr]
                self.bottleneck.step()
            self._average()
        else:
            self.skipped += 1
        self.step += 1
        self.seconds += time.perf_counter() - start
        return {"loss": loss.item(), "bpp": bpp.item(), "psnr": psnr(mse.item())}

    def _losses(self, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss, bits per pixel and mean squared error (values of 0..1) of a fresh batch, scalars."""
        options = self.options
        x = tensor_from_pixels(self.crops.batch(options.batch, generator), self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=options.bf16):
            forward = self.model(x, noise=options.noise)
        bpp = rate(forward, x.shape[0] * x.shape[2] * x.shape[3])
        mse = torch.mean((forward.x_hat.float() - x) ** 2)
        return options.rate_lambda * 255**2 * mse + bpp, bpp, mse

    def _move(self) -> None:
        """Move the parameters along their gradients."""
        self.optimizer.step()

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
    def validate(self) -> dict[str, float] | None:
        """Return mean ``loss``, ``bpp`` and ``psnr`` of the averaged weights on held-out photos; None without any."""
        if not len(self.held_out):
            return None
        kept = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        self.model.eval()
        rows = []
        for pixels in self.held_out:
            x = tensor_from_pixels(pixels[None], self.device)
            forward = self.model(x)
            mse = torch.mean((forward.x_hat.clamp(0, 1) - x) ** 2).item()
            bpp = rate(forward, x.shape[2] * x.shape[3]).item()
            rows.append((self.options.rate_lambda * 255**2 * mse + bpp, bpp, psnr(mse)))
        self.model.load_state_dict(kept)
        self.model.train()
        loss, bpp, decibels = np.mean(rows, axis=0)
        return {"loss": float(loss), "bpp": float(bpp), "psnr": float(decibels)}

    def save(self, path: Path) -> None:
        """Write everything needed to go on, through a temporary name."""
        content = {
            "options": asdict(self.options),
            "step": self.step,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "state_dict": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "bottleneck": self.bottleneck.state_dict(),
        }
        _save(content, path)

    def resume(self, path: Path) -> list[str]:
        """Take up the state that ``save`` wrote.

        Returns:
            What differs between the options of then and now, limits aside.

        Raises:
            MlicError: the file is damaged or of another model.
        """
        try:
            content: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
            before = content["options"]
            if before.get("latents", False) != self.options.latents:
                raise MlicError(f"{path} is of a run {'without' if self.options.latents else 'with'} --latents")
            self.model.load_state_dict(content["state_dict"])
            self.ema = content["ema"]
            self.optimizer.load_state_dict(content["optimizer"])
            self.bottleneck.load_state_dict(content["bottleneck"])
            self.step, self.seconds = content["step"], content["seconds"]
            self.skipped = content.get("skipped", 0)
        except (OSError, MlicError):
            raise
        except Exception as error:  # torch.load raises whatever its readers raise
            reason = str(error).strip().partition("\n")[0]
            raise MlicError(f"{path} is damaged or of another model: {reason}; name another folder") from error
        now = asdict(self.options)
        return [
            f"{key} was {before[key]}, is {now[key]}"
            for key in now
            if key not in LIMITS and key in before and before[key] != now[key]
        ]

    def save_weights(self, path: Path) -> None:
        """Write the averaged weights as a checkpoint of the official form, tables filled.

        Rounded as ``round_weights`` says, so that exports store them in a quarter or half of the bytes.
        """
        model = copy.deepcopy(self.model).cpu()
        model.load_state_dict(self.ema)
        round_weights(model, self.options.weight_bits)
        fill_tables(model)
        _save({"epoch": self.step, "state_dict": model.state_dict(), "loss": None}, path)


@torch.no_grad()
def round_weights(model: nn.Module, bits: int) -> None:
    """Round a model's parameters in place to what an exporter can store in fewer bytes.

    Args:
        model: any.
        bits: 8 makes weights of convolutions and matrices whole multiples, -127..127, of one half-precision number an
            output channel, where that does no harm: on the entropy path, in h_a and in the residual branches of g_s.
            The layers that carry the picture itself stay, as all do with 16, under the next rule: whatever half
            precision can hold is rounded to it.
    """
    done: set[int] = set()
    if bits == 8:
        for name, module in model.named_modules():
            exact = name.startswith(TRANSFORMS) and not re.fullmatch(RESIDUAL_BRANCHES, name)
            exact = exact or bool(re.fullmatch(RESIDUAL_PREDICTION, name))
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) and not exact:
                rows = module.weight.flatten(1)
                step = (rows.abs().amax(dim=1, keepdim=True) / 127).half().float().clamp(min=SMALLEST_STEP)
                module.weight.copy_((torch.clamp(torch.round(rows / step), -127, 127) * step).view_as(module.weight))
                done.add(id(module.weight))
    for parameter in model.parameters():
        if id(parameter) not in done:
            half = parameter.half().float()
            parameter.copy_(torch.where(torch.isfinite(half), half, parameter))


def _save(content: dict[str, Any], path: Path) -> None:
    temporary = path.with_suffix(".partial")
    torch.save(content, temporary)
    temporary.replace(path)
