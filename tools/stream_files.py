"""``.mlic`` files as commands read them: no more bytes than such a file can have."""

from __future__ import annotations

import sys
from pathlib import Path

from mlic.runtime.errors import UnsupportedStreamError
from mlic.tools.console import PIPE

# Noise takes some 4 bytes a pixel; the constant is for metadata.
MAX_BYTES = 1 << 26
MAX_BYTES_A_PIXEL = 8


def read_stream(source: Path, max_pixels: int) -> bytes:
    """Return a file's contents.

    Args:
        source: the file; ``-`` is standard input.
        max_pixels: of the pictures that are read.

    Raises:
        UnsupportedStreamError: the file is larger than one of a picture of ``max_pixels`` can be.
        OSError: it cannot be read.
    """
    limit = MAX_BYTES + MAX_BYTES_A_PIXEL * max_pixels
    if source == PIPE:
        data = sys.stdin.buffer.read(limit + 1)
    else:
        with source.open("rb") as file:
            data = file.read(limit + 1)
    if len(data) > limit:
        raise UnsupportedStreamError(f"the file is larger than {limit} bytes, the limit for {max_pixels} pixels")
    return data
