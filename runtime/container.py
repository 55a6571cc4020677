"""The ``.mlic`` file, version 1. All numbers are little-endian.

    offset  size  field
    0       4     magic: MLIC
    4       1     version: 1
    5       1     arithmetic of the entropy path: 1 = float32 with syndromes, 2 = integer
    6       2     flags: reserved, zero
    8       8     model_id
    16      4     width in pixels, 1..2^20
    20      4     height in pixels, 1..2^20
    24      ...   chunks

A chunk is uint32 length, four ASCII letters, contents. An upper-case first letter means critical: a reader that does
not know it refuses the file; others are skipped. No name occurs twice. In this order:

    LATS    uint32 words of the ANS coder (ans.py): z, then the steps in coding order
    ESCP    bits of the values outside their table (escape.py); absent if there are none
    SYND    checksums of the scale indexes (syndrome.py); in files of arithmetic 1 alone
    CHCK    uint32 CRC-32 of the indexes of all steps, in coding order; instead of SYND, in files of arithmetic 2 alone
    GRID    instead of those above: the picture's cells, each a file of its own (grid.py)
    iccp    zlib-compressed ICC profile; optional, as are the next three (metadata.py)
    exif    zlib-compressed EXIF, from its TIFF header on
    xmpd    zlib-compressed XMP packet
    orig    uint8: what the source had; bit 0 grey alone, bit 1 transparency, bit 2 more than 8 bits a channel
    ENDS    uint32 CRC-32 of every byte before this value

Nothing follows ENDS. Reading frames the chunks first, then compares the checksum, and judges the contents
last: damage is reported as damage, and only an intact file is called unsupported.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import partial

from mlic.runtime import arithmetic
from mlic.runtime.choices import MAX_PIXELS
from mlic.runtime.errors import CorruptStreamError, TruncatedStreamError, UnsupportedStreamError
from mlic.runtime.grid import Grid, grid_bytes, read_grid
from mlic.runtime.metadata import CHUNKS, NO_METADATA, Metadata, chunks_from_metadata, metadata_from_chunks

MAGIC = b"MLIC"
VERSION = 1
ARITHMETICS = {one.code: one.name for one in arithmetic.ARITHMETICS.values()}
MAX_SIDE = 1 << 20
MAX_LATENT_PIXELS = 1 << 26  # 67 megapixels, of a picture or of a cell; the chain holds 40 to 60 bytes for each
MAX_CHUNKS = 1024  # names differ, so that there could be millions

_HEADER = struct.Struct("<4sBBH8sII")
_CHUNK = struct.Struct("<I4s")
_CRC = struct.Struct("<I")
_CHECKS = tuple(one.chunk for one in arithmetic.ARITHMETICS.values())  # a file has the one of its arithmetic
_CODED = (b"LATS", b"ESCP", *_CHECKS)  # the chunks of a picture in one latent, and all that a cell may have
_ORDER = (*_CODED, b"GRID", *CHUNKS)
_FOREIGN = (  # first bytes, or (from byte 4 on) those of an ISO media file
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftyp", "an ISO media file, such as HEIC or MP4"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (0, b"%PDF", "a PDF file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"{", "a text file, perhaps JSON"),
)


@dataclass(frozen=True)
class Header:
    """The fixed part of a file.

    Attributes:
        model_id: 8 bytes, of the bundle that wrote the file.
        width: in pixels, before padding.
        height: in pixels, before padding.
        arithmetic: of the entropy path, as manifests name it.
    """

    model_id: bytes
    width: int
    height: int
    arithmetic: str


@dataclass(frozen=True)
class Bitstream(Header):
    """A whole file, taken apart.

    Attributes:
        latents: contents of ``LATS``, a multiple of 4 bytes.
        escapes: contents of ``ESCP``, empty if there is none.
        checks: contents of ``SYND``, or of ``CHCK`` where the arithmetic is integer.
        metadata: what goes with the picture.
        grid: contents of ``GRID``; the three above are empty then. None for a picture in one latent.
    """

    latents: bytes
    escapes: bytes
    checks: bytes
    metadata: Metadata = NO_METADATA
    grid: Grid | None = None


def write(stream: Bitstream) -> bytes:
    """Return the file's bytes.

    Raises:
        ImageError: a part of the metadata is empty or larger than its limit.
    """
    codes = {name: code for code, name in ARITHMETICS.items()}
    assert len(stream.model_id) == 8
    assert 1 <= stream.width <= MAX_SIDE
    assert 1 <= stream.height <= MAX_SIDE
    assert len(stream.latents) % 4 == 0
    parts = [
        _HEADER.pack(MAGIC, VERSION, codes[stream.arithmetic], 0, stream.model_id, stream.width, stream.height),
        *_coded_chunks(stream),
    ]
    parts += [_chunk(name, contents) for name, contents in chunks_from_metadata(stream.metadata)]
    parts.append(_CHUNK.pack(_CRC.size, b"ENDS"))
    body = b"".join(parts)
    return body + _CRC.pack(zlib.crc32(body))  # CRC last: it covers the header


def read(data: bytes, max_pixels: int = MAX_PIXELS, max_latent_pixels: int = MAX_LATENT_PIXELS) -> Bitstream:
    """Take a file apart and check everything that can be checked without a model.

    Args:
        data: the whole file.
        max_pixels: refuse larger pictures.
        max_latent_pixels: refuse larger pictures without a grid, and larger cells.

    Raises:
        TruncatedStreamError: the data ends early.
        CorruptStreamError: checksum, order, lengths or values are wrong, or data follows the end.
        UnsupportedStreamError: another kind of file, a newer version, an unknown critical chunk, or a picture
            larger than ``max_pixels`` or ``max_latent_pixels``.
    """
    return _read(data, max_pixels, max_latent_pixels, is_cell=False)


def _read(data: bytes, max_pixels: int, max_latent_pixels: int, is_cell: bool) -> Bitstream:
    _check_kind(data)
    chunks, end = _frame(data)
    (stored,) = _CRC.unpack_from(data, end - _CRC.size)
    computed = zlib.crc32(memoryview(data)[: end - _CRC.size])
    if stored != computed:
        raise CorruptStreamError(f"checksum is {stored:08x}, the contents have {computed:08x}", offset=end - _CRC.size)
    header = _header(data, max_pixels)
    own = arithmetic.ARITHMETICS[header.arithmetic].chunk
    names = [name for name, _, _ in chunks]
    if is_cell and (strangers := [name.decode() for name in names if name not in _CODED]):
        raise CorruptStreamError(f"a cell holds {', '.join(strangers)}; expected LATS, ESCP and {own.decode()} alone")
    if b"GRID" not in names and header.width * header.height > max_latent_pixels:
        raise UnsupportedStreamError(
            f"{header.width} x {header.height} pixels in one latent; the limit is {max_latent_pixels} (latent_pixels)",
            offset=16,
        )
    contents = _known_chunks(data, chunks, own)
    grid = None
    if b"GRID" in contents:
        read_cell = partial(_read, max_pixels=max_pixels, max_latent_pixels=max_latent_pixels, is_cell=True)
        grid = read_grid(contents[b"GRID"], header, read_cell)
    latents = contents.get(b"LATS", b"")
    if len(latents) % 4:
        raise CorruptStreamError(f"LATS has {len(latents)} bytes; expected a multiple of 4")
    escapes = contents.get(b"ESCP", b"")
    if b"ESCP" in contents and not escapes:
        raise CorruptStreamError("ESCP is empty; expected no such chunk")
    return Bitstream(
        header.model_id,
        header.width,
        header.height,
        header.arithmetic,
        latents=latents,
        escapes=escapes,
        checks=contents.get(own, b""),
        metadata=metadata_from_chunks(contents),
        grid=grid,
    )


def read_metadata(data: bytes, max_pixels: int = MAX_PIXELS) -> Metadata:
    """Read what goes with a file's picture; no model is needed.

    Args:
        data: the whole file.
        max_pixels: refuse larger pictures.

    Raises:
        BitstreamError: as ``read``.
    """
    return read(data, max_pixels).metadata


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Read the first 24 bytes of a file; no checksum is compared.

    Raises:
        TruncatedStreamError: there are fewer.
        CorruptStreamError: a field is out of range.
        UnsupportedStreamError: another kind of file, a newer version, or a picture larger than
            ``max_pixels``.
    """
    _check_kind(data)
    return _header(data, max_pixels)


def _check_kind(data: bytes) -> None:
    """Check magic, version and that the header is there."""
    magic = bytes(data[:4])
    if magic != MAGIC[: len(magic)]:
        for start, signature, name in _FOREIGN:
            if bytes(data[start : start + len(signature)]) == signature:
                raise UnsupportedStreamError(f"this is {name}, not a .mlic file", offset=0)
        raise UnsupportedStreamError(f"not a .mlic file: it begins with {magic!r}", offset=0)
    if len(data) > 4 and data[4] != VERSION:
        newer = "; install a newer mlic-deploy" if data[4] > VERSION else ""
        raise UnsupportedStreamError(f"file version {data[4]}; this reader knows version {VERSION}{newer}", offset=4)
    if len(data) < _HEADER.size:
        raise TruncatedStreamError(f"header needs {_HEADER.size} bytes, got {len(data)}", offset=len(data))


def _header(data: bytes, max_pixels: int) -> Header:
    _, _, code, flags, model_id, width, height = _HEADER.unpack_from(data)
    if code not in ARITHMETICS:
        known = ", ".join(f"{number} ({name})" for number, name in ARITHMETICS.items())
        raise UnsupportedStreamError(f"arithmetic {code}; this reader knows {known}", offset=5)
    if flags:
        raise UnsupportedStreamError(f"flags {flags:#06x}; this reader knows none", offset=6)
    for side, value, offset in (("width", width, 16), ("height", height, 20)):
        if not 1 <= value <= MAX_SIDE:
            raise CorruptStreamError(f"{side} is {value}; expected 1 to {MAX_SIDE}", offset=offset)
    if width * height > max_pixels:
        raise UnsupportedStreamError(
            f"picture of {width} x {height} pixels; the limit is {max_pixels} (max_pixels)", offset=16
        )
    return Header(model_id, width, height, ARITHMETICS[code])


def _frame(data: bytes) -> tuple[list[tuple[bytes, int, int]], int]:
    """Return name, start and end of each chunk up to ENDS, and where the file ends."""
    chunks: list[tuple[bytes, int, int]] = []
    position = _HEADER.size
    while True:
        if len(data) < position + _CHUNK.size:
            raise TruncatedStreamError(
                f"chunk header needs {_CHUNK.size} bytes, got {len(data) - position}", offset=position
            )
        length, name = _CHUNK.unpack_from(data, position)
        if not (name.isascii() and name.isalpha()):
            raise CorruptStreamError(f"chunk name {name!r}; expected four letters", offset=position + 4)
        start = position + _CHUNK.size
        position = start + length
        if name == b"ENDS" and length != _CRC.size:
            raise CorruptStreamError(f"ENDS has {length} bytes; expected {_CRC.size}", offset=start)
        if len(data) < position:
            raise TruncatedStreamError(
                f"chunk {name.decode()} needs {length} bytes, got {len(data) - start}", offset=len(data)
            )
        if name == b"ENDS":
            break
        if len(chunks) == MAX_CHUNKS:
            raise CorruptStreamError(f"more than {MAX_CHUNKS} chunks", offset=start - _CHUNK.size)
        chunks.append((name, start, position))
    if len(data) > position:
        raise CorruptStreamError(f"{len(data) - position} bytes follow the end of the file", offset=position)
    return chunks, position


def _known_chunks(data: bytes, chunks: list[tuple[bytes, int, int]], checks: bytes) -> dict[bytes, bytes]:
    """Return the contents of the chunks that this version knows; ``checks`` is the chunk of the file's arithmetic."""
    contents: dict[bytes, bytes] = {}
    seen: set[bytes] = set()
    last = -1
    for name, start, end in chunks:
        if name in seen:
            raise CorruptStreamError(f"chunk {name.decode()} occurs twice", offset=start - _CHUNK.size)
        seen.add(name)
        if name not in _ORDER:
            if name[:1].isupper():
                raise UnsupportedStreamError(
                    f"critical chunk {name.decode()} is unknown to this reader", offset=start - 4
                )
            continue
        if _ORDER.index(name) < last:
            raise CorruptStreamError(f"chunk {name.decode()} stands too late", offset=start - _CHUNK.size)
        last = _ORDER.index(name)
        contents[name] = bytes(data[start:end])
    if b"GRID" in contents:
        if coded := [name.decode() for name in _CODED if name in contents]:
            raise CorruptStreamError(f"GRID stands beside {', '.join(coded)}; expected one or the other")
        return contents
    if missing := [name.decode() for name in (b"LATS", checks) if name not in contents]:
        raise CorruptStreamError(f"chunks are missing: {', '.join(missing)}")
    if foreign := [name.decode() for name in _CHECKS if name != checks and name in contents]:
        raise CorruptStreamError(f"{', '.join(foreign)} stands in a file that has {checks.decode()}; expected one")
    if checks == arithmetic.INTEGER.chunk and len(contents[checks]) != _CRC.size:
        raise CorruptStreamError(f"CHCK has {len(contents[checks])} bytes; expected {_CRC.size}")
    return contents


def _coded_chunks(stream: Bitstream) -> list[bytes]:
    """Return the critical chunks of a file."""
    if stream.grid is not None:
        return [_chunk(b"GRID", grid_bytes(stream.grid, write))]
    escapes = [_chunk(b"ESCP", stream.escapes)] if stream.escapes else []
    checks = _chunk(arithmetic.ARITHMETICS[stream.arithmetic].chunk, stream.checks)
    return [_chunk(b"LATS", stream.latents), *escapes, checks]


def _chunk(name: bytes, contents: bytes) -> bytes:
    return _CHUNK.pack(len(contents), name) + contents
