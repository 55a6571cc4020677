"""The models run eagerly in PyTorch, as the official scripts run them, without an entropy coder.

What a coder would take or give is rounded in place, so encoding and decoding cost what the networks cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlic.export.models.mlicpp import SLICE_CHANNELS, Mlicpp
from mlic.export.models.slices import SliceModel


def encode(model: Mlicpp | SliceModel, x: Tensor) -> tuple[Tensor, Tensor]:
    """Run everything an encoder runs.

    Args:
        model: in eval mode.
        x: float32 [1, 3, H, W] in 0..1, padded.

    Returns:
        y and z_hat, which ``latent`` takes.
    """
    y = model.analysis(x)
    z_hat, _ = model.entropy_bottleneck(model.h_a(y))
    latent(model, y, z_hat)
    return y, z_hat


def latent(model: Mlicpp | SliceModel, y: Tensor, z_hat: Tensor) -> Tensor:
    """Run the chain, hyper synthesis and all slices, and return y_hat [1, M, H/16, W/16].

    ``model.synthesis`` of it is what remains of decoding.
    """
    finished: list[Tensor] = []
    if isinstance(model, Mlicpp):
        hyper = model.h_s(z_hat)
        for i, part in enumerate(torch.split(y, SLICE_CHANNELS, dim=1)):
            finished.append(model.slice(i, part, hyper, finished)[0])
        return torch.cat(finished, dim=1)
    means, scales = model.hyper_synthesis(z_hat)
    for i, part in enumerate(torch.split(y, model.widths.slice_channels, dim=1)):
        support = finished[: model.widths.support]
        mu, _ = model.means_and_scales(i, means, scales, support)
        decoded = torch.round(part - mu) + mu
        finished.append(decoded + 0.5 * torch.tanh(model.residual(i, means, support, decoded)))
    return torch.cat(finished, dim=1)
