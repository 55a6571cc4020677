"""How a padded picture is cut into tiles: what each computes, and which part of that is kept.

A value of ``g_a`` or ``g_s`` depends on what lies near it, at most a *halo* away (``manifest.Tiling``). A tile that
computes a halo more than it keeps gives the same values as one pass over the picture. At the picture's own edges it
ends with the picture, so that layers fill up with zeros there and nowhere else that matters.

All tiles of a picture have the same shape. With one shape, engines keep one set of buffers and plans, and it costs
nothing: a tile at the picture's edge keeps more of what it computes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from mlic.runtime.manifest import Tiling


class Box(NamedTuple):
    """A rectangle in pixels.

    Attributes:
        top: first row.
        left: first column.
        height: number of rows.
        width: number of columns.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        """The rows of an array that it covers."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """The columns of an array that it covers."""
        return slice(self.left, self.left + self.width)

    def moved(self, down: int, right: int) -> Box:
        """Return the box, moved."""
        return Box(self.top + down, self.left + right, self.height, self.width)

    def divided(self, stride: int) -> Box:
        """Return the box on a map with one position for each ``stride`` x ``stride`` pixels, which it must fit."""
        assert all(side % stride == 0 for side in self)
        return Box(*(side // stride for side in self))

    def common(self, other: Box) -> Box | None:
        """Return what two boxes share, or None."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        height = min(self.rows.stop, other.rows.stop) - top
        width = min(self.columns.stop, other.columns.stop) - left
        return Box(top, left, height, width) if height > 0 and width > 0 else None


class Tile(NamedTuple):
    """One run of a graph; boxes in pixels of the padded picture.

    Attributes:
        computed: what the graph sees and gives.
        kept: what of that is right, a part of ``computed``.
    """

    computed: Box
    kept: Box


class _Cut(NamedTuple):
    """A side cut into ``tiles`` of ``size`` pixels, halos included."""

    size: int
    tiles: int


def tile_grid(height: int, width: int, tiling: Tiling | None, tile_pixels: int, largest: tuple[int, int]) -> list[Tile]:
    """Cut a picture into the tiles that together compute least.

    Args:
        height: of the padded picture, a multiple of the tiling's.
        width: of the padded picture, a multiple of the tiling's.
        tiling: None for one tile.
        tile_pixels: what a tile may compute; exceeded only where the halo leaves no choice.
        largest: height and width that no tile may exceed, likewise.

    Returns:
        Tiles from left to right and from top to bottom; what they keep makes up the picture.
    """
    whole = Box(0, 0, height, width)
    if tiling is None or (height * width <= tile_pixels and height <= largest[0] and width <= largest[1]):
        return [Tile(whole, whole)]
    down, across = _best_cuts(_cuts(height, tiling, largest[0]), _cuts(width, tiling, largest[1]), tile_pixels)
    return [
        Tile(Box(top, left, down.size, across.size), Box(kept_top, kept_left, kept_height, kept_width))
        for top, kept_top, kept_height in _places(height, down, tiling.halo)
        for left, kept_left, kept_width in _places(width, across, tiling.halo)
    ]


def _cuts(length: int, tiling: Tiling, largest: int) -> list[_Cut]:
    """Return the ways to cut a side, the largest tiles first; those over ``largest`` only if there are no others."""
    multiple, overlap = tiling.multiple, 2 * tiling.halo
    cuts = [_Cut(length, 1)]
    for count in range(2, length // multiple + 1):
        size = -(-(length + overlap * (count - 1)) // (count * multiple)) * multiple
        if size - overlap < multiple or size >= length:
            break
        # Rounded up, the last tile may have nothing left to do; then fewer do as well.
        if size < cuts[-1].size and (count - 2) * (size - overlap) < length - size:
            cuts.append(_Cut(size, count))
    return [cut for cut in cuts if cut.size <= largest] or cuts[-1:]


def _best_cuts(down: Sequence[_Cut], across: Sequence[_Cut], tile_pixels: int) -> tuple[_Cut, _Cut]:
    """Return the pair that computes least within ``tile_pixels``, or has the smallest tiles if none is."""
    best, least = (down[-1], across[-1]), None
    for rows in down:
        # Larger tiles overlap less: the first cut across that fits is the best for these rows.
        place = bisect_left(across, -(tile_pixels // rows.size), key=lambda cut: -cut.size)
        if place < len(across):
            columns = across[place]
            computed = rows.size * rows.tiles * columns.size * columns.tiles, rows.tiles * columns.tiles
            if least is None or computed < least:
                best, least = (rows, columns), computed
    return best


def _places(length: int, cut: _Cut, halo: int) -> list[tuple[int, int, int]]:
    """Return, for each tile along a side, where it begins, where what it keeps begins, and how long that is."""
    starts = [min(number * (cut.size - 2 * halo), length - cut.size) for number in range(cut.tiles)]
    kept = [0, *(start + halo for start in starts[1:]), length]
    return [(start, kept[number], kept[number + 1] - kept[number]) for number, start in enumerate(starts)]
