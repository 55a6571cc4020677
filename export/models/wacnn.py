"""WACNN, convolutions and window attention (Zou, Song and Zhang 2022), with keys of official checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.export.models.gdn import GDN
from mlic.export.models.slices import SliceModel, SliceWidths
from mlic.export.models.swin import WindowAttention, window_order

HEADS = 8
WINDOW_AT_4, WINDOW_AT_16 = 8, 4  # sides of the windows at strides 4 and 16; the picture is a multiple of 64

WACNN_SLICES = SliceWidths(m=320, n=192, num_slices=10, support=5, h_a=(320, 288, 256, 224), h_s=(192, 224, 256, 288))


class ResidualUnit(nn.Module):
    """Bottleneck of three convolutions, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv = nn.Sequential(
            nn.Conv2d(channels, half, 1),
            nn.GELU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(half, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 of the shape of ``x``, [B, C, H, W]."""
        return functional.gelu(self.conv(x) + x)


class MapAttention(nn.Module):
    """Attention in shifted windows of a map, added to the map."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2
        self.attn = WindowAttention(channels, window, self.shift, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 of the shape of ``x``, [B, C, H, W], both sides multiples of the window."""
        batch, channels, rows, columns = x.shape
        order = window_order(x, (batch, rows, columns), self.window, self.shift, multiple=self.window)
        tokens = x.permute(0, 2, 3, 1).reshape(-1, channels)
        attended = order.map(self.attn(order.windows(tokens), order.kinds))
        return x + attended.reshape(batch, rows, columns, channels).permute(0, 3, 1, 2)


class WindowAttentionModule(nn.Module):
    """A trunk of residual units, weighted by a mask from a branch with window attention."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.conv_a = nn.Sequential(*(ResidualUnit(channels) for _ in range(3)))
        self.conv_b = nn.Sequential(
            MapAttention(channels, window),
            *(ResidualUnit(channels) for _ in range(3)),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 of the shape of ``x``, [B, C, H, W]."""
        result: Tensor = x + self.conv_a(x) * torch.sigmoid(self.conv_b(x))
        return result


class Wacnn(SliceModel):
    """The whole model, for training, for checking and to be cut into graphs."""

    def __init__(self, n: int = 192, slices: SliceWidths = WACNN_SLICES) -> None:
        super().__init__(slices)
        m = slices.m
        self.g_a = nn.Sequential(
            _conv(3, n),
            GDN(n),
            _conv(n, n),
            GDN(n),
            WindowAttentionModule(n, WINDOW_AT_4),
            _conv(n, n),
            GDN(n),
            _conv(n, m),
            WindowAttentionModule(m, WINDOW_AT_16),
        )
        self.g_s = nn.Sequential(
            WindowAttentionModule(m, WINDOW_AT_16),
            _deconv(m, n),
            GDN(n, inverse=True),
            _deconv(n, n),
            GDN(n, inverse=True),
            WindowAttentionModule(n, WINDOW_AT_4),
            _deconv(n, n),
            GDN(n, inverse=True),
            _deconv(n, 3),
        )

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Wacnn:
        """Return a model of the widths of ``state``, without its values."""
        return cls(state["g_a.0.weight"].shape[0], SliceWidths.from_state_dict(state))

    def analysis(self, x: Tensor) -> Tensor:
        """Return y, float32 [B, M, H/16, W/16], of the picture x, float32 [B, 3, H, W]."""
        result: Tensor = self.g_a(x)
        return result

    def synthesis(self, y_hat: Tensor) -> Tensor:
        """Return the picture x_hat, float32 [B, 3, H, W], not clipped, of y_hat."""
        result: Tensor = self.g_s(y_hat)
        return result


def _conv(fan_in: int, fan_out: int) -> nn.Conv2d:
    return nn.Conv2d(fan_in, fan_out, 5, stride=2, padding=2)


def _deconv(fan_in: int, fan_out: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(fan_in, fan_out, 5, stride=2, padding=2, output_padding=1)
