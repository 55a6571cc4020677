"""STF, the symmetrical transformer (Zou, Song and Zhang 2022), with the keys of its official checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from mlic.export.models.slices import SliceModel, SliceWidths
from mlic.export.models.swin import WindowAttention, WindowOrder, window_order

Shape = tuple[int, int, int]  # batch, rows and columns of the map whose tokens are at hand

STAGES = 4
STRIDES = (2, 4, 8, 16)  # of the stages of the analysis
PICTURE_MULTIPLE = 64


@dataclass(frozen=True)
class StfWidths:
    """Everything that sizes the transforms of an STF; the synthesis mirrors the analysis.

    Attributes:
        embed: channels of the first stage; each stage doubles them, and y has eight times as many.
        depths: blocks of each stage of the analysis.
        heads: of each stage of the analysis.
        window: side of the attention windows.
        mlp_ratio: hidden width of a block's network, in its channels.
    """

    embed: int = 48
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 4
    mlp_ratio: float = 4.0

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> StfWidths:
        """Read the widths off the shapes of a checkpoint with official keys."""
        blocks = [key.split(".") for key in state if key.startswith("layers.") and key.endswith(".norm1.weight")]
        tables = [state[f"layers.{s}.blocks.0.attn.relative_position_bias_table"].shape for s in range(STAGES)]
        embed = state["patch_embed.proj.weight"].shape[0]
        return cls(
            embed=embed,
            depths=tuple(sum(int(parts[1]) == s for parts in blocks) for s in range(STAGES)),
            heads=tuple(heads for _, heads in tables),
            window=(round(tables[0][0] ** 0.5) + 1) // 2,
            mlp_ratio=state["layers.0.blocks.0.mlp.fc1.weight"].shape[0] / embed,
        )


STF_SLICES = SliceWidths(m=384, n=192, num_slices=12, support=6, h_a=(384, 336, 288, 240), h_s=(240, 288, 336, 384))


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return float32 [tokens, C] of [tokens, C]."""
        result: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return result


class SwinBlock(nn.Module):
    """Window attention and a network, each behind a layer norm and added to its input (Liu et al. 2021)."""

    def __init__(self, channels: int, widths: StfWidths, heads: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, widths.window, shift, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, int(channels * widths.mlp_ratio))

    def forward(self, tokens: Tensor, order: WindowOrder) -> Tensor:
        """Return float32 [tokens, C] of [tokens, C]."""
        attended = self.attn(order.windows(self.norm1(tokens)), order.kinds)
        tokens = tokens + order.map(attended)
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class PatchMerging(nn.Module):
    """Halves rows and columns, doubles channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, tokens: Tensor, shape: Shape) -> tuple[Tensor, Shape]:
        """Return the tokens of the smaller map, and its shape."""
        batch, rows, columns = shape[0], shape[1] // 2, shape[2] // 2
        channels = tokens.shape[1]
        # The row in a 2x2 cell varies faster than the column.
        cells = tokens.reshape(batch * rows, 2, columns, 2, channels).permute(0, 2, 3, 1, 4)
        return self.reduction(self.norm(cells.reshape(-1, 4 * channels))), (batch, rows, columns)


class PatchSplit(nn.Module):
    """Doubles rows and columns, halves channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, shape: Shape) -> tuple[Tensor, Shape]:
        """Return the tokens of the larger map, and its shape."""
        batch, rows, columns = shape
        channels = tokens.shape[1] // 2
        wide = self.reduction(self.norm(tokens))
        # As a pixel shuffle: the place in the 2x2 cell varies faster than the channel.
        cells = wide.reshape(batch * rows, columns, channels, 2, 2).permute(0, 3, 1, 4, 2)
        return cells.reshape(-1, channels), (batch, 2 * rows, 2 * columns)


class FoldedPatchSplit(nn.Module):
    """A ``PatchSplit`` for export: its outputs are ordered so that the shuffle moves whole tokens."""

    def __init__(self, split: PatchSplit) -> None:
        super().__init__()
        self.norm = split.norm
        wide, channels = split.reduction.weight.shape
        self.reduction = nn.Linear(channels, wide, bias=False)
        by_place = split.reduction.weight.detach().reshape(wide // 4, 4, channels).transpose(0, 1)
        self.reduction.weight = nn.Parameter(by_place.reshape(wide, channels).clone())

    def forward(self, tokens: Tensor, shape: Shape) -> tuple[Tensor, Shape]:
        """Return the tokens of the larger map, and its shape."""
        batch, rows, columns = shape
        channels = tokens.shape[1] // 2
        wide = self.reduction(self.norm(tokens))
        cells = wide.reshape(batch * rows, columns, 2, 2, channels).permute(0, 2, 1, 3, 4)
        return cells.reshape(-1, channels), (batch, 2 * rows, 2 * columns)


class Stage(nn.Module):
    """Blocks at one size, every second one with shifted windows, then a change of size if there is one."""

    def __init__(self, channels: int, widths: StfWidths, depth: int, heads: int, multiple: int) -> None:
        super().__init__()
        self.window, self.shift, self.multiple = widths.window, widths.window // 2, multiple
        self.blocks = nn.ModuleList(
            SwinBlock(channels, widths, heads, self.shift if j % 2 else 0) for j in range(depth)
        )
        self.downsample: nn.Module | None = None

    def forward(self, tokens: Tensor, shape: Shape) -> tuple[Tensor, Shape]:
        """Return the tokens and the shape of the map for the next stage."""
        orders = [window_order(tokens, shape, self.window, s, self.multiple) for s in (0, self.shift)]
        for j, block in enumerate(self.blocks):
            tokens = block(tokens, orders[j % 2])
        if self.downsample is None:
            return tokens, shape
        result: tuple[Tensor, Shape] = self.downsample(tokens, shape)
        return result


class PatchEmbed(nn.Module):
    """The picture to the tokens of the first stage."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 2, stride=2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Shape]:
        """Return the tokens and the shape of their map."""
        patches = self.proj(x)
        batch, channels, rows, columns = patches.shape
        tokens: Tensor = self.norm(patches.permute(0, 2, 3, 1).reshape(-1, channels))
        return tokens, (batch, rows, columns)


class Stf(SliceModel):
    """The whole model, for training, for checking and to be cut into graphs. Has no stochastic depth."""

    def __init__(self, transforms: StfWidths | None = None, slices: SliceWidths = STF_SLICES) -> None:
        super().__init__(slices)
        self.transforms = w = transforms or StfWidths()
        if slices.m != 8 * w.embed:
            raise ValueError(f"y has {slices.m} channels; expected 8 x {w.embed}, the width of the last stage")
        self.patch_embed = PatchEmbed(w.embed)
        stages = [
            Stage(w.embed << s, w, w.depths[s], w.heads[s], PICTURE_MULTIPLE // STRIDES[s]) for s in range(STAGES)
        ]
        for s in range(STAGES - 1):
            stages[s].downsample = PatchMerging(w.embed << s)
        self.layers = nn.ModuleList(stages)
        stages = [
            Stage(w.embed << s, w, w.depths[s], w.heads[s], PICTURE_MULTIPLE // STRIDES[s])
            for s in reversed(range(STAGES))
        ]
        for s in range(1, STAGES):
            stages[STAGES - 1 - s].downsample = PatchSplit(w.embed << s)
        self.syn_layers = nn.ModuleList(stages)
        self.end_conv = nn.Sequential(
            nn.Conv2d(w.embed, 4 * w.embed, 5, padding=2),
            nn.PixelShuffle(2),
            nn.Conv2d(w.embed, 3, 3, padding=1),
        )

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Stf:
        """Return a model of the widths of ``state``, without its values."""
        return cls(StfWidths.from_state_dict(state), SliceWidths.from_state_dict(state))

    def analysis(self, x: Tensor) -> Tensor:
        """Return y, float32 [B, M, H/16, W/16], of the picture x, float32 [B, 3, H, W]."""
        tokens, shape = self.patch_embed(x)
        for stage in self.layers:
            tokens, shape = stage(tokens, shape)
        return _map_of(tokens, shape)

    def synthesis(self, y_hat: Tensor) -> Tensor:
        """Return the picture x_hat, float32 [B, 3, H, W], not clipped, of y_hat."""
        batch, channels, rows, columns = y_hat.shape
        tokens, shape = y_hat.permute(0, 2, 3, 1).reshape(-1, channels), (batch, rows, columns)
        for stage in self.syn_layers:
            tokens, shape = stage(tokens, shape)
        result: Tensor = self.end_conv(_map_of(tokens, shape))
        return result


def _map_of(tokens: Tensor, shape: Shape) -> Tensor:
    """Return float32 [B, C, rows, columns] of tokens [B * rows * columns, C]."""
    return tokens.reshape(*shape, tokens.shape[1]).permute(0, 3, 1, 2)
