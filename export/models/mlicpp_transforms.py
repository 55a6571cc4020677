"""Transforms of MLIC++ (Jiang et al. 2023): residual blocks with GDN, sub-pixel up-sampling."""

from torch import Tensor, nn
from torch.nn import functional

from mlic.export.models.gdn import GDN


def conv3x3(fan_in: int, fan_out: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size, or halves it with stride 2."""
    return nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1)


def subpixel3x3(fan_in: int, fan_out: int) -> nn.Sequential:
    """Return a 3x3 convolution followed by a pixel shuffle that doubles the size."""
    return nn.Sequential(conv3x3(fan_in, 4 * fan_out), nn.PixelShuffle(2))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each followed by GELU, and a skip path."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(fan_in, fan_out)
        self.conv2 = conv3x3(fan_out, fan_out)
        self.skip = nn.Conv2d(fan_in, fan_out, 1) if fan_in != fan_out else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, fan_in, H, W] to [B, fan_out, H, W]."""
        out = functional.gelu(self.conv2(functional.gelu(self.conv1(x))))
        return out + (x if self.skip is None else self.skip(x))


class ResidualBlockDown(nn.Module):
    """Halves the size: strided convolution, GELU, convolution, GDN, and a strided 1x1 skip path."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(fan_in, fan_out, stride=2)
        self.conv2 = conv3x3(fan_out, fan_out)
        self.gdn = GDN(fan_out)
        self.skip = nn.Conv2d(fan_in, fan_out, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, fan_in, H, W] to [B, fan_out, H/2, W/2]."""
        out: Tensor = self.gdn(self.conv2(functional.gelu(self.conv1(x)))) + self.skip(x)
        return out


class ResidualBlockUp(nn.Module):
    """Doubles the size: sub-pixel convolution, GELU, convolution, inverse GDN, and a sub-pixel skip path."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.subpel_conv = subpixel3x3(fan_in, fan_out)
        self.conv = conv3x3(fan_out, fan_out)
        self.igdn = GDN(fan_out, inverse=True)
        self.upsample = subpixel3x3(fan_in, fan_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, fan_in, H, W] to [B, fan_out, 2H, 2W]."""
        out: Tensor = self.igdn(self.conv(functional.gelu(self.subpel_conv(x)))) + self.upsample(x)
        return out


class AnalysisTransform(nn.Module):
    """g_a: float32 [B, 3, H, W] in 0..1 to y [B, M, H/16, W/16]."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.analysis_transform = nn.Sequential(
            ResidualBlockDown(3, n),
            ResidualBlock(n, n),
            ResidualBlockDown(n, n),
            ResidualBlock(n, n),
            ResidualBlockDown(n, n),
            ResidualBlock(n, n),
            conv3x3(n, m, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return y."""
        result: Tensor = self.analysis_transform(x)
        return result


class SynthesisTransform(nn.Module):
    """g_s: y_hat [B, M, H/16, W/16] to x_hat [B, 3, H, W].

    The first block keeps M channels in current checkpoints and narrows to N in those of 2023-09 (``old``).
    """

    def __init__(self, n: int, m: int, old: bool) -> None:
        super().__init__()
        first = n if old else m
        self.synthesis_transform = nn.Sequential(
            ResidualBlock(m, first),
            ResidualBlockUp(first, n),
            ResidualBlock(n, n),
            ResidualBlockUp(n, n),
            ResidualBlock(n, n),
            ResidualBlockUp(n, n),
            ResidualBlock(n, n),
            subpixel3x3(n, 3),
        )

    def forward(self, y_hat: Tensor) -> Tensor:
        """Return x_hat, not clipped."""
        result: Tensor = self.synthesis_transform(y_hat)
        return result


class HyperAnalysis(nn.Module):
    """h_a: y [B, M, H/16, W/16] to z [B, N, H/64, W/64]."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.reduction = nn.Sequential(
            conv3x3(m, n),
            nn.GELU(),
            conv3x3(n, n),
            nn.GELU(),
            conv3x3(n, n, stride=2),
            nn.GELU(),
            conv3x3(n, n),
            nn.GELU(),
            conv3x3(n, n, stride=2),
        )

    def forward(self, y: Tensor) -> Tensor:
        """Return z."""
        result: Tensor = self.reduction(y)
        return result


class HyperSynthesis(nn.Module):
    """h_s: z_hat [B, N, H/64, W/64] to hyper_params [B, 2M, H/16, W/16]; its second half are the hyper means.

    The official models have M and 3/2 M hidden channels before and after the second up-sampling.
    """

    def __init__(self, n: int, m: int, hidden: tuple[int, int] | None = None) -> None:
        super().__init__()
        narrow, wide = hidden or (m, m * 3 // 2)
        self.increase = nn.Sequential(
            conv3x3(n, narrow),
            nn.GELU(),
            subpixel3x3(narrow, narrow),
            nn.GELU(),
            conv3x3(narrow, wide),
            nn.GELU(),
            subpixel3x3(wide, wide),
            nn.GELU(),
            conv3x3(wide, 2 * m),
        )

    def forward(self, z_hat: Tensor) -> Tensor:
        """Return hyper_params."""
        result: Tensor = self.increase(z_hat)
        return result
