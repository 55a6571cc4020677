"""Rounding with a straight-through gradient (Theis et al. 2017)."""

import torch
from torch import Tensor


def quantize_ste(values: Tensor) -> Tensor:
    """Return ``values`` rounded, ties to even; the gradient passes as if nothing had been rounded."""
    rounded = torch.round(values)
    return values + (rounded - values).detach() if torch.is_grad_enabled() else rounded
