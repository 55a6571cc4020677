"""Training of what lies between y and y_hat, where analysis and synthesis rest.

Made for models from ``tools/linear_start``, whose transforms are good from the start while their entropy networks are
random: many cheap steps on latents that were computed once, before the whole model takes few dear ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from mlic.export.models.mlicpp import SLICE_CHANNELS, Mlicpp
from mlic.export.models.rounding import quantize_ste
from mlic.runtime.arrays import UInt8Array
from mlic.tools.latent_data import LatentCrops
from mlic.tools.trainer import Options, Trainer, distortion_of_latents

WHOLE_EVERY = 4  # steps; the others train the first slice and one more
Z_RATE_START, Z_RATE_SHARE = 0.2, 0.25  # weight of z's rate at first, and share of the run until it is 1
SMALLEST_DEVIATION = 0.2
TRANSFORMS = r"g_[as]\."
MEETS = {  # layers, and which coefficients their inputs are
    r"h_a\.reduction\.0": "all",
    r"channel_context\.\d+\.fushion\.0": "before",
    r"global_inter_context\.\d+\.(queries|keys|values)\.0": "before",
    r"global_intra_context\.\d+\.(queries|keys)\.0": "last",
    r"global_intra_context\.\d+\.values\.0": "own",
    r"lrp_(anchor|nonanchor)\.\d+\.lrp_transform\.0": "behind means",
}


class LatentTrainer(Trainer):
    """A run that leaves the transforms as they are; see ``Trainer``.

    - Three of four steps train two slices alone, with the rounded values of those before: the first slice, which has
      no context but z and most of the bits, and a random other one, weighted for all others.
    - z is cheap at first. At full price from the start it falls silent before anything has learned to listen to it
      (posterior collapse; Bowman et al. 2016, section 3.1).
    - Adam moves all weights alike, whatever they meet or make. Here weights that meet y move the less, and those that
      make its scales and means the more, the larger the coefficient is.
    """

    def __init__(
        self,
        model: Mlicpp,
        photos: tuple[list[UInt8Array], list[UInt8Array]],
        options: Options,
        device: torch.device,
    ) -> None:
        super().__init__(model, photos, replace(options, frozen=TRANSFORMS), device)
        self.codec = model
        self.latents = LatentCrops(photos[0], options.crop, self._analysis)
        self.shares = dict(_shares(model, self.latents.deviations().to(device)))

    def _analysis(self, x: Tensor) -> Tensor:
        return self.codec.analysis(x.to(self.device)).cpu()

    def _losses(self, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        options, model = self.options, self.codec
        y = self.latents.batch(options.batch, generator).to(self.device)
        slices = torch.split(y, SLICE_CHANNELS, dim=1)
        chosen: dict[int, float] = {}  # slices of a partial step, and their weights
        if self.step % WHOLE_EVERY and len(slices) > 1:
            chosen = {0: 1.0, int(generator.integers(1, len(slices))): len(slices) - 1.0}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=options.bf16):
            z_hat, z_likelihoods = model.entropy_bottleneck(model.h_a(y), options.noise)
            hyper = model.h_s(z_hat)
            finished = [torch.round(values) for values in slices]
            parts = []
            for index, values in enumerate(slices):
                if chosen and index not in chosen:
                    continue
                y_hat, parameters = model.slice(index, values, hyper, finished[:index])
                if not chosen:
                    finished[index] = y_hat
                parts.append((chosen.get(index, 1.0), values, y_hat, parameters))
        pixels = options.batch * options.crop**2
        z_bits = -torch.log2(z_likelihoods).sum() / pixels
        y_bits = sum((w * self._bits(values, p) for w, values, _, p in parts), torch.zeros(())) / pixels
        errors = sum(
            (w * (y_hat.float() - values).square().sum(dim=1).mean() for w, values, y_hat, _ in parts), torch.zeros(())
        )
        mse = distortion_of_latents(errors, options.rate_lambda)
        z_weight = min(1.0, Z_RATE_START + (1 - Z_RATE_START) * self.progress() / Z_RATE_SHARE)
        loss = options.rate_lambda * 255**2 * mse + y_bits + z_weight * z_bits
        return loss, y_bits + z_bits, mse

    def _bits(self, values: Tensor, parameters: Tensor) -> Tensor:
        """Return the bits of a slice, a scalar."""
        scales, means = parameters[:, :SLICE_CHANNELS], parameters[:, SLICE_CHANNELS:]
        if self.options.noise:
            coded = values + torch.empty_like(values).uniform_(-0.5, 0.5)
        else:
            coded = quantize_ste(values - means) + means
        likelihoods: Tensor = self.codec.gaussian_conditional(coded, scales, means)
        return -torch.log2(likelihoods).sum()

    def _move(self) -> None:
        before = {p: p.detach().clone() for p in self.shares}
        super()._move()
        with torch.no_grad():
            for parameter, share in self.shares.items():
                parameter.copy_(before[parameter] + (parameter - before[parameter]) * share)


def _shares(model: Mlicpp, deviations: Tensor) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Yield parameters that meet or make y, and by how much more than others each of their values may move."""
    meets, makes = 1 / deviations.clamp(min=1), deviations.clamp(min=SMALLEST_DEVIATION)
    for name, parameter in model.named_parameters():
        index = int(found[1]) if (found := re.search(r"\.(\d+)\.", name)) else 0
        start, end = SLICE_CHANNELS * index, SLICE_CHANNELS * (index + 1)
        met = {
            "all": meets,
            "before": meets[:start],
            "last": meets[start - SLICE_CHANNELS : start],
            "own": meets[start:end],
            "behind means": torch.cat([torch.ones_like(meets), meets[:end]]),
        }
        for pattern, place in MEETS.items():
            if re.fullmatch(rf"{pattern}\.weight", name):
                yield parameter, met[place][None, :, None, None]
        if re.fullmatch(r"entropy_parameters_(anchor|nonanchor)\.\d+\.fusion\.6\.(weight|bias)", name):
            yield parameter, makes[start:end].repeat(2).reshape(-1, *[1] * (parameter.dim() - 1))
