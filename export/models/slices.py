"""The channel-slice entropy model that STF and WACNN share (Minnen and Singh 2020; Zou et al. 2022).

y is cut into slices of 32 channels, coded one after another. Each slice's scales and means come from the
hyper latents and the *first* few finished slices, so the slices past those depend on nothing newer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from mlic.export.models.entropy_bottleneck import EntropyBottleneck
from mlic.export.models.forward import Forward
from mlic.export.models.gaussian import GaussianConditional
from mlic.export.models.rounding import quantize_ste


@dataclass(frozen=True)
class SliceWidths:
    """Everything that sizes the entropy model.

    Attributes:
        m: channels of y.
        n: channels of z.
        num_slices: slices of equal width in y.
        support: how many finished slices a later one may see.
        h_a: hidden widths of the hyper analysis.
        h_s: hidden widths of each hyper synthesis, after pixel shuffles.
        stack: hidden widths of the networks of a slice.
    """

    m: int
    n: int
    num_slices: int
    support: int
    h_a: tuple[int, ...]
    h_s: tuple[int, ...]
    stack: tuple[int, ...] = (224, 176, 128, 64)

    @property
    def slice_channels(self) -> int:
        """Channels of one slice."""
        return self.m // self.num_slices

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> SliceWidths:
        """Read the widths off the shapes of a checkpoint with official keys."""

        def fan_out(key: str) -> int:
            return state[f"{key}.weight"].shape[0]

        m = state["h_a.0.weight"].shape[1]
        num_slices = sum(key.startswith("cc_mean_transforms.") and key.endswith(".0.weight") for key in state)
        last = state[f"cc_mean_transforms.{num_slices - 1}.0.weight"].shape[1]
        h_s = "h_mean_s"
        return cls(
            m=m,
            n=fan_out("h_a.8"),
            num_slices=num_slices,
            support=(last - m) // (m // num_slices),
            h_a=tuple(fan_out(f"h_a.{k}") for k in (0, 2, 4, 6)),
            h_s=(
                fan_out(f"{h_s}.0"),
                fan_out(f"{h_s}.2.0") // 4,
                fan_out(f"{h_s}.4"),
                fan_out(f"{h_s}.6.0") // 4,
            ),
            stack=tuple(fan_out(f"cc_mean_transforms.0.{k}") for k in (0, 2, 4, 6)),
        )


class SliceModel(nn.Module):
    """Everything but the transforms, with official keys; subclasses add ``analysis`` and ``synthesis``."""

    def __init__(self, widths: SliceWidths) -> None:
        super().__init__()
        self.widths = w = widths
        if w.m % w.num_slices or not 1 <= w.support < w.num_slices:
            raise ValueError(f"{w.m} channels, {w.num_slices} slices and a support of {w.support} do not fit")
        self.h_a = _hyper_analysis((w.m, *w.h_a, w.n))
        self.h_mean_s = _hyper_synthesis((w.n, *w.h_s, w.m))
        self.h_scale_s = _hyper_synthesis((w.n, *w.h_s, w.m))

        def stacks(seen: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(_stack((w.m + w.slice_channels * k, *w.stack, w.slice_channels)) for k in seen)

        seen = [min(i, w.support) for i in range(w.num_slices)]
        self.cc_mean_transforms = stacks(seen)
        self.cc_scale_transforms = stacks(seen)
        self.lrp_transforms = stacks([k + 1 for k in seen])
        self.entropy_bottleneck = EntropyBottleneck(w.n)
        self.gaussian_conditional = GaussianConditional()

    def analysis(self, x: Tensor) -> Tensor:
        """Return y, float32 [B, M, H/16, W/16], of the picture x, float32 [B, 3, H, W]."""
        raise NotImplementedError

    def synthesis(self, y_hat: Tensor) -> Tensor:
        """Return the picture x_hat, float32 [B, 3, H, W], not clipped, of y_hat."""
        raise NotImplementedError

    def hyper_synthesis(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return latent_means and latent_scales, both float32 [B, M, H/16, W/16]."""
        return self.h_mean_s(z_hat), self.h_scale_s(z_hat)

    def means_and_scales(
        self, index: int, latent_means: Tensor, latent_scales: Tensor, finished: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return means and scales of slice ``index``; of the ``finished`` slices only the first few count."""
        support = finished[: self.widths.support]
        means = self.cc_mean_transforms[index](torch.cat([latent_means, *support], dim=1))
        scales = self.cc_scale_transforms[index](torch.cat([latent_scales, *support], dim=1))
        return means, scales

    def residual(self, index: int, latent_means: Tensor, finished: Sequence[Tensor], decoded: Tensor) -> Tensor:
        """Return the latent residual prediction, before tanh, of slice ``index`` decoded as ``decoded``."""
        support = finished[: self.widths.support]
        result: Tensor = self.lrp_transforms[index](torch.cat([latent_means, *support, decoded], dim=1))
        return result

    def forward(self, x: Tensor, noise: bool = False) -> Forward:
        """Run encoder and decoder without the entropy coder.

        Args:
            x: float32 [B, 3, H, W] in 0..1, H and W multiples of 64.
            noise: take likelihoods at values with uniform noise (training) instead of at rounded ones.

        Returns:
            All arrays of the pass; likelihoods of both latents.
        """
        y = self.analysis(x)
        z = self.h_a(y)
        z_hat, z_likelihoods = self.entropy_bottleneck(z, noise)
        latent_means, latent_scales = self.hyper_synthesis(z_hat)
        finished: list[Tensor] = []
        all_means: list[Tensor] = []
        all_scales: list[Tensor] = []
        for i, y_slice in enumerate(y.chunk(self.widths.num_slices, dim=1)):
            means, scales = self.means_and_scales(i, latent_means, latent_scales, finished)
            decoded = quantize_ste(y_slice - means) + means
            finished.append(decoded + 0.5 * torch.tanh(self.residual(i, latent_means, finished, decoded)))
            all_means.append(means)
            all_scales.append(scales)
        means, scales = torch.cat(all_means, dim=1), torch.cat(all_scales, dim=1)
        y_hat = torch.cat(finished, dim=1)
        values = y + torch.empty_like(y).uniform_(-0.5, 0.5) if noise else quantize_ste(y - means) + means
        likelihoods = self.gaussian_conditional(values, scales, means)
        return Forward(self.synthesis(y_hat), y, z, z_hat, y_hat, scales, means, likelihoods, z_likelihoods)


def _conv3x3(fan_in: int, fan_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(fan_in, fan_out, 3, stride, padding=1)


def _shuffle(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(_conv3x3(fan_in, 4 * fan_out), nn.PixelShuffle(2))


def _with_gelu(layers: Sequence[nn.Module]) -> nn.Sequential:
    """Return ``layers`` with GELU between."""
    modules = [module for layer in layers for module in (layer, nn.GELU())]
    return nn.Sequential(*modules[:-1])


def _hyper_analysis(widths: Sequence[int]) -> nn.Sequential:
    m, a, b, c, d, n = widths
    return _with_gelu([_conv3x3(m, a), _conv3x3(a, b), _conv3x3(b, c, 2), _conv3x3(c, d), _conv3x3(d, n, 2)])


def _hyper_synthesis(widths: Sequence[int]) -> nn.Sequential:
    n, a, b, c, d, m = widths
    return _with_gelu([_conv3x3(n, a), _shuffle(a, b), _conv3x3(b, c), _shuffle(c, d), _conv3x3(d, m)])


def _stack(widths: Sequence[int]) -> nn.Sequential:
    return _with_gelu([_conv3x3(a, b) for a, b in pairwise(widths)])
