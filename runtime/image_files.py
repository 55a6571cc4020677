"""Picture files through Pillow: whatever they hold becomes uint8 RGB, and what is lost on the way is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mlic.runtime.arrays import Array, UInt8Array
from mlic.runtime.atomic import atomic_file
from mlic.runtime.choices import MAX_PIXELS
from mlic.runtime.container import MAGIC
from mlic.runtime.errors import ImageError, ImageWarning, one_line
from mlic.runtime.image_metadata import exif_of_tiff, info_from, metadata_of, usable_profile, warn, writer_options
from mlic.runtime.metadata import NO_METADATA, Metadata, Source
from mlic.runtime.orientation import UPRIGHT, orientation_of, upright

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

# Largest file: no format takes more than 16 bytes a pixel, and metadata are small.
BYTES_A_PIXEL = 16
BYTES_BESIDE = 1 << 26
# Pillow hands these to other programs (EPS to Ghostscript) or to whatever an application registered; and icons hold
# pictures that may be larger than what they say, up to Pillow's own limit.
_NOT_READ = ("BUFR", "CUR", "EPS", "FPX", "GRIB", "HDF5", "ICNS", "ICO", "MIC", "WMF")

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_CONVERTIBLE = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_GREY = ("1", "L", "LA", "La", "I", *_SIXTEEN_BITS)
_RGB_ONLY = ("WEBP", "PPM")  # the one has no grey pixels, the other is called .pgm then
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A picture as the codec takes it.

    Attributes:
        pixels: uint8 [H, W, 3], RGB, upright; three equal planes if the picture is grey.
        metadata: what goes with it; its orientations are 1.
    """

    pixels: UInt8Array
    metadata: Metadata = NO_METADATA


def read_image(source: str | os.PathLike[str] | BinaryIO, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file.

    Args:
        source: a path, or a binary file such as ``sys.stdin.buffer`` (read to its end if it cannot seek).
        max_pixels: refuse larger pictures before their pixels are decoded.

    Raises:
        ImageError: the file is missing, unreadable, cut, of no known format or of a pixel type without a
            meaning in 8 bits, or too large.

    Warns:
        ImageWarning: transparency, bits, frames, a profile or damaged EXIF were given up.
    """
    name = "the picture" if hasattr(source, "read") else os.fspath(source)
    try:
        if _begins_with(source, MAGIC):  # which Pillow would read with our plug-in
            raise ImageError("is a .mlic file already; decode it first to encode it anew")
        with Image.open(_limited(source, BYTES_BESIDE + BYTES_A_PIXEL * max_pixels)) as image:
            return picture_from_pil(image, max_pixels)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not a picture in a known format; expected one that Pillow reads, such as PNG, JPEG, WebP or TIFF"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"{name}: too many pixels; the limit is {max_pixels}, that of Pillow {Image.MAX_IMAGE_PIXELS}"
        ) from error
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file makes them
        raise ImageError(f"{name}: cannot be read: {one_line(error)}") from error


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


def _begins_with(source: str | os.PathLike[str] | BinaryIO, magic: bytes) -> bool:
    """Say whether a file begins so; not asked of what can be read only once, such as pipes."""
    if isinstance(source, (str, os.PathLike)) and Path(source).is_file():
        with Path(source).open("rb") as file:
            return file.read(len(magic)) == magic
    return False


def picture_from_pil(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Picture:
    """Turn a Pillow image into RGB: upright, opaque, 8 bits.

    Grey becomes three equal planes; palettes are looked up; transparency is composited on white; 16 bits are rounded to
    8 (Pillow itself drops the lower bits of 16-bit colour pictures); CMYK is converted without its profile; of several
    frames the first is taken. EXIF and XMP are kept, with the orientation of a picture that is upright.

    Args:
        image: any Pillow image; not changed, though its pixels are loaded.
        max_pixels: refuse larger pictures before their pixels are decoded.

    Raises:
        ImageError: the picture is too large, empty, damaged, or of a pixel type without a meaning in 8 bits.

    Warns:
        ImageWarning: transparency, bits, frames, a profile or damaged EXIF were given up.
    """
    with _decoding():
        _require_readable(image, max_pixels)
        tiff_exif = exif_of_tiff(image) if hasattr(image, "tag_v2") else None
        turned = ExifTags.Base.Orientation in getattr(image, "tag_v2", ())  # Pillow does that while it loads a TIFF
        source = _loaded(image, max_pixels)
        return _picture(image, source, metadata_of(image, tiff_exif), turned)


def picture_with(image: Image.Image, metadata: Metadata, max_pixels: int = MAX_PIXELS) -> Picture:
    """Turn a Pillow image into RGB, as ``picture_from_pil``, but with other metadata than it brings along.

    Args:
        image: any Pillow image; not changed, though its pixels are loaded.
        metadata: to go with it; its orientation is the one by which the pixels are turned upright.
        max_pixels: refuse larger pictures.

    Raises:
        ImageError: as ``picture_from_pil``.

    Warns:
        ImageWarning: as ``picture_from_pil``.
    """
    with _decoding():
        _require_readable(image, max_pixels)
        return _picture(image, _loaded(image, max_pixels), metadata)


def image_from(pixels: UInt8Array, metadata: Metadata) -> Image.Image:
    """Return a decoded picture as Pillow's readers would.

    Args:
        pixels: uint8 [H, W, 3].
        metadata: of the file.

    Returns:
        An image of mode ``L`` if the picture is grey, else ``RGB``; ``icc_profile``, ``exif`` and ``xmp`` in its
        ``info``, where there are any.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]) if metadata.is_grey else pixels)
    image.info.update(**info_from(metadata))
    return image


def write_image(
    destination: str | os.PathLike[str] | BinaryIO,
    pixels: UInt8Array,
    metadata: Metadata = NO_METADATA,
    suffix: str | None = None,
) -> None:
    """Write a picture file, as a whole or not at all.

    A grey picture has one channel in formats that know such pixels, but three in ``.webp`` and ``.ppm``.

    Args:
        destination: a path, or a binary file such as ``sys.stdout.buffer``.
        pixels: uint8 [H, W, 3].
        metadata: stored in formats that can hold it; BMP and PPM cannot. TIFF gets its EXIF written anew, and is not
            compressed then.
        suffix: which format, such as ``.png``; default: the path's, and ``.png`` for a file object.

    Raises:
        ImageError: no format has this suffix, or the file cannot be written.

    Warns:
        ImageWarning: a part of the metadata does not fit, though the format has a place for it.
    """
    if hasattr(destination, "write"):
        name, path = "the picture", None
        suffix = suffix or ".png"
    else:
        name, path = os.fspath(destination), Path(destination)
        suffix = suffix or path.suffix
    require_writable(name, suffix)
    pillow_format, options = _WRITERS[suffix.lower()]
    image = image_from(pixels, metadata)
    if pillow_format in _RGB_ONLY:
        image = image.convert("RGB")
    image.info.clear()  # some writers look there too
    options = options | writer_options(pillow_format, metadata, image.mode)
    try:
        if path is None:
            image.save(destination, format=pillow_format, **options)
        else:
            with atomic_file(path) as file:
                image.save(file, format=pillow_format, **options)
    except (OSError, ValueError) as error:  # ValueError: more pixels a side than the format can hold
        reason = getattr(error, "strerror", None) or one_line(error)
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


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever Pillow's decoders raise (OSError, SyntaxError, struct.error and more) into ImageError."""
    try:
        yield
    except (ImageError, ImageWarning):
        raise
    except Exception as error:
        raise ImageError(f"cannot be decoded: {one_line(error)}") from error


def _require_readable(image: Image.Image, max_pixels: int) -> None:
    if image.format in _NOT_READ:
        raise ImageError(f"{image.format} files are not read")
    width, height = image.size
    if not 0 < width * height <= max_pixels:
        raise ImageError(f"{width} x {height} pixels; expected 1 to {max_pixels}")


def _loaded(image: Image.Image, max_pixels: int) -> Source:
    """Decode an image's pixels; return what can be said of them now, and what only its file says before."""
    source = Source.GREY if image.mode in _GREY else Source(0)
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: cameras' previews, not frames
        warn("holds several frames; the first was taken")
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()) if image.mode.startswith(("RGB", "LA"))):
        warn("16 bits a channel were reduced to 8")
        source |= Source.DEEP
    image.load()
    _require_readable(image, max_pixels)  # some are as large as what lies in them, whatever they said before
    return source


def _picture(image: Image.Image, source: Source, metadata: Metadata, turned: bool = False) -> Picture:
    """Convert a loaded image; ``turned`` says that it is upright already."""
    try:
        orientation = UPRIGHT if turned else orientation_of(metadata)
    except ValueError:  # ``upright`` warns of it
        orientation = orientation_of(replace(metadata, exif=None))
    rgb, lost = _rgb(image.transpose(_TURNS[orientation]) if orientation != UPRIGHT else image)
    source |= lost | metadata.source
    profile = usable_profile(metadata.icc_profile, source)
    return Picture(np.array(rgb, dtype=np.uint8), replace(upright(metadata), icc_profile=profile, source=source))


def _rgb(image: Image.Image) -> tuple[Image.Image, Source]:
    """Return an image in RGB, and what it lost thereby."""
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError("32-bit pixels are not supported")
        warn("16 bits a channel were reduced to 8")
        return Image.fromarray(eight_bits_from_sixteen(values)).convert("RGB"), Source.DEEP
    if image.mode not in _CONVERTIBLE:
        raise ImageError(f"pixels of mode {image.mode} are not supported")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        layers = image.convert("RGBA")
        if layers.getchannel("A").getextrema()[0] == 255:
            return layers.convert("RGB"), Source(0)
        warn("transparency was composited on white")
        white = Image.new("RGBA", layers.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layers).convert("RGB"), Source.TRANSPARENT
    return image.convert("RGB"), Source(0)


def _limited(source: str | os.PathLike[str] | BinaryIO, limit: int) -> str | os.PathLike[str] | BinaryIO:
    """Return what Pillow can read: a path or a file that can seek, of at most ``limit`` bytes."""
    if isinstance(source, (str, os.PathLike)):
        size = Path(source).stat().st_size
    elif source.seekable():
        place = source.tell()
        size = source.seek(0, os.SEEK_END) - place
        source.seek(place)
    else:
        data = source.read(limit + 1)
        source, size = BytesIO(data), len(data)
    if size > limit:
        raise ImageError(f"the file is larger than {limit} bytes, the limit for its number of pixels")
    return source
