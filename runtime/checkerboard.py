"""The checkerboard: which half of a latent's positions a step codes, and how the half is packed.

Anchors are the positions whose row plus column is odd, nonanchors the others. A packed half is half as wide:

    kind        row      packed column k holds column
    anchor      even     2k + 1
    anchor      odd      2k
    nonanchor   even     2k
    nonanchor   odd      2k + 1
"""

from __future__ import annotations

import numpy as np

from mlic.runtime.arrays import Array
from mlic.runtime.errors import ShapeError
from mlic.runtime.manifest import Positions


def squeeze(values: Array, positions: Positions) -> Array:
    """Pack the positions of one kind.

    Args:
        values: any dtype [..., H, W]; W is even unless ``positions`` is ``all``.
        positions: kind to keep.

    Returns:
        Same dtype, C order: [..., H, W/2], or [..., H, W] for ``all``.

    Raises:
        ShapeError: W is odd.
    """
    if positions == "all":
        return np.ascontiguousarray(values)
    *lead, height, width = values.shape
    if width % 2:
        raise ShapeError(f"a checkerboard needs an even width; got {width}")
    pairs = values.reshape(*lead, height, width // 2, 2)
    even_rows, odd_rows = _column_of(positions)
    packed = np.empty((*lead, height, width // 2), dtype=values.dtype)
    packed[..., 0::2, :] = pairs[..., 0::2, :, even_rows]
    packed[..., 1::2, :] = pairs[..., 1::2, :, odd_rows]
    return packed


def unsqueeze(packed: Array, positions: Positions) -> Array:
    """Spread a packed half over the full width, with zeros at the other kind's positions.

    Args:
        packed: any dtype [..., H, W/2], or [..., H, W] for ``all``.
        positions: kind that ``packed`` holds.

    Returns:
        Same dtype [..., H, W], C order.
    """
    if positions == "all":
        return np.ascontiguousarray(packed)
    *lead, height, half = packed.shape
    even_rows, odd_rows = _column_of(positions)
    pairs = np.zeros((*lead, height, half, 2), dtype=packed.dtype)
    pairs[..., 0::2, :, even_rows] = packed[..., 0::2, :]
    pairs[..., 1::2, :, odd_rows] = packed[..., 1::2, :]
    return pairs.reshape(*lead, height, 2 * half)


def part_of_y(y: Array, channels: tuple[int, int], positions: Positions) -> Array:
    """Return the part of y that one step codes.

    Args:
        y: any dtype [1, M, H, W].
        channels: first and one past the last channel.
        positions: checkerboard half, or all.

    Returns:
        Same dtype, C order: [1, C, H, W/2], or [1, C, H, W] for ``all``.

    Raises:
        ShapeError: W is odd and ``positions`` is not ``all``.
    """
    first, end = channels
    return squeeze(y[:, first:end], positions)


def _column_of(positions: Positions) -> tuple[int, int]:
    """Return the place within a pair of columns, on even and on odd rows."""
    return (1, 0) if positions == "anchor" else (0, 1)
