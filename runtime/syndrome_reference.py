"""The readable twin of ``checksums.py`` and ``repair.py``: bit by bit, set by set, in plain Python.

It tries every set of candidates up to a given size on the data itself. Tests hold the fast one against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

from mlic.runtime.repair import LEVELS

Change = tuple[int, int]  # place in the chunk, index that it becomes


def crc16(data: bytes) -> int:
    """Return the CRC with polynomial x^16 + x^12 + x^5 + 1, most significant bit first, from 0."""
    remainder = 0
    for byte in data:
        remainder ^= byte << 8
        for _ in range(8):
            remainder <<= 1
            if remainder >> 16:
                remainder ^= 0x11021
    return remainder


def crc32(data: bytes) -> int:
    """Return the CRC of zlib and PNG: least significant bit first, from all ones, inverted at the end."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0xEDB88320 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def index_of(scale: float, scale_table: Sequence[float]) -> int:
    """Return the number of entries among all but the last that are below a scale."""
    return sum(entry < scale for entry in scale_table[:-1])


def candidates(scales: Sequence[float], scale_table: Sequence[float]) -> list[tuple[float, Change]]:
    """Return each place's nearest change and the distance to its boundary, nearest first."""
    found = []
    for place, scale in enumerate(scales):
        index = index_of(scale, scale_table)
        down = scale - scale_table[index - 1] if index > 0 else math.inf
        up = scale_table[index] - scale if index < len(scale_table) - 1 else math.inf
        if min(down, up) < math.inf:
            found.append((min(down, up), (place, index + 1 if up < down else index - 1)))
    return sorted(found, key=lambda candidate: candidate[0])


def explanations(
    scales: Sequence[float], scale_table: Sequence[float], checksum: int, width: int, largest: int
) -> list[tuple[float, tuple[Change, ...]]]:
    """Return all sets of changes that lead to a checksum, cheapest first, each with its cost.

    Args:
        scales: of one chunk.
        scale_table: rising.
        checksum: the encoder's.
        width: of the checksum in bits, 16 or 32.
        largest: size of the largest set that is tried.
    """
    crc = {16: crc16, 32: crc32}[width]
    near = candidates(scales, scale_table)
    ours = bytes(index_of(scale, scale_table) for scale in scales)
    found = []
    for size in range(largest + 1):
        for chosen in combinations(range(len(near)), size):
            data = bytearray(ours)
            for position in chosen:
                place, index = near[position][1]
                data[place] = index
            if crc(bytes(data)) == checksum:
                cost = _cost([distance for distance, _ in near], set(chosen))
                found.append((cost, tuple(near[position][1] for position in chosen)))
    return sorted(found)


def _cost(distances: Sequence[float], chosen: set[int]) -> float:
    return math.log(_likelihood(distances, set())) - math.log(_likelihood(distances, chosen))


def _likelihood(distances: Sequence[float], chosen: set[int]) -> float:
    """Return the sum over all levels of noise of the probability that just the chosen ones crossed."""
    total = 0.0
    for level in LEVELS:
        crossing = [math.exp(-distance / level) / 2 for distance in distances]
        total += math.prod(q if place in chosen else 1 - q for place, q in enumerate(crossing))
    return total
