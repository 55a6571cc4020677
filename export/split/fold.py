"""Rewrites of modules that keep their values and cost less at run time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.export.models.gdn import GDN
from mlic.export.models.stf import FoldedPatchSplit, PatchSplit
from mlic.export.models.swin import FoldedWindowAttention, WindowAttention
from mlic.export.split.phase_deconvolution import PhaseDeconvolution

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class FoldedGDN(nn.Module):
    """GDN with the reparametrisation done, and one division instead of root, reciprocal and product."""

    def __init__(self, source: GDN) -> None:
        super().__init__()
        with torch.no_grad():
            beta, gamma = source.weights()
        self.inverse = source.inverse
        self.beta = nn.Parameter(beta, requires_grad=False)
        self.gamma = nn.Parameter(gamma, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` float32 [B, C, H, W]."""
        norm = torch.sqrt(functional.conv2d(x * x, self.gamma, self.beta))
        return x * norm if self.inverse else x / norm


def _in_phases(layer: nn.ConvTranspose2d) -> nn.Module:
    return PhaseDeconvolution(layer) if PhaseDeconvolution.fits(layer) else layer


_FOLDED: dict[type[nn.Module], Callable[..., nn.Module]] = {
    GDN: FoldedGDN,
    nn.ConvTranspose2d: _in_phases,
    PatchSplit: FoldedPatchSplit,
    WindowAttention: FoldedWindowAttention,
}


def folded(module: ModuleT) -> ModuleT:
    """Return a copy of ``module`` in eval mode with everything in it folded that can be.

    Parameters are shared with the original, modules are not.
    """
    if type(module) in _FOLDED:
        module = _FOLDED[type(module)](module)  # type: ignore[assignment]
    result = copy.copy(module)
    result.training = False
    result._modules = {name: child and folded(child) for name, child in module._modules.items()}
    return result
