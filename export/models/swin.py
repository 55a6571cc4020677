"""Attention inside shifted windows (Liu et al. 2021), as STF and WACNN use it.

Token arrays are [batch * rows * columns, C], row-major, and stay two-dimensional throughout: every linear
layer is then one plain matrix product, and bringing tokens into windows, cyclic shift included, is one gather
of whole rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

EXCLUDED = -100.0  # added to logits of pairs that the cyclic shift has made neighbours


@dataclass(frozen=True)
class WindowOrder:
    """Where the tokens of a map lie in its windows.

    Attributes:
        to_windows: int64 [tokens in windows]: token of the map at each place of each window; one past the last
            token where windows reach over the edge.
        to_map: int64 [tokens in the map]: place in the windows of each token of the map.
        kinds: int64 [windows]: 0 inside, 1 in the last column of windows, 2 in the last row, 3 in the corner.
        padded: True if windows may reach over the edge.
    """

    to_windows: Tensor
    to_map: Tensor
    kinds: Tensor
    padded: bool

    def windows(self, tokens: Tensor) -> Tensor:
        """Return ``tokens`` [tokens in the map, C] window by window, zeros beyond the edge."""
        if self.padded:
            tokens = functional.pad(tokens, (0, 0, 0, 1))
        return tokens.index_select(0, self.to_windows)

    def map(self, windows: Tensor) -> Tensor:
        """Undo ``windows``."""
        return windows.index_select(0, self.to_map)


def window_order(like: Tensor, shape: tuple[int, int, int], window: int, shift: int, multiple: int) -> WindowOrder:
    """Return the order for maps rolled by ``-shift`` in both directions and cut into windows, row by row.

    Numbers the tokens and moves the numbers, so that traced graphs follow the sizes.

    Args:
        like: gives the device.
        shape: batch, rows, columns.
        window: side of a window.
        shift: less than ``window``.
        multiple: rows and columns are multiples of this; if it is one of ``window``, nothing is padded.
    """
    batch, rows, columns = shape
    down, across = (rows + window - 1) // window, (columns + window - 1) // window
    padded = multiple % window != 0

    tokens = torch.arange(batch * rows * columns, device=like.device).reshape(shape)
    if padded:
        margin = (0, across * window - columns, 0, down * window - rows)
        tokens = functional.pad(tokens, margin, value=batch * rows * columns)
    if shift:
        tokens = torch.roll(tokens, (-shift, -shift), (1, 2))
    to_windows = tokens.reshape(batch * down, window, across, window).permute(0, 2, 1, 3)

    places = torch.arange(batch * down * across * window * window, device=like.device)
    places = places.reshape(batch * down, across, window, window).permute(0, 2, 1, 3)
    places = places.reshape(batch, down * window, across * window)
    if shift:
        places = torch.roll(places, (shift, shift), (1, 2))
    if padded:
        places = places[:, :rows, :columns]

    last_row = (torch.arange(down, device=like.device) == down - 1).to(torch.int64)
    last_column = (torch.arange(across, device=like.device) == across - 1).to(torch.int64)
    kinds = (2 * last_row[:, None] + last_column).expand(batch, down, across)
    return WindowOrder(to_windows.reshape(-1), places.reshape(-1), kinds.reshape(-1), padded)


class WindowAttention(nn.Module):
    """Multi-head attention among the cells of each window, with a learned bias per offset."""

    def __init__(self, channels: int, window: int, shift: int, heads: int) -> None:
        super().__init__()
        self.window, self.shift, self.heads = window, shift, heads
        self.cells = window * window
        self.scale = (channels // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        cell = torch.arange(self.cells)
        row, column = cell // window, cell % window
        row_offset, column_offset = row[:, None] - row, column[:, None] - column
        index = (row_offset + window - 1) * (2 * window - 1) + column_offset + window - 1
        self.register_buffer("relative_position_index", index)
        self.relative_position_index: Tensor
        self.register_buffer("masks", _masks(row, column, window - shift), persistent=False)
        self.masks: Tensor
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def bias(self) -> Tensor:
        """Return what is added to logits: [heads, cells, cells]; with a shift, one such for each kind."""
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        return bias + self.masks[:, None] if self.shift else bias

    def forward(self, tokens: Tensor, kinds: Tensor) -> Tensor:
        """Attend.

        Args:
            tokens: float32 [windows * cells, C], window by window.
            kinds: int64 [windows], see ``WindowOrder``.

        Returns:
            float32 [windows * cells, C].
        """
        heads = self.qkv(tokens).reshape(-1, self.cells, 3, self.heads, tokens.shape[1] // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        bias = self.bias().index_select(0, kinds) if self.shift else self.bias()
        result: Tensor = self.proj(_attend(query * self.scale, key, value, bias))
        return result


class FoldedWindowAttention(nn.Module):
    """A ``WindowAttention`` for export.

    The bias and the masks are one constant, the scale of the queries is in their weights, and queries, keys
    and values come from a matrix product each, which spares the copy that takes them apart (on ONNX Runtime,
    20 % of the whole at 48 channels, 7 % at 192).
    """

    def __init__(self, attention: WindowAttention) -> None:
        super().__init__()
        self.cells, self.heads, self.shift = attention.cells, attention.heads, attention.shift
        channels = attention.proj.in_features
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        with torch.no_grad():
            weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
            for layer, weight, bias in zip((self.query, self.key, self.value), weights, biases, strict=True):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
            self.query.weight.mul_(attention.scale)
            self.query.bias.mul_(attention.scale)
            self.register_buffer("bias", attention.bias().contiguous())
        self.bias: Tensor
        self.proj = attention.proj

    def forward(self, tokens: Tensor, kinds: Tensor) -> Tensor:
        """Attend, as ``WindowAttention`` does."""
        shape = (-1, self.cells, self.heads, tokens.shape[1] // self.heads)
        query, key, value = (
            layer(tokens).reshape(shape).permute(0, 2, 1, 3) for layer in (self.query, self.key, self.value)
        )
        bias = self.bias.index_select(0, kinds) if self.shift else self.bias
        result: Tensor = self.proj(_attend(query, key, value, bias))
        return result


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Return [windows * cells, C] from [windows, heads, cells, head channels] each."""
    weights = torch.softmax(query @ key.transpose(-2, -1) + bias, dim=-1)
    windows, heads, cells, channels = query.shape
    return (weights @ value).permute(0, 2, 1, 3).reshape(windows * cells, heads * channels)


def _masks(row: Tensor, column: Tensor, cut: int) -> Tensor:
    """Return float32 [4, cells, cells], by kind of window.

    After the roll, the last windows hold cells of both ends of the map, parted before the ``cut``-th row or
    column; those may not see each other.
    """
    apart_rows = (row >= cut)[:, None] != (row >= cut)
    apart_columns = (column >= cut)[:, None] != (column >= cut)
    apart = torch.stack([apart_rows & False, apart_columns, apart_rows, apart_rows | apart_columns])
    return EXCLUDED * apart.to(torch.float32)
