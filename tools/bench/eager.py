"""The models run eagerly in PyTorch, as the official scripts run them, without an entropy coder.

What a coder would take or give is rounded in place, so encoding and decoding cost what the networks cost.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mlic.export.models.mlicpp import SLICE_CHANNELS, Mlicpp
from mlic.export.models.slices import SliceModel


def encode(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Run everything an encoder runs.

    Args:
        model: in eval mode.
        x: float32 [1, 3, H, W] in 0..1, padded.

    Returns:
        y and z_hat, which ``decode`` takes.
    """
    y = model.g_a(x) if isinstance(model, Mlicpp) else _slices(model).analysis(x)
    z_hat, _ = _part(model, "entropy_bottleneck")(_part(model, "h_a")(y))
    _latent(model, y, z_hat)
    return y, z_hat


def decode(model: nn.Module, y: Tensor, z_hat: Tensor) -> Tensor:
    """Run everything a decoder runs and return x_hat [1, 3, H, W]."""
    y_hat = _latent(model, y, z_hat)
    result: Tensor = model.g_s(y_hat) if isinstance(model, Mlicpp) else _slices(model).synthesis(y_hat)
    return result


def _latent(model: nn.Module, y: Tensor, z_hat: Tensor) -> Tensor:
    """Return y_hat by the chain of slices."""
    finished: list[Tensor] = []
    if isinstance(model, Mlicpp):
        hyper = model.h_s(z_hat)
        for i, part in enumerate(torch.split(y, SLICE_CHANNELS, dim=1)):
            finished.append(model.slice(i, part, hyper, finished)[0])
        return torch.cat(finished, dim=1)
    slices = _slices(model)
    means, scales = slices.hyper_synthesis(z_hat)
    for i, part in enumerate(torch.split(y, slices.widths.slice_channels, dim=1)):
        support = finished[: slices.widths.support]
        mu, _ = slices.means_and_scales(i, means, scales, support)
        decoded = torch.round(part - mu) + mu
        finished.append(decoded + 0.5 * torch.tanh(slices.residual(i, means, support, decoded)))
    return torch.cat(finished, dim=1)


def _slices(model: nn.Module) -> SliceModel:
    assert isinstance(model, SliceModel)
    return model


def _part(model: nn.Module, name: str) -> Any:
    return model.get_submodule(name)
