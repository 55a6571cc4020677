"""Checksums of the scale indexes: a decoder learns that its engine disagrees before it decodes a symbol.

The indexes of each step are cut into chunks in C order; the last chunk of a step may be short. Each chunk
carries a CRC-16 (polynomial 0x1021, most significant bit first, starting from 0: linear over GF(2), as the
repair of single
indexes needs it), and all indexes together a CRC-32 (as in zlib). Contents of the ``SYND`` chunk,
little-endian:

    offset      size  field
    0           1     log2 of the chunk length, 6..24; this encoder writes 15
    1           1     width of a chunk's checksum in bits: 16
    2           2n    CRC-16 of each chunk's indexes, steps in coding order
    2 + 2n      4     CRC-32 of all indexes in coding order
"""

from __future__ import annotations

import struct
import zlib
from binascii import crc_hqx
from collections.abc import Sequence

from mlic.runtime.arrays import Float32Array, UInt8Array
from mlic.runtime.errors import CorruptStreamError, EngineMismatchError, UnsupportedStreamError

CHUNK_LOG2 = 15  # design: 2 bytes for 32768 indexes are 0.1 % of the rate of a photo
CRC_WIDTH = 16


class SyndromeWriter:
    """Collects the checksums of one picture's indexes."""

    def __init__(self) -> None:
        self._chunks: list[int] = []
        self._all = 0

    def add(self, indexes: UInt8Array) -> None:
        """Add one step's indexes, uint8 of any shape."""
        self._chunks += chunk_checksums(indexes, 1 << CHUNK_LOG2)
        self._all = zlib.crc32(indexes.tobytes(), self._all)

    def finish(self) -> bytes:
        """Return the contents of the ``SYND`` chunk."""
        return struct.pack(f"<BB{len(self._chunks)}HI", CHUNK_LOG2, CRC_WIDTH, *self._chunks, self._all)


class SyndromeChecker:
    """Compares a decoder's indexes with the encoder's checksums, step by step.

    Args:
        payload: contents of the ``SYND`` chunk.
        step_sizes: number of indexes of each step, in coding order.
        engine: named in errors.
        arithmetic: named in errors.

    Raises:
        CorruptStreamError: the payload does not fit the steps.
        UnsupportedStreamError: it uses another checksum.
    """

    def __init__(self, payload: bytes, step_sizes: Sequence[int], engine: str, arithmetic: str) -> None:
        if len(payload) < 2:
            raise CorruptStreamError(f"SYND has {len(payload)} bytes; expected 6 or more")
        chunk_log2, width = payload[:2]
        if width != CRC_WIDTH or not 6 <= chunk_log2 <= 24:
            raise UnsupportedStreamError(
                f"index checksums of {width} bits for 2^{chunk_log2} indexes; this version reads 16 bits for 2^6..2^24"
            )
        self._chunk_length = 1 << chunk_log2
        self._counts = [-(-size // self._chunk_length) for size in step_sizes]
        expected = 6 + 2 * sum(self._counts)
        if len(payload) != expected:
            raise CorruptStreamError(f"SYND has {len(payload)} bytes; expected {expected} for this picture and model")
        *self._checksums, self._all = struct.unpack(f"<{sum(self._counts)}HI", payload[2:])
        self._engine = engine
        self._arithmetic = arithmetic
        self._step = 0
        self._used = 0
        self._seen = 0

    def correct(self, name: str, indexes: UInt8Array, scales: Float32Array) -> UInt8Array:
        """Return the encoder's indexes of the next step, or raise.

        Args:
            name: of the step, for errors.
            indexes: uint8, this engine's, any shape.
            scales: float32, same shape, from which they were made. Unused as yet: they tell the repair which
                indexes lie closest to a boundary of the scale table.

        Returns:
            uint8, same shape; today ``indexes`` itself, unchanged.

        Raises:
            EngineMismatchError: a chunk's checksum differs.
        """
        count = self._counts[self._step]
        expected = self._checksums[self._used : self._used + count]
        wrong = [
            chunk
            for chunk, (ours, theirs) in enumerate(
                zip(chunk_checksums(indexes, self._chunk_length), expected, strict=True)
            )
            if ours != theirs
        ]
        if wrong:
            raise self._mismatch(f"{name}: {len(wrong)} of {count} chunks of scale indexes")
        self._step += 1
        self._used += count
        self._seen = zlib.crc32(indexes.tobytes(), self._seen)
        return indexes

    def finish(self) -> None:
        """Compare the checksum of all indexes.

        Raises:
            EngineMismatchError: it differs, although every chunk's agreed.
        """
        assert self._step == len(self._counts)
        if self._seen != self._all:
            raise self._mismatch("the whole picture: the scale indexes")

    def _mismatch(self, what: str) -> EngineMismatchError:
        return EngineMismatchError(
            f"{what} differ from the encoder's (engine {self._engine}, arithmetic {self._arithmetic})"
        )


def chunk_checksums(indexes: UInt8Array, chunk_length: int) -> list[int]:
    """Return the CRC-16 of each chunk.

    Args:
        indexes: uint8, any shape; taken in C order.
        chunk_length: in indexes; the last chunk may be shorter.

    Returns:
        One value in 0..65535 for each chunk.
    """
    view = memoryview(indexes.tobytes())
    return [crc_hqx(view[start : start + chunk_length], 0) for start in range(0, len(view), chunk_length)]
