"""The picture grid: a picture too large for one latent, cut into cells that are pictures of their own.

Contents of the chunk ``GRID``, all numbers little-endian:

    offset  size  field
    0       4     cell width in pixels, a multiple of 64
    4       4     cell height in pixels, a multiple of 64
    8       ...   for each cell, from left to right and from top to bottom: uint32 length, a whole .mlic file

Cells are no larger than the picture, rounded up to a multiple of 64. Those at the right and at the lower edge are as
much smaller as the picture asks for. There are two at least. Each has
its own header, with the picture's model_id and arithmetic and its own width and height, its own chunks ``LATS``,
``ESCP`` and ``SYND`` (``CHCK`` where the arithmetic is integer) and no others, and its own checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlic.runtime.errors import BitstreamError, CorruptStreamError, UnsupportedStreamError
from mlic.runtime.tiles import Box

if TYPE_CHECKING:
    from mlic.runtime.container import Bitstream, Header

CELL_MULTIPLE = 64  # pixels; part of the format: a position of z

_CELL_SIZE = struct.Struct("<II")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Grid:
    """Contents of the chunk ``GRID``.

    Attributes:
        cell_width: in pixels, of all cells but those at the right edge.
        cell_height: in pixels, of all cells but those at the lower edge.
        cells: from left to right and from top to bottom.
    """

    cell_width: int
    cell_height: int
    cells: tuple[Bitstream, ...]


def cell_boxes(height: int, width: int, cell_height: int, cell_width: int) -> Iterator[Box]:
    """Yield where each cell lies in its picture, from left to right and from top to bottom."""
    for top in range(0, height, cell_height):
        for left in range(0, width, cell_width):
            yield Box(top, left, min(cell_height, height - top), min(cell_width, width - left))


def cell_size(height: int, width: int, multiple: int, latent_pixels: int) -> tuple[int, int]:
    """Return height and width of cells for a picture: the fewest, then those with the shortest seams.

    Args:
        height: of the picture.
        width: of the picture.
        multiple: of both sides of a cell.
        latent_pixels: what a cell may have, ``multiple`` squared or more.
    """
    assert latent_pixels >= multiple * multiple
    best: tuple[tuple[int, int], tuple[int, int]] | None = None
    for columns in range(1, -(-width // multiple) + 1):
        cell_width = _side(width, columns, multiple)
        tallest = latent_pixels // (cell_width * multiple) * multiple
        if not tallest:
            continue
        rows = -(-height // tallest)
        across = -(-width // cell_width)
        cost = rows * across, (across - 1) * height + (rows - 1) * width
        if best is None or cost < best[0]:
            best = cost, (_side(height, rows, multiple), cell_width)
    assert best is not None
    # A side that is not cut need not be more than the format asks for.
    return min(best[1][0], _side(height, 1, CELL_MULTIPLE)), min(best[1][1], _side(width, 1, CELL_MULTIPLE))


def grid_bytes(grid: Grid, write: Callable[[Bitstream], bytes]) -> bytes:
    """Return the contents of the chunk.

    Args:
        grid: what to write.
        write: returns a cell's file.
    """
    parts = [_CELL_SIZE.pack(grid.cell_width, grid.cell_height)]
    for cell in grid.cells:
        data = write(cell)
        parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


def read_grid(contents: bytes, header: Header, read: Callable[[bytes], Bitstream]) -> Grid:
    """Take the chunk apart.

    Args:
        contents: of the chunk.
        header: of the file around it.
        read: takes a cell's file apart.

    Raises:
        CorruptStreamError: number or lengths of cells are wrong, or one does not belong there or is damaged.
        UnsupportedStreamError: a cell is of a newer version, has an unknown critical chunk, or is too large.
    """
    if len(contents) < _CELL_SIZE.size:
        raise CorruptStreamError(f"GRID has {len(contents)} bytes; expected {_CELL_SIZE.size} and cells")
    cell_width, cell_height = _CELL_SIZE.unpack_from(contents)
    for side, value, length in (("width", cell_width, header.width), ("height", cell_height, header.height)):
        largest = _side(length, 1, CELL_MULTIPLE)
        if value % CELL_MULTIPLE or not 0 < value <= largest:
            raise CorruptStreamError(
                f"GRID has cells of {side} {value}; expected a multiple of {CELL_MULTIPLE} up to {largest}"
            )
    count = -(-header.width // cell_width) * -(-header.height // cell_height)
    if count < 2:
        raise CorruptStreamError(
            f"GRID has cells of {cell_width} x {cell_height} for {header.width} x {header.height} pixels; "
            "expected two or more"
        )
    cells, position = [], _CELL_SIZE.size
    for number, box in enumerate(cell_boxes(header.height, header.width, cell_height, cell_width)):
        name, start = f"cell {number + 1} of {count}", position + _LENGTH.size
        if start > len(contents):
            raise CorruptStreamError(f"GRID ends before {name}")
        (length,) = _LENGTH.unpack_from(contents, position)
        position = start + length
        if position > len(contents):
            raise CorruptStreamError(f"{name} needs {length} bytes; GRID has {len(contents) - start} left")
        cell = _read_cell(contents[start:position], name, read)
        expected = (header.model_id, header.arithmetic, box.width, box.height)
        if (cell.model_id, cell.arithmetic, cell.width, cell.height) != expected:
            raise CorruptStreamError(
                f"{name} is of model {cell.model_id.hex()}, {cell.arithmetic}, {cell.width} x {cell.height} pixels; "
                f"expected {expected[0].hex()}, {expected[1]}, {box.width} x {box.height}"
            )
        cells.append(cell)
    if position != len(contents):
        raise CorruptStreamError(f"{len(contents) - position} bytes follow the last cell of GRID")
    return Grid(cell_width, cell_height, tuple(cells))


def _read_cell(data: bytes, name: str, read: Callable[[bytes], Bitstream]) -> Bitstream:
    try:
        return read(data)
    except UnsupportedStreamError as error:
        raise UnsupportedStreamError(f"{name}: {error}") from error
    except BitstreamError as error:  # the file is whole, so a cell that ends early is damage, too
        raise CorruptStreamError(f"{name}: {error}") from error


def _side(length: int, count: int, multiple: int) -> int:
    """Return the side of ``count`` cells that are as equal as a multiple allows."""
    return -(-length // (count * multiple)) * multiple
