"""Context modules of MLIC++ (Jiang et al. 2023): channel, local, global inter- and intra-slice."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.export.models.checkerboard import anchor_mask, squeeze, unsqueeze
from mlic.export.models.mlicpp_transforms import conv3x3

WINDOW = 5
LOCAL_HEADS = 2
EXCLUDED = -100.0  # added to logits of pairs that may not see each other
HEAD_CHANNELS = 32  # of the inter-slice attention; one head per 32 channels
INTRA_HEADS = 2


class ChannelContext(nn.Module):
    """Finished slices [B, 32 i, h, w] to a context [B, 128, h, w]."""

    def __init__(self, fan_in: int, hidden: tuple[int, int], fan_out: int = 128) -> None:
        super().__init__()
        self.fushion = nn.Sequential(  # spelled so in the checkpoints
            conv3x3(fan_in, hidden[0]),
            nn.GELU(),
            conv3x3(hidden[0], hidden[1]),
            nn.GELU(),
            conv3x3(hidden[1], fan_out),
        )

    def forward(self, finished: Tensor) -> Tensor:
        """Return the context."""
        result: Tensor = self.fushion(finished)
        return result


class EntropyParameters(nn.Module):
    """1x1 network from all contexts to scales and means: [B, C, ..] to [B, 64, ..], scales first."""

    def __init__(self, fan_in: int, hidden: tuple[int, int, int], fan_out: int) -> None:
        super().__init__()
        a, b, c = hidden
        self.fusion = nn.Sequential(
            nn.Conv2d(fan_in, a, 1),
            nn.GELU(),
            nn.Conv2d(a, b, 1),
            nn.GELU(),
            nn.Conv2d(b, c, 1),
            nn.GELU(),
            nn.Conv2d(c, fan_out, 1),
        )

    def forward(self, contexts: Tensor) -> Tensor:
        """Return scales and means, concatenated."""
        result: Tensor = self.fusion(contexts)
        return result


class LatentResidualPrediction(nn.Module):
    """Predicts the rounding error of a slice: [B, C, h, w] to [B, 32, h, w] in -0.5..0.5 (Minnen and Singh 2020)."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [conv3x3(fan_in, fan_out), nn.GELU()]
        self.lrp_transform = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the prediction."""
        result: Tensor = self.lrp_transform(x)
        return 0.5 * torch.tanh(result)


class Mlp(nn.Module):
    """Two linear layers with GELU between, on the last axis."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [.., C] to [.., C]."""
        result: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return result


class LocalContext(nn.Module):
    """Attention inside the 5x5 window around every position of an anchor-only slice.

    This is the readable form, which unfolds every window; ``mlic.export.split.local_attention`` computes the same
    at the coded positions from the anchors alone.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        out = 2 * channels
        self.relative_position_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, LOCAL_HEADS))
        nn.init.trunc_normal_(self.relative_position_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(WINDOW))
        self.relative_position_index: Tensor
        self.qkv_proj = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(out, out)
        self.mlp = Mlp(out, 2 * out)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(out)
        self.fusion = nn.Conv2d(channels, out, WINDOW)

    def position_bias(self) -> Tensor:
        """Return float32 [heads, 25, 25]: what is added to the logit of each query and key cell."""
        return self.relative_position_table[self.relative_position_index].permute(2, 0, 1)

    def forward(self, anchors: Tensor) -> Tensor:
        """Map an anchor-only slice [B, C, h, w] to a context [B, 2C, h, w]."""
        batch, channels, height, width = anchors.shape
        cells, depth = WINDOW * WINDOW, channels // LOCAL_HEADS
        tokens = self.norm1(anchors.permute(0, 2, 3, 1))
        projected = self.qkv_proj(tokens).permute(0, 3, 1, 2)
        windows = functional.unfold(projected, WINDOW, padding=WINDOW // 2)
        # Heads are interleaved going in: channel = depth index * heads + head.
        windows = windows.reshape(batch, 3, depth, LOCAL_HEADS, cells, height * width)
        q, k, v = windows.permute(1, 0, 5, 3, 4, 2)  # each [B, token, head, cell, depth]
        logits = torch.matmul(q * depth**-0.5, k.transpose(-1, -2)) + self.position_bias()
        logits = logits + self._mask(anchors)[:, None]
        attended = torch.matmul(torch.softmax(logits, dim=-1), v)  # [B, token, head, cell, depth]
        # ... and blocked coming out: channel = head * depth + depth index.
        maps = attended.permute(0, 1, 2, 4, 3).reshape(batch * height * width, channels, WINDOW, WINDOW)
        fused: Tensor = self.proj(self.fusion(maps).flatten(1))
        fused = fused + self.mlp(self.norm2(fused))
        return fused.reshape(batch, height, width, -1).permute(0, 3, 1, 2)

    def _mask(self, anchors: Tensor) -> Tensor:
        """Return [token, 25, 25]: 0 where both cells are anchors inside the map, else -100."""
        visible = functional.unfold(anchor_mask(anchors), WINDOW, padding=WINDOW // 2)[0].T  # [token, cell]
        return (1 - visible[:, :, None] * visible[:, None, :]) * EXCLUDED


def relative_position_index(window: int) -> Tensor:
    """Return int64 [window^2, window^2]: row of the bias table for each pair of cells."""
    cells = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    offset = cells[:, :, None] - cells[:, None, :] + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


def pointwise_depthwise(channels: int) -> nn.Sequential:
    """Return a 1x1 convolution followed by a depthwise 3x3 one."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
    )


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with separate softmaxes, in time linear in the tokens (Shen et al. 2021).

    Args:
        q: [B, heads, depth, queries].
        k: [B, heads, depth, tokens].
        v: [B, heads, depth, tokens].

    Returns:
        [B, heads, depth, queries].
    """
    context = torch.matmul(torch.softmax(k, dim=-1), v.transpose(-1, -2))
    return torch.matmul(context.transpose(-1, -2), torch.softmax(q, dim=-2))


def reprojection_mlp(channels: int, fan_out: int) -> nn.Sequential:
    """Return the MLP behind the attention: 1x1, GELU, depthwise 3x3, GELU, 1x1."""
    hidden = 2 * fan_out
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1),
        nn.GELU(),
        nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
        nn.GELU(),
        nn.Conv2d(hidden, fan_out, 1),
    )


class GlobalInterContext(nn.Module):
    """Attention over the whole map between finished slices: [B, 32 i, h, w] to [B, 64, h, w]."""

    def __init__(self, channels: int, fan_out: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_CHANNELS
        self.queries = pointwise_depthwise(channels)
        self.keys = pointwise_depthwise(channels)
        self.values = pointwise_depthwise(channels)
        self.reprojection = nn.Conv2d(channels, fan_out * 3 // 2, 5, padding=2)
        self.mlp = reprojection_mlp(fan_out * 3 // 2, fan_out)
        self.skip = nn.Conv2d(fan_out * 3 // 2, fan_out, 1)

    def forward(self, finished: Tensor) -> Tensor:
        """Return the context."""
        batch, channels, height, width = finished.shape
        heads = (batch, self.heads, channels // self.heads, height * width)
        q, k, v = (f(finished).reshape(heads) for f in (self.queries, self.keys, self.values))
        attended: Tensor = self.reprojection(linear_attention(q, k, v).reshape(finished.shape))
        result: Tensor = self.skip(attended) + self.mlp(attended)
        return result


class GlobalIntraContext(nn.Module):
    """Carries the anchors of a slice to its nonanchors along the similarity seen in the slice before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.queries = pointwise_depthwise(channels)
        self.keys = pointwise_depthwise(channels)
        self.values = pointwise_depthwise(channels)
        self.reprojection = nn.Conv2d(channels, 2 * channels, 5, padding=2)
        self.mlp = reprojection_mlp(2 * channels, 2 * channels)

    def forward(self, before: Tensor, anchors: Tensor) -> Tensor:
        """Map the finished slice before and this slice's anchors, each [B, C, h, w], to [B, 2C, h, w]."""
        batch, channels, height, width = anchors.shape
        heads = (batch, INTRA_HEADS, channels // INTRA_HEADS, height * width // 2)
        mask = anchor_mask(before)
        # The biases leak into the masked positions before those are dropped, so: convolve, then select.
        q = squeeze(self.queries(before * (1 - mask)), anchor=False).reshape(heads)
        k = squeeze(self.keys(before * mask), anchor=True).reshape(heads)
        v = squeeze(self.values(anchors), anchor=True).reshape(heads)
        attended = linear_attention(q, k, v).reshape(batch, channels, height, width // 2)
        projected: Tensor = self.reprojection(unsqueeze(attended, anchor=False))
        result: Tensor = projected + self.mlp(projected)
        return result
