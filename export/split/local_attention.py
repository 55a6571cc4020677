"""The local window attention of MLIC++ from the anchors alone, at the nonanchor positions alone.

The model attends inside the 5x5 window around every position of a map that holds anchors and zeros. Three facts
shrink that:

- The result is used at nonanchor positions only. A window around one of them has 12 anchor cells (odd offset) and 13
  nonanchor cells (even offset).
- All nonanchor cells inside the map carry one and the same token, the projection of a zero vector, and all cells
  outside carry zeros. So the 13 even cells need no tensors: for each query they act as a single virtual key whose
  logit is the logarithm of a sum of constants, and whose value is a constant vector times a share.
- Queries at even cells are that same constant, so their logits are one number per anchor and head, computed before
  windows are gathered.

What remains per window is a 25 x 13 attention per head over 12 gathered anchors, instead of 25 x 25 over 25 at twice
the positions. A pair that must not see each other has -100 added to its logit, as in the model.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlic.export.models.mlicpp_context import EXCLUDED, LOCAL_HEADS, WINDOW, LocalContext

_REACH = WINDOW // 2
_CELLS = [(row - _REACH, column - _REACH) for row in range(WINDOW) for column in range(WINDOW)]
ODD = [p for p, (row, column) in enumerate(_CELLS) if (row + column) % 2]
EVEN = [p for p, (row, column) in enumerate(_CELLS) if (row + column) % 2 == 0]
CELL_ORDER = ODD + EVEN  # anchors first: the order of every axis of 25 in this module


class WindowGeometry(nn.Module):
    """Which anchors each nonanchor's window holds; depends on the size of the map only."""

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.tensor([_CELLS[p] for p in CELL_ORDER])
        self.register_buffer("row_offsets", offsets[:, 0])
        self.register_buffer("column_offsets", offsets[:, 1])
        self.row_offsets: Tensor
        self.column_offsets: Tensor

    def forward(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Describe the windows around the packed nonanchor positions of a map.

        Args:
            like: [B, C, h, w], even sides; only its size matters.

        Returns:
            index int64 [h, w/2, 12]: packed position of each anchor of the window, h * w / 2 for those outside the
            map; and inside float32 [h, w/2, 25]: 1 where a cell lies inside the map, else 0.
        """
        height, width = like.shape[-2:]
        half = width // 2
        row = torch.arange(height, device=like.device)[:, None, None]
        column = 2 * torch.arange(half, device=like.device)[None, :, None] + row % 2
        rows, columns = row + self.row_offsets, column + self.column_offsets
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        packed = rows * half + torch.div(columns, 2, rounding_mode="floor")
        index = torch.where(inside, packed, height * half)[:, :, : len(ODD)]
        return index, inside.to(torch.float32)


class PackedLocalContext(nn.Module):
    """The same values as ``LocalContext`` at the nonanchor positions."""

    bias_odd: Tensor
    bias_even: Tensor
    even_weights: Tensor
    seen_weight: Tensor
    odd_excludes: Tensor
    empty_value: Tensor
    fusion_weight: Tensor
    fusion_bias: Tensor

    def __init__(self, source: LocalContext) -> None:
        super().__init__()
        self.depth = depth = source.channels // LOCAL_HEADS
        self.norm1, self.norm2 = source.norm1, source.norm2
        self.proj, self.mlp = source.proj, source.mlp
        with torch.no_grad():
            weight, bias = _by_head(source.qkv_proj.weight), _by_head(source.qkv_proj.bias)
            weight[0] *= depth**-0.5
            bias[0] *= depth**-0.5
            # Token of every nonanchor inside the map: the normalised zero vector is the norm's bias.
            empty = weight @ source.norm1.bias + bias  # [3, heads, depth]
            empty_q, empty_k, empty_v = empty
            # An extra output per head: logit of the constant query with this token as key.
            query_weight = torch.einsum("hd,hdc->hc", empty_q, weight[1])
            query_bias = (empty_q * bias[1]).sum(-1)
            self.projection = nn.Linear(source.channels, 3 * source.channels + LOCAL_HEADS)
            self.projection.weight.copy_(torch.cat([weight.flatten(0, 2), query_weight]))
            self.projection.bias.copy_(torch.cat([bias.flatten(), query_bias]))
            position = source.position_bias()[:, CELL_ORDER][:, :, CELL_ORDER]  # [heads, 25, 25]
            odd = len(ODD)
            self._constant("bias_odd", position[:, :odd, :odd])
            self._constant("bias_even", position[:, odd:, :odd])
            # exp(bias) towards the 13 even cells, as a matrix [13, heads * 25]
            self._constant("even_weights", torch.exp(position[:, :, odd:]).permute(2, 0, 1).flatten(1))
            own = torch.exp((empty_q * empty_k).sum(-1))  # weight of an even cell for a query at an even cell
            factor = torch.ones(LOCAL_HEADS, len(CELL_ORDER))
            factor[:, odd:] = own[:, None]
            self._constant("seen_weight", factor - 1)
            is_odd = torch.zeros(len(CELL_ORDER))
            is_odd[:odd] = EXCLUDED
            self._constant("odd_excludes", is_odd)
            self._constant("empty_value", empty_v[:, None, :])
            fusion = source.fusion.weight.reshape(-1, LOCAL_HEADS, depth, WINDOW * WINDOW)[..., CELL_ORDER]
            self._constant("fusion_weight", fusion.permute(1, 3, 2, 0).flatten(0, 2))  # [heads * 25 * depth, out]
            assert source.fusion.bias is not None
            self._constant("fusion_bias", source.fusion.bias)

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(value.detach().clone().contiguous(), requires_grad=False))

    def forward(self, anchors: Tensor, index: Tensor, inside: Tensor) -> Tensor:
        """Return the context at the nonanchor positions.

        Args:
            anchors: float32 [1, C, h, w/2], the packed anchors of a slice.
            index: int64 [h, w/2, 12] from ``WindowGeometry``.
            inside: float32 [h, w/2, 25] from ``WindowGeometry``.

        Returns:
            float32 [1, 2C, h, w/2], packed nonanchors.
        """
        _, channels, height, half = anchors.shape
        odd, depth = len(ODD), self.depth
        inside = inside.reshape(-1, 1, len(CELL_ORDER))  # [n, 1, 25]
        tokens = self.norm1(anchors.flatten(2)[0].T)
        outside = torch.zeros_like(tokens[:1, :1]).expand(1, 3 * channels + LOCAL_HEADS)
        projected = torch.cat([self.projection(tokens), outside])
        windows = projected[index.flatten()].reshape(-1, odd, 3 * channels + LOCAL_HEADS)
        q, k, v = (
            windows[:, :, i * channels : (i + 1) * channels].reshape(-1, odd, LOCAL_HEADS, depth) for i in range(3)
        )
        constant_query = windows[:, :, 3 * channels :].permute(0, 2, 1)  # [n, heads, 12]

        excluded = EXCLUDED * inside[:, :, :odd, None] * (1 - inside[:, :, None, :odd])
        logits_odd = torch.matmul(q.permute(0, 2, 1, 3), k.permute(0, 2, 3, 1)) + (self.bias_odd + excluded)
        logits_even = inside[:, :, odd:, None] * constant_query[:, :, None, :] + self.bias_even
        mass, share = self._even_cells(inside)
        logits = torch.cat([torch.cat([logits_odd, logits_even], dim=2), mass[..., None]], dim=-1)
        attention = torch.softmax(logits, dim=-1)  # [n, heads, 25, 13]
        attended = torch.matmul(attention[..., :odd], v.permute(0, 2, 1, 3))
        attended = attended + (attention[..., odd] * share)[..., None] * self.empty_value

        fused: Tensor = self.proj(functional.linear(attended.flatten(1), self.fusion_weight.T, self.fusion_bias))
        fused = fused + self.mlp(self.norm2(fused))
        return fused.T.reshape(1, 2 * channels, height, half)

    def _even_cells(self, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Return the virtual key of the 13 even cells for each query, both [n, heads, 25].

        The logit of the key, and the share of its weight that lies on cells inside the map, which alone have a value.
        """
        even = inside[:, 0, len(ODD) :]
        shape = (-1, LOCAL_HEADS, len(CELL_ORDER))
        within = torch.matmul(even, self.even_weights).reshape(shape)
        beyond = torch.matmul(1 - even, self.even_weights).reshape(shape)
        # A query outside the map is a zero vector: every cell weighs exp(bias) for it.
        within = within * (1 + inside * self.seen_weight)
        total = within + beyond
        return torch.log(total) + inside * self.odd_excludes, within / total


def _by_head(parameter: Tensor) -> Tensor:
    """Return a copy of the projection as [3, heads, depth, ..]; its channels interleave the heads."""
    shape = (3, -1, LOCAL_HEADS, *parameter.shape[1:])
    return parameter.detach().reshape(shape).transpose(1, 2).clone()
