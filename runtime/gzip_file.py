"""Gzip files of others, read without trust: one member, no more bytes than it names, no more than its own size allows.

The last 4 bytes of such a file are the size of what it holds, so that memory is bounded before anything is unpacked;
zlib compares them, and the CRC-32 before them, with what comes out.
"""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO

FREE_BYTES = 1 << 24  # what any file may unpack to; small graphs, and constants that repeat, shrink to a hundredth
MAX_RATIO = 16  # beyond that; weights shrink to between 40 and 95 %, and deflate reaches 1032

LEVEL = 9
_GZIP = 16 + zlib.MAX_WBITS  # one member with its header and its end
_MAGIC = b"\x1f\x8b"
_LEAST_BYTES = 18  # a header of 10, deflated data of none, CRC-32 and size of 4 each
_BLOCK = 1 << 18


def packed(data: bytes) -> bytes:
    """Return a gzip file without name and time: the same bytes for the same data and zlib."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()


def most_unpacked(size: int) -> int:
    """Return what gzip files of so many bytes may unpack to."""
    return FREE_BYTES + MAX_RATIO * size


def unpacked_size(file: BinaryIO) -> int | None:
    """Return how many bytes a file says that it unpacks to, without unpacking it; None if it is no gzip file.

    Args:
        file: at any place.

    Raises:
        OSError: it cannot be read.
    """
    if file.seek(0, os.SEEK_END) < _LEAST_BYTES:
        return None
    file.seek(-4, os.SEEK_END)
    size = int.from_bytes(file.read(4), "little")
    file.seek(0)
    return size if file.read(2) == _MAGIC else None


def unpacked(file: BinaryIO, limit: int) -> bytes:
    """Return what a file unpacks to.

    Args:
        file: at any place.
        limit: bytes that come out at most.

    Raises:
        ValueError: it is no gzip file of one member, is cut or damaged, or unpacks to more than ``limit``, than
            ``most_unpacked`` or than it names.
        OSError: it cannot be read.
    """
    size = unpacked_size(file)
    if size is None:
        raise ValueError("it is no gzip file")
    limit = min(limit, most_unpacked(file.seek(0, os.SEEK_END)))
    if size > limit:
        raise ValueError(f"it unpacks to {size} bytes; the limit is {limit}")
    file.seek(0)
    unpacker, parts, room = zlib.decompressobj(_GZIP), [], size + 1  # one more, so that it is seen
    while not unpacker.eof:
        if not (block := unpacker.unconsumed_tail or file.read(_BLOCK)):
            raise ValueError("it ends early")
        try:
            parts.append(unpacker.decompress(block, min(room, _BLOCK)))
        except zlib.error as error:
            raise ValueError("it is damaged") from error
        room -= len(parts[-1])
        if not room:
            raise ValueError(f"it unpacks to more than the {size} bytes that it names")
    if unpacker.unused_data or file.read(1):
        raise ValueError("something follows its first member")
    return b"".join(parts)
