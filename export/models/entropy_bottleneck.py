"""The factorised prior of z (Ballé et al. 2018, appendix 6.1)."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.export.models.gdn import LowerBound
from mlic.export.models.rounding import quantize_ste

LIKELIHOOD_MIN = 1e-9
TAIL_MASS = 1e-9
FILTERS = (1, 3, 3, 3, 3, 1)


class EntropyBottleneck(nn.Module):
    """A learned density for each channel of z, and its quantiles.

    Keys are those of CompressAI 1.1 and 1.2 (``_matrix0`` …); the table buffers are empty until filled from a
    checkpoint or by ``mlic.export.tables``.
    """

    def __init__(self, channels: int, init_scale: float = 10.0) -> None:
        super().__init__()
        self.channels = channels
        scale = init_scale ** (1 / (len(FILTERS) - 1))
        for k, (fan_in, fan_out) in enumerate(itertools.pairwise(FILTERS)):
            start = torch.log(torch.expm1(torch.tensor(1 / scale / fan_out)))
            self.register_parameter(f"_matrix{k}", nn.Parameter(start.repeat(channels, fan_out, fan_in)))
            self.register_parameter(f"_bias{k}", nn.Parameter(torch.rand(channels, fan_out, 1) - 0.5))
            if k < len(FILTERS) - 2:
                self.register_parameter(f"_factor{k}", nn.Parameter(torch.zeros(channels, fan_out, 1)))
        self.quantiles = nn.Parameter(torch.tensor([-init_scale, 0.0, init_scale]).repeat(channels, 1, 1))
        self.register_buffer("_offset", torch.empty(0, dtype=torch.int32))
        self.register_buffer("_quantized_cdf", torch.empty(0, dtype=torch.int32))
        self.register_buffer("_cdf_length", torch.empty(0, dtype=torch.int32))
        edge = torch.log(torch.tensor(2 / TAIL_MASS - 1))
        self.register_buffer("target", torch.stack([-edge, torch.zeros(()), edge]))
        self.target: Tensor
        self.likelihood_lower_bound = LowerBound(LIKELIHOOD_MIN)

    @property
    def medians(self) -> Tensor:
        """float32 [C]: the value subtracted from z before it is rounded."""
        return self.quantiles[:, 0, 1].detach()

    def logits_cumulative(self, values: Tensor) -> Tensor:
        """Return the logits of the cumulative distribution, float [C, 1, n], at ``values`` [C, 1, n]."""
        u = values
        for k in range(len(FILTERS) - 1):
            matrix, bias = self.get_parameter(f"_matrix{k}"), self.get_parameter(f"_bias{k}")
            u = torch.matmul(functional.softplus(matrix.to(u.dtype)), u) + bias.to(u.dtype)
            if k < len(FILTERS) - 2:
                u = u + torch.tanh(self.get_parameter(f"_factor{k}").to(u.dtype)) * torch.tanh(u)
        return u

    def likelihood(self, values: Tensor) -> Tensor:
        """Return the probability of the unit interval around each of ``values`` [C, 1, n], not bounded."""
        lower, upper = self.logits_cumulative(values - 0.5), self.logits_cumulative(values + 0.5)
        # Evaluated on the side where the sigmoids are small, so that tails keep their precision.
        sign = -torch.sign(lower + upper).detach()
        return torch.abs(torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower))

    def forward(self, z: Tensor, noise: bool = False) -> tuple[Tensor, Tensor]:
        """Quantise z and return it with its likelihoods.

        Args:
            z: float32 [B, C, H, W].
            noise: take the likelihoods at z plus uniform noise (training) instead of at the rounded values.

        Returns:
            z_hat (rounded around the medians, straight-through gradient) and likelihoods in [1e-9, 1], both
            float32 [B, C, H, W].
        """
        batch, channels, height, width = z.shape
        medians = self.medians.reshape(1, -1, 1, 1)
        z_hat = quantize_ste(z - medians) + medians
        values = z + torch.empty_like(z).uniform_(-0.5, 0.5) if noise else z_hat
        with torch.autocast(z.device.type, enabled=False):
            columns = values.float().permute(1, 0, 2, 3).reshape(channels, 1, -1)
            likelihood = self.likelihood_lower_bound(self.likelihood(columns))
        return z_hat, likelihood.reshape(channels, batch, height, width).permute(1, 0, 2, 3)

    def loss(self) -> Tensor:
        """Return the auxiliary loss that moves the quantiles to the tails and the median, for the optimiser alone."""
        learning = [p for name, p in self.named_parameters() if name != "quantiles" and p.requires_grad]
        for p in learning:
            p.requires_grad_(False)
        logits = self.logits_cumulative(self.quantiles)
        result = torch.abs(logits - self.target).sum()
        for p in learning:
            p.requires_grad_(True)
        return result
