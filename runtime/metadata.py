"""What a file says about its picture beside the pixels: colour profile, EXIF, XMP, and what the source had.

iccp    zlib-compressed ICC profile
exif    zlib-compressed EXIF, from its TIFF header on, without "Exif", 0, 0
xmpd    zlib-compressed XMP packet
orig    uint8, what the source had: bit 0 grey alone, bit 1 transparency (composited on white), bit 2 more than 8
        bits a channel; writers leave the others zero and readers ignore them; no such chunk where all are zero
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlic.runtime.errors import CorruptStreamError, ImageError

MAX_ICC_BYTES = 1 << 24  # the largest profiles in use, of CMYK printers, have 3 MB
MAX_EXIF_BYTES = 1 << 24  # a JPEG holds 64 KiB; raw converters put a few MB into PNG and TIFF
MAX_XMP_BYTES = 1 << 24  # packets with brush strokes and depth maps have some MB
CHUNKS = (b"iccp", b"exif", b"xmpd", b"orig")  # in the order of the file


class Source(enum.IntFlag):
    """What the picture was before it was encoded; the values are those of the file.

    ``GREY``: it had no colour, and is given back so. ``TRANSPARENT``: it had transparency, which was composited on
    white. ``DEEP``: it had more than 8 bits a channel.
    """

    GREY = 1
    TRANSPARENT = 2
    DEEP = 4


_KNOWN = Source.GREY | Source.TRANSPARENT | Source.DEEP
_NOTHING_SPECIAL = Source(0)


@dataclass(frozen=True)
class Metadata:
    """What goes with a picture.

    Attributes:
        icc_profile: of the RGB values, or of grey ones if ``source`` says so; None if there is none.
        exif: from its TIFF header (``II*`` or ``MM``) on, or None.
        xmp: a packet in UTF-8, or None.
        source: what the picture was before it was encoded.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    source: Source = _NOTHING_SPECIAL

    @property
    def is_grey(self) -> bool:
        """Whether the picture has no colour."""
        return Source.GREY in self.source

    def stripped(self) -> Metadata:
        """Return what is needed to show the picture as it was: the same without EXIF and XMP."""
        return replace(self, exif=None, xmp=None)


NO_METADATA = Metadata()


def check_metadata(metadata: Metadata) -> None:
    """Check that metadata can be written.

    Raises:
        ImageError: the profile, EXIF or XMP is empty or larger than its limit.
    """
    for contents, limit, what in (
        (metadata.icc_profile, MAX_ICC_BYTES, "ICC profile"),
        (metadata.exif, MAX_EXIF_BYTES, "EXIF"),
        (metadata.xmp, MAX_XMP_BYTES, "XMP"),
    ):
        if contents is not None and not 1 <= len(contents) <= limit:
            raise ImageError(f"{what} of {len(contents)} bytes; expected 1 to {limit}")


def chunks_from_metadata(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Return name and contents of each chunk, in the order of the file.

    Raises:
        ImageError: the profile, EXIF or XMP is empty or larger than its limit.
    """
    check_metadata(metadata)
    parts = ((b"iccp", metadata.icc_profile), (b"exif", metadata.exif), (b"xmpd", metadata.xmp))
    chunks = [(name, zlib.compress(contents, 9)) for name, contents in parts if contents is not None]
    if source := metadata.source & _KNOWN:
        chunks.append((b"orig", bytes([source])))
    return chunks


def metadata_from_chunks(contents: Mapping[bytes, bytes]) -> Metadata:
    """Return what the chunks of a file hold.

    Args:
        contents: by name; other chunks may be among them.

    Raises:
        CorruptStreamError: a chunk cannot be decompressed, is cut, empty or followed by other data, or holds more than
            its limit.
    """
    return Metadata(
        _decompressed(contents, b"iccp", MAX_ICC_BYTES, "ICC profile"),
        _decompressed(contents, b"exif", MAX_EXIF_BYTES, "EXIF"),
        _decompressed(contents, b"xmpd", MAX_XMP_BYTES, "XMP"),
        _source(contents.get(b"orig")),
    )


def _decompressed(contents: Mapping[bytes, bytes], name: bytes, limit: int, what: str) -> bytes | None:
    if name not in contents:
        return None
    decompressor = zlib.decompressobj()
    try:
        found = decompressor.decompress(contents[name], limit + 1)  # never more than that in memory
    except zlib.error as error:
        raise CorruptStreamError(f"{what} cannot be decompressed: {error}") from error
    if len(found) > limit:
        raise CorruptStreamError(f"{what} is larger than {limit} bytes")
    if not found or not decompressor.eof or decompressor.unused_data:
        raise CorruptStreamError(f"{what} is empty, cut or followed by other data")
    return found


def _source(chunk: bytes | None) -> Source:
    if chunk is None:
        return _NOTHING_SPECIAL
    if len(chunk) != 1:
        raise CorruptStreamError(f"orig has {len(chunk)} bytes; expected 1")
    return Source(chunk[0]) & _KNOWN
