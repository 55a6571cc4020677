"""Small valid picture files of every format that Pillow writes here, as seeds."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin


def picture_files() -> list[bytes]:
    """Return picture files of a few hundred bytes to a few kilobytes each; formats that Pillow lacks are left out."""
    rows, columns = np.mgrid[:24, :20]
    rgb = Image.fromarray(np.stack([rows * 9, columns * 11, rows * columns], axis=-1).astype(np.uint8))
    profile = b"\0" * 16 + b"RGB " + b"\0" * 108
    exif = Image.Exif()
    exif[274] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a comment " * 9, zip=True)
    text.add_itxt("Title", "a title", zip=True)
    grey16 = Image.fromarray((rows * 2000 + columns).astype(np.uint16))
    wanted: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "PNG", {"icc_profile": profile, "pnginfo": text, "exif": exif}),
        (rgb.convert("P"), "PNG", {"transparency": 0}),
        (rgb.convert("LA"), "PNG", {}),
        (grey16, "PNG", {}),
        (rgb, "PNG", _two_frames(rgb)),
        (rgb, "JPEG", {"icc_profile": profile, "exif": exif, "progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "MPO", _two_frames(rgb)),
        (rgb, "GIF", _two_frames(rgb)),
        (rgb, "WEBP", {"icc_profile": profile, "exif": exif}),
        (rgb.convert("RGBA"), "WEBP", {**_two_frames(rgb), "lossless": True}),
        (rgb, "AVIF", {}),
        (rgb, "JPEG2000", {}),
        (rgb, "BMP", {}),
        (rgb.convert("1"), "BMP", {}),
        (rgb, "DIB", {}),
        (rgb, "PPM", {}),
        (grey16, "PPM", {}),
        (rgb, "TGA", {"compression": "tga_rle"}),
        (rgb, "PCX", {}),
        (rgb, "SGI", {}),
        (rgb, "ICO", {}),
        (rgb, "ICNS", {}),
        (rgb, "QOI", {}),
        (rgb, "DDS", {}),
        (rgb, "IM", {}),
        (rgb, "EPS", {}),
        (rgb.convert("1"), "XBM", {}),
        *(
            (rgb, "TIFF", {"compression": method, "icc_profile": profile})
            for method in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg")
        ),
        (grey16, "TIFF", {}),
        (rgb.convert("1"), "TIFF", {"compression": "group4"}),
        (rgb, "TIFF", _two_frames(rgb)),
    ]
    files = []
    for image, name, options in wanted:
        buffer = BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some formats are going to leave Pillow
            try:
                image.save(buffer, name, **options)
            except (KeyError, OSError, ValueError):  # this Pillow was built without it
                continue
        files.append(buffer.getvalue())
    return files


def _two_frames(image: Image.Image) -> dict[str, Any]:
    """Return options for a second frame; a new one each time, since writers leave their settings in it."""
    return {"save_all": True, "append_images": [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]}
