"""Which way up a picture is, by its EXIF and XMP, and both of them once it has been turned upright.

Only the bytes of the orientation change: cameras' maker notes point to places by their distance from the beginning, and
would not survive EXIF being written anew. The EXIF thumbnail of a picture that was turned is not turned with it, so it
is taken out: its link is cut and its bytes become zeros, which take no room in a file.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from mlic.runtime.errors import ImageWarning
from mlic.runtime.metadata import Metadata

UPRIGHT = 1  # the others, 2 to 8, are in EXIF's table 4.6.4, "Orientation"

_PREFIX = b"Exif\0\0"  # of a JPEG segment; other containers have none, and some writers put it there all the same
_ORIENTATION, _THUMBNAIL, _THUMBNAIL_BYTES = 0x0112, 0x0201, 0x0202
_FORMATS = {1: "B", 3: "H", 4: "I"}  # TIFF's types BYTE, SHORT, LONG
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([0-9]+)")


class _Entry(NamedTuple):
    """A number in a directory: its tag, its value, where it lies, and how ``struct`` writes it."""

    tag: int
    value: int
    position: int
    format: str


def orientation_of(metadata: Metadata) -> int:
    """Return the orientation, 1 to 8: that of EXIF, or that of XMP where EXIF has none, or 1.

    Raises:
        ValueError: the EXIF is damaged.
    """
    found = None
    if metadata.exif is not None:
        _, entries, _ = _first_directory(_without_prefix(metadata.exif))
        found = next((entry.value for entry in entries if entry.tag == _ORIENTATION), None)
    if found is None and metadata.xmp is not None and (match := _XMP_ORIENTATION.search(metadata.xmp)):
        found = int(match[2][:2])  # two digits tell that it is not one of 1 to 8
    return found if found is not None and 1 <= found <= 8 else UPRIGHT


def upright(metadata: Metadata) -> Metadata:
    """Return the metadata of a picture that has been turned upright.

    Orientations become 1, a thumbnail that lies another way is taken out, and EXIF begins with its TIFF header. All
    else stays as it was, byte for byte.

    Warns:
        ImageWarning: the EXIF is damaged and was left out.
    """
    exif, xmp = metadata.exif, metadata.xmp
    if exif is not None:
        try:
            exif = _upright_exif(_without_prefix(exif), orientation_of(metadata))
        except ValueError as error:
            warnings.warn(f"the picture: its EXIF is damaged and was left out: {error}", ImageWarning, stacklevel=3)
            exif = None
    if xmp is not None:
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    return replace(metadata, exif=exif, xmp=xmp)


def _upright_exif(exif: bytes, orientation: int) -> bytes:
    order, entries, end = _first_directory(exif)
    turned = bytearray(exif)
    for entry in entries:
        if entry.tag == _ORIENTATION:
            struct.pack_into(order + entry.format, turned, entry.position, UPRIGHT)
    if orientation != UPRIGHT and end + 4 <= len(exif):
        (link,) = struct.unpack_from(order + "I", exif, end)
        struct.pack_into(order + "I", turned, end, 0)
        found = {entry.tag: entry.value for entry in _entries(exif, order, link)} if link else {}
        start, size = found.get(_THUMBNAIL, 0), found.get(_THUMBNAIL_BYTES, 0)
        # A damaged link must not wipe something else.
        if start >= end + 4 and start + size <= len(exif) and exif[start : start + 2] == b"\xff\xd8":
            turned[start : start + size] = bytes(size)
    return bytes(turned)


def _without_prefix(exif: bytes) -> bytes:
    while exif.startswith(_PREFIX):
        exif = exif[len(_PREFIX) :]
    return exif


def _first_directory(exif: bytes) -> tuple[str, list[_Entry], int]:
    """Return byte order, single numbers and end of EXIF's first directory.

    Raises:
        ValueError: it has none.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        raise ValueError(f"it begins with {exif[:4]!r}; expected II*, 0 or MM, 0, *")
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if not 8 <= start <= len(exif) - 2:
        raise ValueError(f"its directory lies at byte {start} of {len(exif)}")
    (count,) = struct.unpack_from(order + "H", exif, start)
    end = start + 2 + 12 * count
    if end > len(exif):
        raise ValueError(f"its directory of {count} entries ends at byte {end} of {len(exif)}")
    return order, list(_entries(exif, order, start)), end


def _entries(exif: bytes, order: str, start: int) -> Iterator[_Entry]:
    """Yield the single numbers of a directory, as far as it is there."""
    if start + 2 > len(exif):
        return
    (count,) = struct.unpack_from(order + "H", exif, start)
    for position in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind, number = struct.unpack_from(order + "HHI", exif, position)
        if number == 1 and kind in _FORMATS:
            (value,) = struct.unpack_from(order + _FORMATS[kind], exif, position + 8)
            yield _Entry(tag, value, position + 8, _FORMATS[kind])
