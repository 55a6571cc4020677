"""Generalised divisive normalisation (Ballé, Laparra and Simoncelli 2016)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

PEDESTAL = 2.0**-36  # keeps the square root of the stored parameters differentiable at zero
BETA_MIN = 1e-6


class LowerBound(nn.Module):
    """``max(x, bound)`` whose gradient still pushes values below the bound upwards."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([bound]))
        self.bound: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 of the shape of ``x``, nowhere below the bound."""
        if not torch.is_grad_enabled():
            return torch.maximum(x, self.bound)
        result: Tensor = _PushingMaximum.apply(x, self.bound)  # type: ignore[no-untyped-call]
        return result


class _PushingMaximum(torch.autograd.Function):
    """Maximum that passes the gradient where x is above the bound or would be moved towards it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        x, bound = ctx.saved_tensors  # type: ignore[attr-defined]
        (grad,) = grads
        return torch.where((x >= bound) | (grad < 0), grad, torch.zeros_like(grad)), None


class NonNegativeParameter(nn.Module):
    """Maps a stored parameter p to ``max(p, bound)^2 - pedestal``, which is at least ``minimum``."""

    def __init__(self, minimum: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("pedestal", torch.tensor([PEDESTAL]))
        self.pedestal: Tensor
        self.lower_bound = LowerBound((minimum + PEDESTAL) ** 0.5)

    def initial(self, value: Tensor) -> Tensor:
        """Return the stored form of ``value``."""
        return torch.sqrt(torch.clamp(value + self.pedestal, min=PEDESTAL))

    def forward(self, stored: Tensor) -> Tensor:
        """Return the parameter that ``stored`` stands for."""
        bounded: Tensor = self.lower_bound(stored)
        return bounded * bounded - self.pedestal


class GDN(nn.Module):
    """``x / sqrt(beta + gamma x^2)``, or its approximate inverse ``x * sqrt(...)``.

    Input and output: float32 [B, C, H, W].
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta_reparam = NonNegativeParameter(BETA_MIN)
        self.gamma_reparam = NonNegativeParameter()
        self.beta = nn.Parameter(self.beta_reparam.initial(torch.ones(channels)))
        self.gamma = nn.Parameter(self.gamma_reparam.initial(0.1 * torch.eye(channels)))

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return beta [C] and gamma [C, C, 1, 1] after reparametrisation."""
        return self.beta_reparam(self.beta), self.gamma_reparam(self.gamma)[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` float32 [B, C, H, W]."""
        # Squares leave the range and the precision of half floats, whatever the surroundings run in.
        with torch.autocast(x.device.type, enabled=False):
            beta, gamma = self.weights()
            x = x.float()
            norm = functional.conv2d(x * x, gamma, beta)
            return x * torch.sqrt(norm) if self.inverse else x * torch.rsqrt(norm)
