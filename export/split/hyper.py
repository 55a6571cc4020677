"""The hyper analysis of every model, up to the symbols of z."""

import torch
from torch import Tensor, nn


class HyperAnalysisSymbols(nn.Module):
    """h_a: y [1, M, h, w] to round(z - medians), float32 [1, N, h/4, w/4]."""

    def __init__(self, h_a: nn.Module, medians: Tensor) -> None:
        super().__init__()
        self.h_a = h_a
        self.medians = nn.Parameter(medians.detach().reshape(1, -1, 1, 1).clone(), requires_grad=False)

    def forward(self, y: Tensor) -> Tensor:
        """Return the symbols."""
        return torch.round(self.h_a(y) - self.medians)
