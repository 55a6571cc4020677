"""The checkerboard of MLIC++ on torch tensors: packing one half of the positions and putting it back.

Anchor: row + column odd; nonanchor: even. A packed half [B, C, h, w/2] holds in element (r, k) column 2k + 1 (anchor,
r even; nonanchor, r odd) or 2k (anchor, r odd; nonanchor, r even). Heights and widths are even.
"""

import torch
from torch import Tensor


def squeeze(full: Tensor, anchor: bool) -> Tensor:
    """Return the packed half [B, C, h, w/2] of ``full`` [B, C, h, w]."""
    batch, channels, height, width = full.shape
    cells = full.reshape(batch, channels, height // 2, 2, width // 2, 2)
    odd = 1 if anchor else 0  # column parity in even rows
    rows = torch.stack((cells[:, :, :, 0, :, odd], cells[:, :, :, 1, :, 1 - odd]), dim=3)
    return rows.reshape(batch, channels, height, width // 2)


def unsqueeze(packed: Tensor, anchor: bool) -> Tensor:
    """Return [B, C, h, w] with ``packed`` [B, C, h, w/2] at its positions and zeros elsewhere."""
    batch, channels, height, half = packed.shape
    rows = packed.reshape(batch, channels, height // 2, 2, half)
    even, odd = rows[:, :, :, 0], rows[:, :, :, 1]
    zeros = torch.zeros_like(even)
    if anchor:
        cells = (torch.stack((zeros, even), dim=-1), torch.stack((odd, zeros), dim=-1))
    else:
        cells = (torch.stack((even, zeros), dim=-1), torch.stack((zeros, odd), dim=-1))
    return torch.stack(cells, dim=3).reshape(batch, channels, height, 2 * half)


def anchor_mask(like: Tensor) -> Tensor:
    """Return [1, 1, h, w] of the dtype and device of ``like`` [.., h, w]: one at anchor positions, zero elsewhere."""
    height, width = like.shape[-2:]
    rows = torch.arange(height, device=like.device)[:, None]
    columns = torch.arange(width, device=like.device)[None, :]
    return ((rows + columns) % 2).to(like.dtype)[None, None]
