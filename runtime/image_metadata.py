"""Metadata in Pillow's hands: what an image brings along, and how each format is told to hold it."""

from __future__ import annotations

import warnings
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mlic.runtime.errors import ImageWarning
from mlic.runtime.metadata import MAX_EXIF_BYTES, MAX_ICC_BYTES, MAX_XMP_BYTES, Metadata, Source

EXIF_PREFIX = b"Exif\0\0"  # Pillow has it in front wherever it hands EXIF out

_JPEG_SEGMENT_BYTES = 65533  # 16 bits count the bytes of a segment, themselves included
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_TAG = 0x02BC
_DIRECTORIES = {0x8769, 0x8825}  # EXIF, GPS
_INTEROPERABILITY = 0xA005
# What EXIF has in its first directory without saying how pixels are stored: titles, camera, resolution, times, authors,
# colours of the sensor, rating, Windows' XP fields. In TIFF, the directory of the picture itself holds these.
_DESCRIPTIVE = {0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C, 0x013E, 0x013F}
_DESCRIPTIVE |= {0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0)}


def exif_of_tiff(image: Image.Image) -> bytes | None:
    """Return EXIF made from a TIFF's tags, or None if it has none.

    Pillow turns a TIFF upright while it loads its pixels, so there is no orientation in it. It reads tags from the
    file, which it may close after loading.

    Args:
        image: whose pixels have not been loaded yet.

    Warns:
        ImageWarning: the tags are damaged and were left out.
    """
    try:
        found = _descriptive(image.getexif())
        return found.tobytes()[len(EXIF_PREFIX) :] if len(found) else None
    except Exception as error:  # Pillow raises many kinds for damaged tags
        warn(f"its EXIF is damaged and was left out: {error}")
        return None


def metadata_of(image: Image.Image, tiff_exif: bytes | None = None) -> Metadata:
    """Return what an image brings along; ``source`` is not looked at.

    Args:
        image: whose pixels have been loaded: PNG may have metadata after them.
        tiff_exif: what ``exif_of_tiff`` gave before.

    Warns:
        ImageWarning: a part is too large and was left out.
    """
    info = image.info
    exif = info.get("exif") or tiff_exif
    if not exif and "Raw profile type exif" in info:  # ImageMagick's way of old
        try:
            exif = bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:]))
        except ValueError as error:
            exif = None
            warn(f"its EXIF is damaged and was left out: {error}")
    xmp = info.get("xmp")
    return Metadata(
        _within(info.get("icc_profile"), MAX_ICC_BYTES, "colour profile"),
        _within(exif, MAX_EXIF_BYTES, "EXIF"),
        _within(xmp.encode() if isinstance(xmp, str) else xmp, MAX_XMP_BYTES, "XMP"),
    )


def info_from(metadata: Metadata) -> dict[str, Any]:
    """Return metadata as Pillow's readers put it into ``Image.info``."""
    found = {
        "icc_profile": metadata.icc_profile,
        "exif": EXIF_PREFIX + metadata.exif if metadata.exif else None,
        "xmp": metadata.xmp,
    }
    return {key: value for key, value in found.items() if value}


def usable_profile(profile: bytes | None, source: Source) -> bytes | None:
    """Return a colour profile if it describes the pixels that are stored: RGB, or grey if the picture is.

    One of other colours, such as CMYK, would be wrong after the conversion.

    Warns:
        ImageWarning: it does not.
    """
    if not profile:
        return None
    space = profile[16:20]  # data colour space, ICC.1:2022 table 17
    if space == b"RGB " or (space == b"GRAY" and Source.GREY in source):
        return profile
    warn("its colour profile is for other pixels and was left out")
    return None


def writer_options(pillow_format: str, metadata: Metadata, mode: str) -> dict[str, Any]:
    """Return the options with which a format's writer stores metadata, as far as the format can hold it.

    Args:
        pillow_format: as Pillow names it.
        metadata: to store.
        mode: of the pixels in the file, ``RGB`` or ``L``.

    Warns:
        ImageWarning: a part does not fit, though the format has a place for it.
    """
    if pillow_format not in _OPTIONS:
        return {}
    options: dict[str, Any] = {}
    if metadata.icc_profile:
        if (metadata.icc_profile[16:20] == b"GRAY") == (mode == "L"):
            options["icc_profile"] = metadata.icc_profile
        else:  # readers of PNG refuse it, others pass over it
            warn(f"its colour profile is not for pixels of mode {mode} and was left out")
    return options | _OPTIONS[pillow_format](metadata)


def _png_options(metadata: Metadata) -> dict[str, Any]:
    options: dict[str, Any] = {"exif": metadata.exif} if metadata.exif else {}
    if metadata.xmp:
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", metadata.xmp)
    return options


def _jpeg_options(metadata: Metadata) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if metadata.exif and _fits_jpeg(EXIF_PREFIX + metadata.exif, "EXIF"):
        options["exif"] = EXIF_PREFIX + metadata.exif
    if metadata.xmp and _fits_jpeg(_JPEG_XMP + metadata.xmp, "XMP"):
        options["xmp"] = metadata.xmp
    return options


def _webp_options(metadata: Metadata) -> dict[str, Any]:
    found = {"exif": metadata.exif, "xmp": metadata.xmp}
    return {key: value for key, value in found.items() if value}


def _tiff_options(metadata: Metadata) -> dict[str, Any]:
    tags: dict[int, Any] = {}
    if metadata.exif:
        exif = Image.Exif()
        try:
            exif.load(EXIF_PREFIX + metadata.exif)
            found = _descriptive(exif)
            found.tobytes()  # would fail while the file is written
            tags = dict(found)
        except Exception as error:  # Pillow raises many kinds for damaged tags
            warn(f"its EXIF cannot be written to TIFF and was left out: {error}")
    # libtiff, which compresses, cannot write EXIF's directories within directories.
    options: dict[str, Any] = {"compression": "raw"} if tags else {}
    if metadata.xmp:
        tags[_XMP_TAG] = metadata.xmp
    return options | ({"tiffinfo": tags} if tags else {})


def _descriptive(tags: Image.Exif) -> Image.Exif:
    """Return the tags that say nothing about how pixels are stored, with the directories among them."""
    found = Image.Exif()
    for tag in _DESCRIPTIVE.intersection(tags):
        found[tag] = tags[tag]
    for tag in _DIRECTORIES.intersection(tags):
        directory = dict(tags.get_ifd(tag))
        directory.pop(_INTEROPERABILITY, None)  # a place in the file, of a directory that names DCF's version
        if directory:
            found[tag] = directory
    return found


_OPTIONS = {"PNG": _png_options, "JPEG": _jpeg_options, "WEBP": _webp_options, "TIFF": _tiff_options}


def _fits_jpeg(segment: bytes, what: str) -> bool:
    if len(segment) > _JPEG_SEGMENT_BYTES:
        warn(f"its {what} of {len(segment)} bytes does not fit into JPEG, which takes {_JPEG_SEGMENT_BYTES}; left out")
    return len(segment) <= _JPEG_SEGMENT_BYTES


def _within(contents: object, limit: int, what: str) -> bytes | None:
    if not contents or not isinstance(contents, bytes):  # in TIFF files it may be a number
        return None
    if len(contents) > limit:
        warn(f"its {what} of {len(contents)} bytes was left out; the limit is {limit}")
        return None
    return contents


def warn(text: str) -> None:
    """Say what was given up of a picture."""
    warnings.warn(f"the picture: {text}", ImageWarning, stacklevel=4)
