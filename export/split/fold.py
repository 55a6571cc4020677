"""Rewrites of modules that keep their values and cost less at run time."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.export.models.gdn import GDN

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class FoldedGDN(nn.Module):
    """GDN with its reparametrised weights as constants."""

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


def folded(module: ModuleT) -> ModuleT:
    """Return a copy of ``module`` in eval mode with every GDN folded."""
    result = copy.deepcopy(module).eval().requires_grad_(False)
    for name, child in list(result.named_modules()):
        if isinstance(child, GDN):
            parent = result.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], FoldedGDN(child))
    return result
