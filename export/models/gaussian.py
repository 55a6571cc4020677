"""The conditional Gaussian prior of y (Minnen et al. 2018)."""

import torch
from torch import Tensor, nn

from mlic.export.models.entropy_bottleneck import LIKELIHOOD_MIN
from mlic.export.models.gdn import LowerBound

SCALE_MIN = 0.11  # lower bound used in training
SCALE_MAX = 256.0
SCALE_LEVELS = 64


class GaussianConditional(nn.Module):
    """Likelihood of quantised values under Gaussians; has no parameters, but official checkpoints carry its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_offset", torch.empty(0, dtype=torch.int32))
        self.register_buffer("_quantized_cdf", torch.empty(0, dtype=torch.int32))
        self.register_buffer("_cdf_length", torch.empty(0, dtype=torch.int32))
        self.register_buffer("scale_table", torch.empty(0))
        self.register_buffer("scale_bound", torch.tensor([SCALE_MIN]))
        self.likelihood_lower_bound = LowerBound(LIKELIHOOD_MIN)
        self.lower_bound_scale = LowerBound(SCALE_MIN)

    def forward(self, values: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """Return the probability, in [1e-9, 1], of the unit interval around each value.

        Args:
            values: float32, quantised or with noise, any shape.
            scales: standard deviations of the same shape, any sign; those below 0.11 count as 0.11.
            means: of the same shape.
        """
        with torch.autocast(values.device.type, enabled=False):
            distance = torch.abs(values.float() - means.float())
            sigma = self.lower_bound_scale(scales.float())
            upper = _normal_cdf((0.5 - distance) / sigma)
            lower = _normal_cdf((-0.5 - distance) / sigma)
            result: Tensor = self.likelihood_lower_bound(upper - lower)
        return result


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-(2**-0.5) * x)
