"""``g_a`` and ``g_s`` over the tiles of a picture: memory follows the tile, not the picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlic.runtime.arrays import Array, Float32Array, UInt8Array
from mlic.runtime.backends.base import Graph
from mlic.runtime.image import Frame, pixels_in_box, x_from_pixels
from mlic.runtime.manifest import Manifest
from mlic.runtime.tiles import Box, Tile, tile_grid
from mlic.runtime.wiring import LATENT_STRIDE

# Measured in docs/performance.md, "Tiles".
TILE_PIXELS = 5 << 18

Progress = Callable[[str], None]


class Transforms:
    """The two transforms of a model.

    Args:
        manifest: of the bundle.
        g_a: opened or not.
        g_s: opened or not.
        tile_pixels: what one run of a graph may compute, halos included.

    Attributes:
        tile_pixels: as given.
    """

    def __init__(self, manifest: Manifest, g_a: Graph, g_s: Graph, tile_pixels: int) -> None:
        self.tile_pixels = tile_pixels
        self._padding = manifest.padding
        self._tilings = {name: manifest.graphs[name].tiling for name in ("g_a", "g_s")}
        self._largest = manifest.sizes.padded(manifest.padding.multiple).max  # what built engines take
        self._g_a = g_a
        self._g_s = g_s

    def num_analysis_tiles(self, frame: Frame) -> int:
        """Return how often ``analyse`` runs its graph."""
        return len(self._tiles("g_a", frame))

    def num_synthesis_tiles(self, frame: Frame, region: Box) -> int:
        """Return how often ``synthesise`` runs its graph; see there."""
        return sum(1 for _ in self._tiles_in("g_s", frame, region))

    def analyse(self, pixels: UInt8Array, frame: Frame, progress: Progress) -> Float32Array:
        """Return the latent of a picture.

        Args:
            pixels: uint8 [H, W, 3].
            frame: made from H and W.
            progress: called with ``image`` and ``g_a`` for each tile.

        Returns:
            float32 [1, M, padded height / 16, padded width / 16]; on a device, if that is where one run left it.

        Raises:
            BackendError: the graph failed.
        """
        tiles = self._tiles("g_a", frame)
        y: Float32Array | None = None
        for tile in tiles:
            progress("image")
            x = x_from_pixels(pixels, frame, self._padding, tile.computed)
            progress("g_a")
            part = self._g_a.run({"x": x})["y"]
            if len(tiles) == 1:
                return part
            part = np.asarray(part)
            if y is None:
                shape = (1, part.shape[1], frame.padded_height // LATENT_STRIDE, frame.padded_width // LATENT_STRIDE)
                y = np.empty(shape, part.dtype)
            kept, inside = tile.kept.divided(LATENT_STRIDE), _inside(tile).divided(LATENT_STRIDE)
            y[..., kept.rows, kept.columns] = part[..., inside.rows, inside.columns]
        assert y is not None
        return y

    def synthesise(self, y_hat: Float32Array, frame: Frame, region: Box, out: UInt8Array, progress: Progress) -> None:
        """Write a part of a picture, computing no tiles but those that it needs.

        The tiles are those of the whole picture, so that a part equals what the whole has there.

        Args:
            y_hat: float32 [1, M, padded height / 16, padded width / 16], may lie on a device.
            frame: of the picture.
            region: which part of the picture, in its own pixels.
            out: uint8 [region height, region width, 3].
            progress: called with ``g_s`` and ``image`` for each tile.

        Raises:
            BackendError: the graph failed or gave NaN.
        """
        latent: Array = y_hat
        for tile, wanted in self._tiles_in("g_s", frame, region):
            progress("g_s")
            if tile.computed != Box(0, 0, frame.padded_height, frame.padded_width):
                latent = np.asarray(latent)  # one copy from a device, kept by the array
                box = tile.computed.divided(LATENT_STRIDE)
                part = latent[..., box.rows, box.columns]
            else:
                part = latent
            x_hat = np.asarray(self._g_s.run({"y_hat": part})["x_hat"])
            progress("image")
            place = wanted.moved(-frame.top - region.top, -frame.left - region.left)
            source = wanted.moved(-tile.computed.top, -tile.computed.left)
            out[place.rows, place.columns] = pixels_in_box(x_hat, source)

    def _tiles(self, graph: str, frame: Frame) -> list[Tile]:
        return tile_grid(frame.padded_height, frame.padded_width, self._tilings[graph], self.tile_pixels, self._largest)

    def _tiles_in(self, graph: str, frame: Frame, region: Box) -> list[tuple[Tile, Box]]:
        """Return the tiles that a region of the picture needs, and the part of each, in the padded picture."""
        padded = region.moved(frame.top, frame.left)
        found = [(tile, tile.kept.common(padded)) for tile in self._tiles(graph, frame)]
        return [(tile, wanted) for tile, wanted in found if wanted is not None]


def _inside(tile: Tile) -> Box:
    """Return what a tile keeps, in what it computed."""
    return tile.kept.moved(-tile.computed.top, -tile.computed.left)
