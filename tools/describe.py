"""What ``mlic-run info`` says about a file."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import Any

from PIL import ExifTags, Image

from mlic.runtime.arithmetic import FLOAT32_SYNDROME
from mlic.runtime.container import read
from mlic.runtime.metadata import Source
from mlic.runtime.shipped import shipped_with


def description(data: bytes, max_pixels: int) -> dict[str, Any]:
    """Return what a ``.mlic`` file says about itself, ready for JSON.

    Args:
        data: the whole file.
        max_pixels: refuse larger pictures.

    Returns:
        ``width``, ``height`` (pixels), ``model_id`` (hex), ``quality`` and ``bundle``, the folder that reads it (None
        unless the model is one that ships), ``arithmetic``, ``bytes`` of the file and of each part (metadata as they
        are uncompressed; checks of indexes as ``syndrome_bytes`` or, of integer files, ``check_bytes``), ``bpp``,
        ``icc_description``, ``camera`` and ``taken`` (EXIF; None where it does not say), ``grey``, and whether the
        source had transparency or more than 8 bits a channel. Of a picture in cells also ``cells``, their number,
        ``cell_width`` and ``cell_height``; the bytes of coded parts are those of all cells together.

    Raises:
        BitstreamError: the file cannot be read.
        BundleError: a model that ships is damaged.
    """
    stream = read(data, max_pixels)
    grid = stream.grid
    coded = [stream] if grid is None else grid.cells
    metadata = stream.metadata
    camera, taken = _camera_and_time(metadata.exif)
    shipped = shipped_with(stream.model_id)
    in_floats = stream.arithmetic == FLOAT32_SYNDROME.name
    row: dict[str, Any] = {
        "width": stream.width,
        "height": stream.height,
        "model_id": stream.model_id.hex(),
        "quality": shipped and shipped.quality,
        "bundle": shipped and shipped.folder.name,
        "arithmetic": stream.arithmetic,
        "bytes": len(data),
        "latent_bytes": sum(len(cell.latents) for cell in coded),
        "escape_bytes": sum(len(cell.escapes) for cell in coded),
        f"{'syndrome' if in_floats else 'check'}_bytes": sum(len(cell.checks) for cell in coded),
        "icc_bytes": len(metadata.icc_profile or b""),
        "icc_description": _profile_name(metadata.icc_profile),
        "exif_bytes": len(metadata.exif or b""),
        "camera": camera,
        "taken": taken,
        "xmp_bytes": len(metadata.xmp or b""),
        "grey": metadata.is_grey,
        "source_had_transparency": Source.TRANSPARENT in metadata.source,
        "source_had_more_than_8_bits": Source.DEEP in metadata.source,
        "bpp": round(8 * len(data) / (stream.width * stream.height), 4),
    }
    if grid is not None:
        row |= {"cells": len(grid.cells), "cell_width": grid.cell_width, "cell_height": grid.cell_height}
    return row


def value_text(value: object) -> str:
    """Return a value of a description as people read it."""
    if value is None:
        return "-"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _profile_name(profile: bytes | None) -> str | None:
    if profile is None:
        return None
    try:
        from PIL import ImageCms  # noqa: PLC0415 - Pillow may have been built without it

        return _printable(ImageCms.ImageCmsProfile(BytesIO(profile)).profile.profile_description)
    except (ImportError, OSError):
        return None


def _camera_and_time(exif: bytes | None) -> tuple[str | None, str | None]:
    if exif is None:
        return None, None
    tags = Image.Exif()
    try:
        with warnings.catch_warnings(action="ignore"):  # Pillow warns of each value that it skips
            tags.load(exif)
            inner = tags.get_ifd(ExifTags.IFD.Exif)
        maker, model = (_printable(tags.get(tag)) or "" for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
        taken = _printable(inner.get(ExifTags.Base.DateTimeOriginal)) or _printable(tags.get(ExifTags.Base.DateTime))
    except Exception:  # Pillow raises many kinds for damaged EXIF, of which there is nothing to say then
        return None, None
    camera = model if model.startswith(maker) else f"{maker} {model}"  # Canon writes "Canon EOS R5" as the model
    return camera.strip() or None, taken


def _printable(text: object) -> str | None:
    """Return text from a file without what could steer a terminal."""
    if not isinstance(text, str):
        return None
    return "".join(letter if letter.isprintable() else " " for letter in text).strip() or None
