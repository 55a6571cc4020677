"""Checksums of the scale indexes: before a decoder takes a symbol it knows where its engine disagrees, and corrects it.

The indexes of each step are cut into chunks in C order; the last chunk of a step may be short. Each chunk
carries a CRC, and all indexes together a CRC-32 (as in zlib). Contents of the ``SYND`` chunk, little-endian:

    offset      size  field
    0           1     log2 of the chunk length, 6..24; this encoder writes 15
    1           1     width w of a chunk's checksum in bits: 16 or 32; this encoder writes 16
    2           nw/8  checksum of each chunk's indexes, steps in coding order
    2 + nw/8    4     CRC-32 of all indexes in coding order

The CRC of 16 bits has the polynomial 0x1021, most significant bit first, and starts from 0; that of 32 bits is zlib's.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice

import numpy as np

from mlic.runtime.arrays import Float32Array, UInt8Array
from mlic.runtime.checksums import CHECKSUMS, Checksum
from mlic.runtime.errors import CorruptStreamError, UnsupportedStreamError
from mlic.runtime.repair import Explanation, Repair

CHUNK_LOG2 = 15  # measured: docs/portability.md
CRC_WIDTH = 16

# Chunks of one step that are repaired at most: a file may have chunks as short as 64 indexes, all of them wrong, and
# the search must not take longer than the decoding.
INDEXES_PER_REPAIR = 4096
FREE_REPAIRS = 16


class SyndromeWriter:
    """Collects the checksums of one picture's indexes.

    Args:
        chunk_log2: log2 of the chunk length, 6..24.
        width: of a chunk's checksum in bits, 16 or 32.
    """

    def __init__(self, chunk_log2: int = CHUNK_LOG2, width: int = CRC_WIDTH) -> None:
        self._chunk_log2 = chunk_log2
        self._checksum = CHECKSUMS[width]
        self._chunks: list[int] = []
        self._all = 0

    def add(self, indexes: UInt8Array) -> None:
        """Add one step's indexes, uint8 of any shape."""
        self._chunks += chunk_checksums(indexes, 1 << self._chunk_log2, self._checksum)
        self._all = zlib.crc32(indexes.tobytes(), self._all)

    def finish(self) -> bytes:
        """Return the contents of the ``SYND`` chunk."""
        layout = f"<BB{len(self._chunks)}{self._checksum.code}I"
        return struct.pack(layout, self._chunk_log2, self._checksum.width, *self._chunks, self._all)


@dataclass(frozen=True)
class Change:
    """One index in which the encoder and this engine differed.

    Attributes:
        graph: whose scale it was.
        place: position among the step's indexes in C order.
        ours: what this engine made of its scale.
        theirs: what the encoder had.
        distance: of the scale from the boundary between the two.
    """

    graph: str
    place: int
    ours: int
    theirs: int
    distance: float


@dataclass(frozen=True)
class Reading:
    """One step's indexes as the encoder may have had them.

    Attributes:
        indexes: uint8, of the step's shape.
        cost: negative natural logarithm of its likelihood, relative to this engine's own indexes.
        changes: what it took to get here.
        next_cost: cost of the next likeliest reading; None if there is none.
    """

    indexes: UInt8Array
    cost: float
    changes: tuple[Change, ...]
    next_cost: float | None


class SyndromeReader:
    """Tells which indexes agree with the encoder's, and what the encoder's were. Never changes once made.

    Args:
        payload: contents of the ``SYND`` chunk.
        step_sizes: number of indexes of each step, in coding order.
        scale_table: float32 [L], rising: where the boundaries between indexes lie.

    Raises:
        CorruptStreamError: the payload does not fit the steps.
        UnsupportedStreamError: it uses another checksum.
    """

    def __init__(self, payload: bytes, step_sizes: Sequence[int], scale_table: Float32Array) -> None:
        if len(payload) < 2:
            raise CorruptStreamError(f"SYND has {len(payload)} bytes; expected 6 or more")
        chunk_log2, width = payload[:2]
        if width not in CHECKSUMS or not 6 <= chunk_log2 <= 24:
            raise UnsupportedStreamError(
                f"index checksums of {width} bits for 2^{chunk_log2} indexes; "
                f"this version reads 16 or 32 bits for 2^6..2^24"
            )
        self._checksum = CHECKSUMS[width]
        self._chunk_length = 1 << chunk_log2
        counts = [-(-size // self._chunk_length) for size in step_sizes]
        expected = 6 + width // 8 * sum(counts)
        if len(payload) != expected:
            raise CorruptStreamError(f"SYND has {len(payload)} bytes; expected {expected} for this picture and model")
        *values, self._all = struct.unpack(f"<{sum(counts)}{self._checksum.code}I", payload[2:])
        remaining = iter(values)
        self._steps = [list(islice(remaining, count)) for count in counts]
        self._repair = Repair(scale_table, self._checksum)

    def count(self, step: int) -> int:
        """Return the number of chunks of a step."""
        return len(self._steps[step])

    def wrong_chunks(self, step: int, indexes: UInt8Array) -> list[int]:
        """Return which chunks of a step differ from the encoder's.

        Args:
            step: position in coding order.
            indexes: uint8 of any shape, this engine's.
        """
        ours = chunk_checksums(indexes, self._chunk_length, self._checksum)
        theirs = self._steps[step]
        return [] if ours == theirs else [chunk for chunk, value in enumerate(theirs) if ours[chunk] != value]

    def reading(
        self, step: int, graph: str, indexes: UInt8Array, scales: Float32Array, wrong: Sequence[int], pick: int
    ) -> Reading | None:
        """Return what the encoder's indexes were, if they were not this engine's.

        Args:
            step: position in coding order.
            graph: its name, for the changes.
            indexes: uint8 of any shape, this engine's.
            scales: float32, same shape, from which they were made; finite.
            wrong: chunks to be changed, as ``wrong_chunks`` returned them. If there are none, all chunks: their
                checksums might agree by chance.
            pick: 0 for the likeliest reading, 1 for the next one, and so on.

        Returns:
            None if there are not as many readings: the engines differ beyond repair.
        """
        flat, flat_scales, length = indexes.reshape(-1), scales.reshape(-1), self._chunk_length
        starts = [chunk * length for chunk in wrong or range(self.count(step))]
        if len(starts) > FREE_REPAIRS + indexes.size // INDEXES_PER_REPAIR:
            return None
        options: list[list[Explanation]] = []
        for start in starts:
            chunk = flat[start : start + length]
            difference = self._checksum.difference(self._checksum.of(chunk.data), self._steps[step][start // length])
            candidates = self._repair.candidates(chunk, flat_scales[start : start + length])
            options.append(self._repair.explanations(candidates, difference))
            if not options[-1]:
                return None
        ranked = list(islice(cheapest([[option.cost for option in chunk] for chunk in options]), pick, pick + 2))
        if not ranked:
            return None
        cost, chosen = ranked[0]
        theirs, changes = flat.copy(), []
        for start, chunk_options, option in zip(starts, options, chosen, strict=True):
            found = chunk_options[option]
            places = found.places + start
            theirs[places] = found.indexes
            changes += [
                Change(
                    graph,
                    int(places[one]),
                    int(flat[places[one]]),
                    int(found.indexes[one]),
                    float(found.distances[one]),
                )
                for one in np.argsort(places)
            ]
        return Reading(theirs.reshape(indexes.shape), cost, tuple(changes), ranked[1][0] if ranked[1:] else None)

    def all_agree(self, checksum: int) -> bool:
        """Return whether the CRC-32 of all indexes in coding order is the encoder's."""
        return bool(checksum == self._all)


def chunk_checksums(indexes: UInt8Array, chunk_length: int, checksum: Checksum = CHECKSUMS[CRC_WIDTH]) -> list[int]:
    """Return the checksum of each chunk.

    Args:
        indexes: uint8, any shape; taken in C order.
        chunk_length: in indexes; the last chunk may be shorter.
        checksum: which one.

    Returns:
        One value below ``2 ** checksum.width`` for each chunk.
    """
    view = np.ascontiguousarray(indexes).reshape(-1).data
    return [checksum.of(view[start : start + chunk_length]) for start in range(0, len(view), chunk_length)]


def cheapest(costs: Sequence[Sequence[float]]) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Yield all ways to take one of each, cheapest sum first.

    Args:
        costs: of each one's options, rising; none is empty.

    Yields:
        The sum, and which option of each.
    """
    # Each combination is reached once: by raising options from left to right, each as far as it goes, before the next.
    heap = [(sum(options[0] for options in costs), (0,) * len(costs), 0)]
    while heap:
        total, chosen, first = heappop(heap)
        yield total, chosen
        for place in range(first, len(costs)):
            option = chosen[place] + 1
            if option < len(costs[place]):
                raised = (*chosen[:place], option, *chosen[place + 1 :])
                heappush(heap, (total + costs[place][option] - costs[place][option - 1], raised, place))
