"""What callers may pass as a picture: arrays and Pillow images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.container import MAX_SIDE
from mlic.runtime.errors import ShapeError
from mlic.runtime.image import check_pixels
from mlic.runtime.metadata import Metadata, Source
from mlic.runtime.orientation import upright

if TYPE_CHECKING:
    from PIL.Image import Image


def pixels_from(
    image: UInt8Array | Image, max_pixels: int, metadata: Metadata | None = None
) -> tuple[UInt8Array, Metadata]:
    """Return a picture's pixels and what goes with them.

    Args:
        image: uint8 [H, W, 3], uint8 [H, W] for grey, or a Pillow image (turned upright, made opaque RGB).
        max_pixels: refuse larger ones.
        metadata: to go with it; default: what a Pillow image brings along. What the source was is added.

    Returns:
        uint8 [H, W, 3]; metadata of an upright picture.

    Raises:
        ShapeError: it is neither, has another dtype or shape, or is too large.
        ImageError: the Pillow image cannot be converted.

    Warns:
        ImageWarning: something of a Pillow image, or damaged EXIF, was given up.
    """
    if isinstance(image, np.ndarray):
        own = Metadata(source=Source.GREY if image.ndim == 2 else Source(0))
    else:
        # Only now: an application that passes arrays needs no Pillow in memory.
        from PIL.Image import Image as PillowImage  # noqa: PLC0415

        from mlic.runtime.image_files import picture_from_pil  # noqa: PLC0415

        if not isinstance(image, PillowImage):
            raise ShapeError(f"picture is a {type(image).__name__}; expected an array or a Pillow image")
        picture = picture_from_pil(image, max_pixels)
        image, own = picture.pixels, picture.metadata
    pixels = check_pixels(image)
    height, width = pixels.shape[:2]
    if height * width > max_pixels or max(height, width) > MAX_SIDE:
        raise ShapeError(
            f"picture has {width} x {height} pixels; the limits are {max_pixels} (max_pixels) and {MAX_SIDE} a side"
        )
    return pixels, own if metadata is None else replace(upright(metadata), source=metadata.source | own.source)
