"""What every model's forward pass returns."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Forward:
    """Arrays of one pass, float32, named as in the papers.

    Attributes:
        x_hat: [B, 3, H, W], not clipped.
        y: [B, M, H/16, W/16].
        z: [B, N, H/64, W/64].
        z_hat: of z's shape.
        y_hat: of y's shape, after latent residual prediction.
        scales: of y's shape; raw, any sign.
        means: of y's shape.
        y_likelihoods: of y's shape.
        z_likelihoods: of z's shape.
    """

    x_hat: Tensor
    y: Tensor
    z: Tensor
    z_hat: Tensor
    y_hat: Tensor
    scales: Tensor
    means: Tensor
    y_likelihoods: Tensor
    z_likelihoods: Tensor
