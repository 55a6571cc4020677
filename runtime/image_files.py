"""Picture files through Pillow: whatever they hold becomes uint8 RGB, and what is lost on the way is said."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mlic.runtime.arrays import Array, UInt8Array
from mlic.runtime.atomic import atomic_file
from mlic.runtime.container import MAX_PIXELS
from mlic.runtime.errors import ImageError

# Suffix -> Pillow's format and options. Lossy formats at a quality that adds little to the codec's own loss.
_WRITERS: dict[str, tuple[str, dict[str, object]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
    ".webp": ("WEBP", {"lossless": True}),
    ".tif": ("TIFF", {"compression": "tiff_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_deflate"}),
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
}
WRITABLE_SUFFIXES = tuple(_WRITERS)

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_CONVERTIBLE = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


class ImageWarning(UserWarning):
    """A picture was read, but something in it was given up."""


@dataclass(frozen=True)
class Picture:
    """A picture as the codec takes it.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        icc_profile: of these RGB values, or None.
    """

    pixels: UInt8Array
    icc_profile: bytes | None = None


def read_image(source: str | os.PathLike[str] | BinaryIO, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file.

    Args:
        source: a path, or a binary file such as ``sys.stdin.buffer`` (read to its end if it cannot seek).
        max_pixels: refuse larger pictures before their pixels are decoded.

    Raises:
        ImageError: the file is missing, unreadable, cut, of no known format or of a pixel type without a
            meaning in 8 bits, or too large.

    Warns:
        ImageWarning: transparency, bits, frames or a profile were given up.
    """
    name = "the picture" if hasattr(source, "read") else os.fspath(source)
    try:
        with Image.open(_seekable(source)) as image:
            return picture_from_pil(image, max_pixels)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not a picture in a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name}: too many pixels; the limit is {max_pixels}, that of Pillow {Image.MAX_IMAGE_PIXELS}"
        ) from error
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or _one_line(error)}") from error


@contextmanager
def pillow_reads(max_pixels: int) -> Iterator[None]:
    """Let Pillow open pictures of this many pixels while the block runs, if its own limit is lower.

    The limit is Pillow's for the whole process: for commands, not for a part of somebody's application.
    """
    before = Image.MAX_IMAGE_PIXELS
    if before is not None:
        Image.MAX_IMAGE_PIXELS = max(before, max_pixels)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def picture_from_pil(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Picture:
    """Turn a Pillow image into RGB: upright, opaque, 8 bits.

    Grey becomes RGB; palettes are looked up; transparency is composited on white; 16 bits are rounded to 8
    (Pillow itself drops the lower bits of 16-bit colour pictures); CMYK is converted without its profile; of
    several frames the first is taken.

    Args:
        image: any Pillow image; not changed, though its pixels are loaded.
        max_pixels: refuse larger pictures before their pixels are decoded.

    Raises:
        ImageError: the picture is too large, empty, damaged, or of a pixel type without a meaning in 8 bits.

    Warns:
        ImageWarning: transparency, bits, frames or a profile were given up.
    """
    width, height = image.size
    if not 0 < width * height <= max_pixels:
        raise ImageError(f"{width} x {height} pixels; expected 1 to {max_pixels}")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: cameras' previews, not frames
        _warn("holds several frames; the first was taken")
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()) if image.mode.startswith(("RGB", "LA"))):
        _warn("16 bits a channel were reduced to 8")
    profile = image.info.get("icc_profile")
    try:
        image = ImageOps.exif_transpose(image)
        rgb = _rgb(image)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        raise ImageError(f"cannot be decoded: {_one_line(error)}") from error
    return Picture(np.array(rgb, dtype=np.uint8), _usable_profile(profile))


def write_image(
    destination: str | os.PathLike[str] | BinaryIO,
    pixels: UInt8Array,
    icc_profile: bytes | None = None,
    suffix: str | None = None,
) -> None:
    """Write a picture file, as a whole or not at all.

    Args:
        destination: a path, or a binary file such as ``sys.stdout.buffer``.
        pixels: uint8 [H, W, 3].
        icc_profile: stored in formats that can hold one.
        suffix: which format, such as ``.png``; default: the path's, and ``.png`` for a file object.

    Raises:
        ImageError: no format has this suffix, or the file cannot be written.
    """
    if hasattr(destination, "write"):
        name, path = "the picture", None
        suffix = suffix or ".png"
    else:
        name, path = os.fspath(destination), Path(destination)
        suffix = suffix or path.suffix
    require_writable(name, suffix)
    pillow_format, options = _WRITERS[suffix.lower()]
    if icc_profile:
        options = {**options, "icc_profile": icc_profile}
    image = Image.fromarray(pixels)
    try:
        if path is None:
            image.save(destination, format=pillow_format, **options)
        else:
            with atomic_file(path) as file:
                image.save(file, format=pillow_format, **options)
    except (OSError, ValueError) as error:  # ValueError: more pixels a side than the format can hold
        reason = getattr(error, "strerror", None) or _one_line(error)
        raise ImageError(f"{name}: {reason}") from error


def require_writable(name: str, suffix: str) -> None:
    """Raise ImageError if pictures of this suffix cannot be written.

    Args:
        name: of the file, for the error.
        suffix: such as ``.png``, in any case.
    """
    if suffix.lower() not in _WRITERS:
        raise ImageError(f"{name}: no format for suffix {suffix!r}; possible: {', '.join(WRITABLE_SUFFIXES)}")


def eight_bits_from_sixteen(values: Array) -> UInt8Array:
    """Return ``values / 257`` rounded to the nearest, so that 0 stays 0 and 65535 becomes 255.

    Args:
        values: integers in 0..65535, any shape.
    """
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError("32-bit pixels are not supported")
        _warn("16 bits a channel were reduced to 8")
        return Image.fromarray(eight_bits_from_sixteen(values)).convert("RGB")
    if image.mode not in _CONVERTIBLE:
        raise ImageError(f"pixels of mode {image.mode} are not supported")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        layers = image.convert("RGBA")
        if layers.getchannel("A").getextrema()[0] == 255:
            return layers.convert("RGB")
        _warn("transparency was composited on white")
        white = Image.new("RGBA", layers.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layers).convert("RGB")
    return image.convert("RGB")


def _usable_profile(profile: bytes | None) -> bytes | None:
    """Return a profile that describes RGB values; one of grey or CMYK would be wrong after the conversion."""
    if not profile:
        return None
    if profile[16:20] != b"RGB ":  # data colour space, ICC.1:2022 table 17
        _warn("its colour profile is not for RGB and was left out")
        return None
    return profile


def _seekable(source: str | os.PathLike[str] | BinaryIO) -> str | os.PathLike[str] | BinaryIO:
    if isinstance(source, (str, os.PathLike)) or source.seekable():
        return source
    return BytesIO(source.read())


def _warn(text: str) -> None:
    warnings.warn(f"the picture: {text}", ImageWarning, stacklevel=4)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
