"""Pictures to the contents of a file and back: transforms, chain, and cells where one latent would be too large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mlic.runtime.arrays import Float32Array, UInt8Array
from mlic.runtime.backends.base import Backend, Graph
from mlic.runtime.bundle import Bundle
from mlic.runtime.chain import Chain, DecodedLatent, Progress, silent
from mlic.runtime.container import Bitstream
from mlic.runtime.errors import ShapeError, UnsupportedStreamError
from mlic.runtime.grid import Grid, cell_boxes, cell_size
from mlic.runtime.image import Frame, grey_from_pixels
from mlic.runtime.tiles import Box
from mlic.runtime.transforms import Transforms

Region = tuple[int, int, int, int]  # x, y, width, height in pixels


class Analysed(NamedTuple):
    """A picture on its way to a file.

    Attributes:
        y: float32 [1, M, h, w].
        z_symbols: float32 [1, N, h/4, w/4], as the graph gives them.
    """

    y: Float32Array
    z_symbols: Float32Array


class Pipeline:
    """The graphs of a model in the order in which pictures pass through them.

    Args:
        bundle: the model.
        backend: the engine of the entropy path.
        graphs: of the bundle, on their engines.
        tile_pixels: what one run of a transform may compute.
        latent_pixels: larger pictures are cut into cells.

    Attributes:
        chain: the entropy path.
        latent_pixels: as given.

    Raises:
        ShapeError: ``tile_pixels`` or ``latent_pixels`` is too small for any picture.
    """

    def __init__(
        self, bundle: Bundle, backend: Backend, graphs: Mapping[str, Graph], tile_pixels: int, latent_pixels: int
    ) -> None:
        self._manifest = bundle.manifest
        least = self._manifest.padding.multiple**2
        for name, value in (("tile_pixels", tile_pixels), ("latent_pixels", latent_pixels)):
            if value < least:
                raise ShapeError(f"{name} is {value}; expected {least} or more")
        self.latent_pixels = latent_pixels
        self.chain = Chain(bundle, backend, graphs)
        self._transforms = Transforms(bundle.manifest, graphs["g_a"], graphs["g_s"], tile_pixels)
        self._h_a = graphs["h_a"]

    def is_one_latent(self, pixels: UInt8Array) -> bool:
        """Tell whether a picture (uint8 [H, W, 3]) is coded without a grid."""
        height, width = pixels.shape[:2]
        return bool(height * width <= self.latent_pixels)

    def num_encode_stages(self, height: int, width: int) -> int:
        """Return how often ``encode`` reports progress for a picture of this size, in pixels."""
        frames = [self._frame(box.height, box.width) for box in self._layout(height, width)[1]]
        tiles = sum(self._transforms.num_analysis_tiles(frame) for frame in frames)
        return 2 * tiles + len(frames) * (self.chain.num_stages + 1)

    def num_decode_stages(self, stream: Bitstream, region: Region | None) -> int:
        """Return how often ``decode`` reports progress for a file, if no index has to be corrected."""
        count = 0
        for cell, _, inside in _cells_in(stream, region_box(stream, region)):
            tiles = self._transforms.num_synthesis_tiles(self._frame(cell.height, cell.width), inside)
            count += self.chain.num_stages + 2 * tiles
        return count

    def analyse(self, pixels: UInt8Array, progress: Progress = silent) -> Analysed:
        """Return the latents of a picture, uint8 [H, W, 3].

        Raises:
            BackendError: a graph failed.
        """
        y = self._transforms.analyse(pixels, self._frame(pixels.shape[0], pixels.shape[1]), progress)
        progress("h_a")
        z_symbols = self._h_a.run({"y": y})["z_symbols"]
        return Analysed(np.asarray(y), np.asarray(z_symbols))  # an engine on a device leaves them there until now

    def encode(self, pixels: UInt8Array, progress: Progress = silent, analysed: Analysed | None = None) -> Bitstream:
        """Return what a picture's file holds.

        Args:
            pixels: uint8 [H, W, 3].
            progress: called with the name of each stage before it begins.
            analysed: of the picture, if that is known and it is one latent.

        Raises:
            EngineMismatchError: as ``Chain.encode``.
            BackendError: a graph failed or gave values that cannot be coded.
        """
        self.chain.proof.require()  # before the work, not after it
        manifest = self._manifest
        height, width = pixels.shape[:2]
        if self.is_one_latent(pixels):
            analysed = analysed or self.analyse(pixels, progress)
            substreams = self.chain.encode(analysed.y, analysed.z_symbols, progress)
            return Bitstream(manifest.model_id, width, height, manifest.arithmetic, *substreams)
        (cell_height, cell_width), boxes = self._layout(height, width)
        cells = tuple(self.encode(pixels[box.rows, box.columns], progress) for box in boxes)
        grid = Grid(cell_width, cell_height, cells)
        return Bitstream(manifest.model_id, width, height, manifest.arithmetic, b"", b"", b"", grid=grid)

    def decode_latent(self, stream: Bitstream, progress: Progress = silent) -> DecodedLatent:
        """Return the latent of a file that has one; see ``Chain.decode``.

        Raises:
            UnsupportedStreamError: it has a grid of several.
        """
        if stream.grid is not None:
            raise UnsupportedStreamError(
                f"the file holds {len(stream.grid.cells)} cells, each with a latent of its own; expected one latent"
            )
        return self.chain.decode(stream, progress)

    def decode(
        self,
        stream: Bitstream,
        region: Region | None = None,
        progress: Progress = silent,
        decoded: DecodedLatent | None = None,
    ) -> UInt8Array:
        """Return a picture or a part of it.

        Args:
            stream: the file.
            region: which part; None for all of it.
            progress: called with the name of each stage before it begins.
            decoded: the file's latent, if that is known and it has only one.

        Returns:
            uint8 [H, W, 3]; three equal planes if the picture was grey.

        Raises:
            ShapeError: the region does not lie in the picture.
            BitstreamError: the file is damaged or of another model.
            EngineMismatchError: as ``Chain.decode``.
            BackendError: a graph failed.
        """
        asked = region_box(stream, region)
        self.chain.check(stream)
        out = np.empty((asked.height, asked.width, 3), np.uint8)
        for cell, box, inside in _cells_in(stream, asked):
            latent = decoded or self.chain.decode(cell, progress)
            place = inside.moved(box.top - asked.top, box.left - asked.left)
            target = out[place.rows, place.columns]
            self._transforms.synthesise(latent.y_hat, latent.frame, inside, target, progress)
        return grey_from_pixels(out) if stream.metadata.is_grey else out

    def _frame(self, height: int, width: int) -> Frame:
        return Frame.around(height, width, self._manifest.padding)

    def _layout(self, height: int, width: int) -> tuple[tuple[int, int], list[Box]]:
        """Return height and width of cells, and where they lie."""
        size = (height, width)
        if height * width > self.latent_pixels:
            size = cell_size(height, width, self._manifest.padding.multiple, self.latent_pixels)
        return size, list(cell_boxes(height, width, *size))


def region_box(stream: Bitstream, region: Region | None) -> Box:
    """Return a region of a file's picture as a box; the whole picture for None.

    Args:
        stream: the file.
        region: x, y, width and height in pixels.

    Raises:
        ShapeError: it is empty, or not inside the picture.
    """
    if region is None:
        return Box(0, 0, stream.height, stream.width)
    x, y, width, height = region
    if min(x, y) < 0 or min(width, height) < 1 or x + width > stream.width or y + height > stream.height:
        raise ShapeError(
            f"region of {width} x {height} pixels at x {x}, y {y}; "
            f"expected a part of the picture's {stream.width} x {stream.height} pixels"
        )
    return Box(y, x, height, width)


def _cells_in(stream: Bitstream, asked: Box) -> list[tuple[Bitstream, Box, Box]]:
    """Return the cells that a region needs: each, where it lies in the picture, and which part of it is asked for."""
    cells = [stream] if stream.grid is None else stream.grid.cells
    size = (stream.height, stream.width)
    if stream.grid is not None:
        size = (stream.grid.cell_height, stream.grid.cell_width)
    found = []
    for cell, box in zip(cells, cell_boxes(stream.height, stream.width, *size), strict=True):
        if (wanted := box.common(asked)) is not None:
            found.append((cell, box, wanted.moved(-box.top, -box.left)))
    return found
