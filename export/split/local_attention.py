"""The local window attention of MLIC++ from the anchors alone, at the nonanchor positions alone.

The model attends inside the 5x5 window around every position of a map that holds anchors and zeros. Four facts shrink
that:

- The result is used at nonanchor positions only. A window around one of them has 12 anchor cells (odd offset) and 13
  nonanchor cells (even offset).
- All nonanchor cells inside the map carry one and the same token, the projection of a zero vector, and all cells
  outside carry zeros. So the 13 even cells need no tensors: for each query they act as a single virtual key whose
  logit is the logarithm of a sum of constants, and whose value is a constant vector times a share. Both follow from
  which cells lie inside the map, of which there are few patterns: tables hold them.
- Queries at even cells are that same constant, so their logits are one number per anchor and head, computed before
  windows are gathered.
- The fusion and the projection after it are linear, hence one.

What remains per window is a 25 x 13 attention per head over 12 gathered anchors, instead of 25 x 25 over 25 at twice
the positions. A pair that must not see each other has -100 added to its logit, as in the model.

Positions come last in every tensor but the factors of matrix products, so that what is done to each element is done to
long rows, and projections are convolutions.
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
_ROOMS = _REACH + 1  # distances to an edge that differ: 0, 1, and far enough


class WindowGeometry(nn.Module):
    """Which anchors each nonanchor's window holds; depends on the size of the map only."""

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.tensor([_CELLS[p] for p in CELL_ORDER])
        self.register_buffer("row_offsets", offsets[:, 0])
        self.register_buffer("column_offsets", offsets[:, 1])
        self.row_offsets: Tensor
        self.column_offsets: Tensor

    def forward(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Describe the windows around the packed nonanchor positions of a map.

        Args:
            like: [B, C, h, w], even sides; only its size matters.

        Returns:
            index int64 [h, w/2, 13]: packed position of each anchor of the window, h * w / 2 for those outside the
            map, and that once more, for the nonanchors; place int64 [h, w/2]: which of ``PLACES`` the window lies at;
            inside float32 [13, h, w/2]: 1 where an even cell lies inside the map, else 0; excluded float32
            [12, 12, h, w/2]: what a pair of anchors, query and key, adds to its logit.
        """
        height, width = like.shape[-2:]
        half = width // 2
        row = torch.arange(height, device=like.device)[:, None]
        column = 2 * torch.arange(half, device=like.device)[None, :] + row % 2
        place = torch.zeros_like(column)
        for distance in (row, height - 1 - row, column, width - 1 - column):
            place = place * _ROOMS + torch.clamp(distance, max=_REACH)
        rows, columns = row[..., None] + self.row_offsets, column[..., None] + self.column_offsets
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        packed = rows * half + torch.div(columns, 2, rounding_mode="floor")
        known = torch.cat([inside[:, :, : len(ODD)], torch.zeros_like(inside[:, :, :1])], dim=-1)
        index = torch.where(known, packed[:, :, : len(ODD) + 1], height * half)
        cells = inside.permute(2, 0, 1).to(torch.float32)
        odd, even = cells[: len(ODD)], cells[len(ODD) :]
        return index, place, even, EXCLUDED * odd[:, None] * (1 - odd[None])


def cells_inside() -> Tensor:
    """Return which cells lie inside the map at each place: float64 [81, 25], ones and zeros.

    A place is how many rows or columns lie above, below, left and right, up to the window's reach.
    """
    rooms = torch.cartesian_prod(*[torch.arange(_ROOMS)] * 4)  # the last varies fastest, as in WindowGeometry
    above, below, left, right = rooms.T[..., None]
    rows, columns = torch.tensor([_CELLS[p] for p in CELL_ORDER]).T
    inside: Tensor = (rows >= -above) & (rows <= below) & (columns >= -left) & (columns <= right)
    return inside.to(torch.float64)


class PackedLocalContext(nn.Module):
    """The same values as ``LocalContext`` at the nonanchor positions."""

    bias_odd: Tensor
    bias_even: Tensor
    mass: Tensor
    share: Tensor

    def __init__(self, source: LocalContext) -> None:
        super().__init__()
        self.channels = source.channels
        self.depth = depth = source.channels // LOCAL_HEADS
        self.norm1, self.norm2 = source.norm1, source.norm2
        self.fc1, self.fc2 = (_pointwise(layer.weight, layer.bias) for layer in (source.mlp.fc1, source.mlp.fc2))
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
            self.projection = _pointwise(
                torch.cat([weight.flatten(0, 2), query_weight]), torch.cat([bias.flatten(), query_bias])
            )
            position = source.position_bias()[:, CELL_ORDER][:, :, CELL_ORDER]  # [heads, 25, 25]
            odd = len(ODD)
            self._constant("bias_odd", position[:, :odd, :odd, None])
            self._constant("bias_even", position[:, odd:, :odd, None])
            mass, share = _even_cells(position, (empty_q * empty_k).sum(-1))
            self._constant("mass", mass.flatten(1))
            self._constant("share", share.flatten(1))
            self.fusion = _fusion(source, empty_v)

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_parameter(name, nn.Parameter(value.detach().float().contiguous(), requires_grad=False))

    def forward(self, anchors: Tensor, index: Tensor, place: Tensor, inside: Tensor, excluded: Tensor) -> Tensor:
        """Return the context at the nonanchor positions.

        Args:
            anchors: float32 [1, C, h, w/2], the packed anchors of a slice.
            index: int64 [h, w/2, 13] from ``WindowGeometry``.
            place: int64 [h, w/2] from there.
            inside: float32 [13, h, w/2] from there.
            excluded: float32 [12, 12, h, w/2] from there.

        Returns:
            float32 [1, 2C, h, w/2], packed nonanchors.
        """
        height, half = anchors.shape[-2:]
        odd, cells = len(ODD), len(CELL_ORDER)
        projected = self.projection(_normalised(anchors, self.norm1))
        q, k, v, constant = torch.split(projected, [self.channels] * 3 + [LOCAL_HEADS], dim=1)
        anchor_cells, all_cells = index[:, :, :odd].reshape(-1), index.reshape(-1)
        q, k = (self._gathered(values, anchor_cells, odd) for values in (q, k))  # [heads, n, 12, depth]
        constant_query = self._gathered(constant, anchor_cells, odd).permute(0, 3, 2, 1)  # [heads, 1, 12, n]

        # Odd cells ask, even cells ask; both of the anchors. Then of the even cells, all at once.
        logits_odd = torch.matmul(q, k.transpose(-1, -2)).permute(0, 2, 3, 1)
        logits_odd = logits_odd + (self.bias_odd + excluded.reshape(odd, odd, -1))
        logits_even = inside.reshape(cells - odd, 1, -1) * constant_query + self.bias_even
        mass, share = (
            torch.index_select(table, 0, place.reshape(-1)).T.reshape(LOCAL_HEADS, cells, -1)
            for table in (self.mass, self.share)
        )
        logits = torch.cat([torch.cat([logits_odd, logits_even], dim=1), mass[:, :, None]], dim=2)
        attention = torch.softmax(logits, dim=2)  # [heads, 25, 13, n]
        # The even cells' own value would be 0 here: what it adds goes through their share of the attention.
        attended = torch.matmul(attention.permute(0, 3, 1, 2), self._gathered(v, all_cells, odd + 1))
        attended = attended.permute(0, 2, 3, 1).reshape(1, LOCAL_HEADS * cells * self.depth, height, half)
        seen = (attention[:, :, odd] * share).reshape(1, LOCAL_HEADS * cells, height, half)
        fused = self.fusion(torch.cat([attended, seen], dim=1))
        result: Tensor = fused + self.fc2(functional.gelu(self.fc1(_normalised(fused, self.norm2))))
        return result

    @staticmethod
    def _gathered(values: Tensor, index: Tensor, cells: int) -> Tensor:
        """Return [heads, n, cells, depth] of a map [1, heads * depth, h, w/2] in every window, zeros outside."""
        tokens = values.reshape(LOCAL_HEADS, values.shape[1] // LOCAL_HEADS, -1).transpose(1, 2)
        tokens = functional.pad(tokens, (0, 0, 0, 1))
        return torch.index_select(tokens, 1, index).reshape(LOCAL_HEADS, -1, cells, tokens.shape[-1])


def _even_cells(position: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return the virtual key of the 13 even cells for each query at each place, both float64 [81, heads, 25].

    The logit of the key, and the share of its weight that lies on cells inside the map, which alone have a value.

    Args:
        position: [heads, 25, 25], added to logits.
        own: [heads], logit of a query and a key at even cells.
    """
    inside, odd = cells_inside(), len(ODD)
    weights = torch.exp(position[:, :, odd:].double())
    within, beyond = (torch.einsum("pe,hqe->phq", cells, weights) for cells in (inside[:, odd:], 1 - inside[:, odd:]))
    # A query outside the map is a zero vector: every cell weighs exp(bias) for it.
    factor = torch.ones(LOCAL_HEADS, len(CELL_ORDER), dtype=torch.float64)
    factor[:, odd:] = torch.exp(own.double())[:, None]
    within = within * (1 + inside[:, None] * (factor - 1))
    total = within + beyond
    excluded = torch.zeros(len(CELL_ORDER), dtype=torch.float64)
    excluded[:odd] = EXCLUDED
    return torch.log(total) + inside[:, None] * excluded, within / total


def _fusion(source: LocalContext, empty_v: Tensor) -> nn.Conv2d:
    """Return fusion and projection as one layer, on values [heads * 25 * depth] and shares [heads * 25]."""
    weight = source.fusion.weight.reshape(-1, LOCAL_HEADS, source.channels // LOCAL_HEADS, WINDOW * WINDOW)
    weight = weight[..., CELL_ORDER].double()  # [out, heads, depth, 25]
    empty = torch.einsum("ohdc,hd->ohc", weight, empty_v.double())
    joined = torch.cat([weight.transpose(2, 3).flatten(1), empty.flatten(1)], dim=1)
    assert source.fusion.bias is not None
    proj = source.proj.weight.double()
    return _pointwise(proj @ joined, proj @ source.fusion.bias.double() + source.proj.bias.double())


def _normalised(values: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Return LayerNorm over the channels of a map [1, C, h, w]."""
    tokens: Tensor = norm(values.flatten(2)[0].T)
    return tokens.T.reshape(values.shape)


def _pointwise(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Return a linear layer, of a weight [out, in], as a convolution in float32."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    layer.weight = nn.Parameter(weight.detach().float()[..., None, None].clone(), requires_grad=False)
    layer.bias = nn.Parameter(bias.detach().float().clone(), requires_grad=False)
    return layer


def _by_head(parameter: Tensor) -> Tensor:
    """Return a copy of the projection as [3, heads, depth, ..]; its channels interleave the heads."""
    shape = (3, -1, LOCAL_HEADS, *parameter.shape[1:])
    return parameter.detach().reshape(shape).transpose(1, 2).clone()
