"""What ``mlic-run info`` says about a file."""

from __future__ import annotations

from typing import Any

from mlic.runtime.container import read
from mlic.runtime.shipped import quality_of


def description(data: bytes, max_pixels: int) -> dict[str, Any]:
    """Return what a ``.mlic`` file says about itself, ready for JSON.

    Args:
        data: the whole file.
        max_pixels: refuse larger pictures.

    Returns:
        ``width``, ``height`` (pixels), ``model_id`` (hex), ``quality`` (None unless the model is one that ships),
        ``arithmetic``, ``bytes`` of the file and of each part, ``bpp``. Of a picture in cells also ``cells``, their
        number, ``cell_width`` and ``cell_height``; the bytes of parts are those of all cells together.

    Raises:
        BitstreamError: the file cannot be read.
        BundleError: a model that ships is damaged.
    """
    stream = read(data, max_pixels)
    grid = stream.grid
    coded = [stream] if grid is None else grid.cells
    row = {
        "width": stream.width,
        "height": stream.height,
        "model_id": stream.model_id.hex(),
        "quality": quality_of(stream.model_id),
        "arithmetic": stream.arithmetic,
        "bytes": len(data),
        "latent_bytes": sum(len(cell.latents) for cell in coded),
        "escape_bytes": sum(len(cell.escapes) for cell in coded),
        "syndrome_bytes": sum(len(cell.syndromes) for cell in coded),
        "icc_bytes": len(stream.icc_profile or b""),
        "bpp": round(8 * len(data) / (stream.width * stream.height), 4),
    }
    if grid is not None:
        row |= {"cells": len(grid.cells), "cell_width": grid.cell_width, "cell_height": grid.cell_height}
    return row
