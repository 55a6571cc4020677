"""How far engines agree on a model: what their scales differ by, which indexes follow, and what repair makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlic.runtime import Codec
from mlic.runtime.arithmetic import FLOAT32_SYNDROME, INTEGER
from mlic.runtime.arrays import Array, UInt8Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.errors import BundleError
from mlic.runtime.syndrome import CHUNK_LOG2, CRC_WIDTH, SyndromeReader, SyndromeWriter

MAX_FACTOR = 1024
Scales = list[Array]  # of one picture, one array a step: float32; uint8 indexes of an integer bundle


@dataclass(frozen=True)
class Known:
    """What a picture's file says, whoever reads it.

    Attributes:
        z_symbols: int32 [1, N, h/4, w/4].
        symbols: int32, one array a step.
    """

    z_symbols: Array
    symbols: list[Array]


def known(codec: Codec, pixels: UInt8Array) -> Known:
    """Encode a picture, uint8 [H, W, 3], and keep its symbols."""
    trace = codec.trace(pixels)
    return Known(trace["z_symbols"], trace["symbols"])


def scales_of(codec: Codec, pictures: Sequence[Known]) -> list[Scales]:
    """Return what an engine makes of pictures whose symbols are known."""
    return [codec.replay(picture.z_symbols, picture.symbols) for picture in pictures]


@dataclass(frozen=True)
class Difference:
    """Two engines on one step, or on all.

    Attributes:
        count: of scales.
        flips: indexes that differ.
        equal: share of scales that are equal to the last bit, 0..1.
        mean: of the absolute difference of scales.
        p999: its 99.9th percentile.
        largest: of all.
    """

    count: int
    flips: int
    equal: float
    mean: float
    p999: float
    largest: float

    @property
    def flips_per_million(self) -> float:
        """Indexes that differ in a million."""
        return 1e6 * self.flips / self.count


def require_scales(bundle: Bundle, what: str) -> None:
    """Refuse a bundle whose steps give no scales, to which noise could be added.

    Raises:
        BundleError: its arithmetic is integer; ``what`` says who is asking.
    """
    if bundle.manifest.arithmetic == INTEGER.name:
        raise BundleError(
            f"bundle {bundle.manifest.name} has arithmetic {INTEGER.name}, in which engines do not differ; "
            f"{what} is about bundles in {FLOAT32_SYNDROME.name}"
        )


def difference(entropy: EntropyModel, left: Sequence[Array], right: Sequence[Array]) -> Difference:
    """Compare the scales of two engines, or the indexes of an integer bundle.

    Args:
        entropy: tells which index a scale has.
        left: one engine's, any shapes.
        right: the other's, same shapes.
    """
    a, b = (np.concatenate([array.reshape(-1) for array in side]) for side in (left, right))
    apart: NDArray[np.float64] = np.abs(a.astype(np.float64) - b)
    flips = int(np.count_nonzero(_indexes(entropy, a) != _indexes(entropy, b)))
    mean, largest = float(apart.mean()), float(apart.max())
    return Difference(len(a), flips, float((apart == 0).mean()), mean, float(np.quantile(apart, 0.999)), largest)


def by_step(entropy: EntropyModel, left: list[Scales], right: list[Scales]) -> list[Difference]:
    """Compare two engines on several pictures, step by step."""
    return [difference(entropy, *pair) for pair in zip(zip(*left, strict=True), zip(*right, strict=True), strict=True)]


def overall(entropy: EntropyModel, left: list[Scales], right: list[Scales]) -> Difference:
    """Compare two engines on several pictures."""
    return difference(entropy, [step for picture in left for step in picture], [s for p in right for s in p])


def is_repaired(
    entropy: EntropyModel,
    theirs: Scales,
    ours: Scales,
    factor: float = 1.0,
    chunk_log2: int = CHUNK_LOG2,
    width: int = CRC_WIDTH,
) -> bool:
    """Return whether a decoder finds the encoder's indexes at the first try, in every step of a picture.

    Args:
        entropy: of the model.
        theirs: the encoder's scales.
        ours: the decoder's scales.
        factor: how many times larger the difference is made.
        chunk_log2: log2 of the chunk length.
        width: of a chunk's checksum in bits.
    """
    enlarged = [
        mine.astype(np.float64) + factor * (other.astype(np.float64) - mine)
        for mine, other in zip(ours, theirs, strict=True)
    ]
    right = [entropy.build_indexes(scales.astype(np.float32)) for scales in enlarged]
    writer = SyndromeWriter(chunk_log2, width)
    for indexes in right:
        writer.add(indexes)
    reader = SyndromeReader(writer.finish(), [indexes.size for indexes in right], entropy.scale_table)
    for step, (mine, expected) in enumerate(zip(ours, right, strict=True)):
        indexes = entropy.build_indexes(mine)
        if wrong := reader.wrong_chunks(step, indexes):
            reading = reader.reading(step, "", indexes, mine, wrong, 0)
            if reading is None or not np.array_equal(reading.indexes, expected):
                return False
        elif not np.array_equal(indexes, expected):
            return False
    return True


def margin(entropy: EntropyModel, left: list[Scales], right: list[Scales]) -> float:
    """Return how many times larger two engines' differences may be and still be repaired at the first try.

    Returns:
        The largest power of two, up to ``MAX_FACTOR``, at which each reads all pictures of the other; 0 if they do not
        as it is; infinite if they do not differ at all.
    """
    pairs = [*zip(left, right, strict=True), *zip(right, left, strict=True)]
    if all(np.array_equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True)):
        return math.inf
    if any(step.dtype == np.uint8 for picture in left for step in picture):
        return 0  # indexes that differ are not corrected
    best, factor = 0, 1
    while factor <= MAX_FACTOR and all(is_repaired(entropy, theirs, ours, factor) for theirs, ours in pairs):
        best, factor = factor, 2 * factor
    return best


def _indexes(entropy: EntropyModel, values: Array) -> UInt8Array:
    return values if values.dtype == np.uint8 else entropy.build_indexes(values)
