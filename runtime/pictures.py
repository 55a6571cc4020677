"""What callers may pass as a picture: arrays and Pillow images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.container import MAX_SIDE
from mlic.runtime.errors import ShapeError
from mlic.runtime.image import check_pixels

if TYPE_CHECKING:
    from PIL.Image import Image


def pixels_from(image: UInt8Array | Image, max_pixels: int) -> tuple[UInt8Array, bytes | None]:
    """Return a picture's pixels and its colour profile, if it has one.

    Args:
        image: uint8 [H, W, 3], uint8 [H, W] for grey, or a Pillow image (turned upright, made opaque RGB).
        max_pixels: refuse larger ones.

    Returns:
        uint8 [H, W, 3]; the ICC profile.

    Raises:
        ShapeError: it is neither, has another dtype or shape, or is too large.
        ImageError: the Pillow image cannot be converted.
    """
    profile = None
    if not isinstance(image, np.ndarray):
        # Only now: an application that passes arrays needs no Pillow in memory.
        from PIL.Image import Image as PillowImage  # noqa: PLC0415

        from mlic.runtime.image_files import picture_from_pil  # noqa: PLC0415

        if not isinstance(image, PillowImage):
            raise ShapeError(f"picture is a {type(image).__name__}; expected an array or a Pillow image")
        picture = picture_from_pil(image, max_pixels)
        image, profile = picture.pixels, picture.icc_profile
    pixels = check_pixels(image)
    height, width = pixels.shape[:2]
    if height * width > max_pixels or max(height, width) > MAX_SIDE:
        raise ShapeError(
            f"picture has {width} x {height} pixels; the limits are {max_pixels} (max_pixels) and {MAX_SIDE} a side"
        )
    return pixels, profile
