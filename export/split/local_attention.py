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

    def forward(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Describe the windows around the packed nonanchor positions of a map.

        Args:
            like: [B, C, h, w], even sides; only its size matters.

        Returns:
            index int64 [h, w/2, 13]: packed position of each anchor of the window, h * w / 2 for those outside the
            map, and that once more, for the nonanchors; inside float32 [h, w/2, 25]: 1 where a cell lies inside the
            map, else 0; excluded float32 [h, w/2, 12, 12]: what a pair of anchors, query and key, adds to its logit.
        """
        height, width = like.shape[-2:]
        half = width // 2
        row = torch.arange(height, device=like.device)[:, None, None]
        column = 2 * torch.arange(half, device=like.device)[None, :, None] + row % 2
        rows, columns = row + self.row_offsets, column + self.column_offsets
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        packed = rows * half + torch.div(columns, 2, rounding_mode="floor")
        known = torch.cat([inside[:, :, : len(ODD)], torch.zeros_like(inside[:, :, :1])], dim=-1)
        index = torch.where(known, packed[:, :, : len(ODD) + 1], height * half)
        inside = inside.to(torch.float32)
        odd = inside[:, :, : len(ODD)]
        return index, inside, EXCLUDED * odd[..., :, None] * (1 - odd[..., None, :])


class PackedLocalContext(nn.Module):
    """The same values as ``LocalContext`` at the nonanchor positions."""

    bias_odd: Tensor
    bias_even: Tensor
    even_weights: Tensor
    seen_weight: Tensor
    odd_excludes: Tensor
    empty_fusion: Tensor
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
            # exp(bias) towards the 13 even cells, [13, heads * 25]
            self._constant("even_weights", torch.exp(position[:, :, odd:]).permute(2, 0, 1).flatten(1))
            own = torch.exp((empty_q * empty_k).sum(-1))  # weight of an even cell for a query at an even cell
            factor = torch.ones(LOCAL_HEADS, len(CELL_ORDER))
            factor[:, odd:] = own[:, None]
            self._constant("seen_weight", (factor - 1)[:, None])
            is_odd = torch.zeros(len(CELL_ORDER))
            is_odd[:odd] = EXCLUDED
            self._constant("odd_excludes", is_odd)
            fusion = source.fusion.weight.reshape(-1, LOCAL_HEADS, depth, WINDOW * WINDOW)[..., CELL_ORDER]
            fusion = fusion.permute(1, 3, 2, 0)  # [heads, 25, depth, out]
            self._constant("fusion_weight", fusion.flatten(1, 2))
            # What the fusion makes of the value of the even cells.
            self._constant("empty_fusion", torch.einsum("hcdo,hd->hco", fusion, empty_v))
            assert source.fusion.bias is not None
            self._constant("fusion_bias", source.fusion.bias)

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(value.detach().clone().contiguous(), requires_grad=False))

    def forward(self, anchors: Tensor, index: Tensor, inside: Tensor, excluded: Tensor) -> Tensor:
        """Return the context at the nonanchor positions.

        Heads come first in every tensor, so that no product needs its inputs transposed.

        Args:
            anchors: float32 [1, C, h, w/2], the packed anchors of a slice.
            index: int64 [h, w/2, 13] from ``WindowGeometry``.
            inside: float32 [h, w/2, 25] from ``WindowGeometry``.
            excluded: float32 [h, w/2, 12, 12] from ``WindowGeometry``.

        Returns:
            float32 [1, 2C, h, w/2], packed nonanchors.
        """
        _, channels, height, half = anchors.shape
        odd = len(ODD)
        inside = inside.reshape(1, -1, len(CELL_ORDER))  # [1, n, 25]
        tokens = self.norm1(anchors.flatten(2)[0].T)
        # One more row, of zeros: the token of all that lies outside.
        projected = functional.pad(self.projection(tokens), (0, 0, 0, 1))
        qkv, constant = torch.split(projected, [3 * channels, LOCAL_HEADS], dim=1)
        q, k, v = qkv.reshape(-1, 3, LOCAL_HEADS, self.depth).permute(1, 2, 0, 3).unbind(0)  # [heads, tokens, depth]
        anchor_cells, cells = index[:, :, :odd].reshape(-1), index.reshape(-1)
        q, k = (self._gathered(values, anchor_cells, odd) for values in (q, k))
        constant_query = self._gathered(constant.T[..., None], anchor_cells, odd)  # [heads, n, 12, 1]

        # Odd cells ask, even cells ask; both of the anchors. Then of the even cells, all at once.
        excluded = excluded.reshape(-1, odd, odd)
        logits_odd = torch.matmul(q, k.transpose(-1, -2)) + (self.bias_odd[:, None] + excluded)
        logits_even = inside[..., odd:, None] * constant_query.transpose(-1, -2) + self.bias_even[:, None]
        mass, share = self._even_cells(inside)
        logits = torch.cat([torch.cat([logits_odd, logits_even], dim=2), mass[..., None]], dim=-1)
        attention = torch.softmax(logits, dim=-1)  # [heads, n, 25, 13]
        # The even cells' own value would be 0 here: what it adds goes through ``empty_fusion``.
        attended = torch.matmul(attention, self._gathered(v, cells, odd + 1))
        fused: Tensor = torch.matmul(attended.flatten(2), self.fusion_weight)
        fused = fused + torch.matmul(attention[..., odd] * share, self.empty_fusion)
        fused = self.proj(fused.sum(0) + self.fusion_bias)
        fused = fused + self.mlp(self.norm2(fused))
        return fused.T.reshape(1, 2 * channels, height, half)

    @staticmethod
    def _gathered(values: Tensor, index: Tensor, cells: int) -> Tensor:
        """Return [heads, n, cells, depth] of the tokens [heads, tokens, depth] in every window."""
        heads, _, depth = values.shape
        return torch.index_select(values, 1, index).reshape(heads, -1, cells, depth)

    def _even_cells(self, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Return the virtual key of the 13 even cells for each query, both [heads, n, 25].

        The logit of the key, and the share of its weight that lies on cells inside the map, which alone have a value.
        """
        even = inside[0, :, len(ODD) :]

        def weighed(cells: Tensor) -> Tensor:
            # One matrix for all heads: OpenVINO does not spread one input over a batch of constant matrices.
            weights: Tensor = torch.matmul(cells, self.even_weights)
            return weights.reshape(-1, LOCAL_HEADS, len(CELL_ORDER)).transpose(0, 1)

        within, beyond = weighed(even), weighed(1 - even)
        # A query outside the map is a zero vector: every cell weighs exp(bias) for it.
        within = within * (1 + inside * self.seen_weight)
        total = within + beyond
        return torch.log(total) + inside * self.odd_excludes, within / total


def _by_head(parameter: Tensor) -> Tensor:
    """Return a copy of the projection as [3, heads, depth, ..]; its channels interleave the heads."""
    shape = (3, -1, LOCAL_HEADS, *parameter.shape[1:])
    return parameter.detach().reshape(shape).transpose(1, 2).clone()
