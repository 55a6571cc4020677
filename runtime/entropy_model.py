"""Integer frequency tables of y and z, and the way from scales and symbols to their rows and slots.

A row lists the frequencies of consecutive symbols, starting at the row's offset; its last entry, the
*escape*, stands for every symbol outside. A *slot* is a place in a row. What an escape leaves out goes to a
side stream as a *raw* number: with v = symbol - offset and M the escape's slot, raw = -2v - 1 below the row
and 2(v - M) above it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlic.runtime.arrays import Array, Float32Array, Int32Array, Tensors, UInt8Array
from mlic.runtime.errors import BackendError, BundleError, CorruptStreamError

PRECISION_BITS = 24  # what constriction's AnsCoder works with
MAX_SYMBOL = (1 << 24) - 1  # whole numbers up to here survive the way through float32
MAX_ROWS = 256  # indexes are uint8
MAX_OFFSET = 1 << 20  # the released models stay below 1600
MAX_ENTRIES = 1 << 22  # frequencies of one table, all rows; the released models have 24 thousand

_BUCKET_SHIFT = 16  # a bucket is the upper half of a float32: sign, exponent, 7 bits of mantissa


@dataclass(frozen=True)
class FrequencyTables:
    """Rows of integer frequencies, each summing to 2^24.

    Attributes:
        frequencies: uint32 [sum of lengths], one row after another.
        lengths: int32 [R], entries of each row, the escape included; at least 2.
        offsets: int32 [R], symbol of each row's first entry.
        starts: int64 [R], where each row begins in ``frequencies``.
    """

    frequencies: NDArray[np.uint32]
    lengths: Int32Array
    offsets: Int32Array
    starts: NDArray[np.int64]

    @classmethod
    def from_arrays(cls, arrays: Tensors, prefix: str) -> FrequencyTables:
        """Read and check ``{prefix}_frequencies``, ``_lengths`` and ``_offsets``.

        Raises:
            BundleError: arrays are missing, or lengths, sums, types or ranges are wrong; all problems in one
                text.
        """
        names = [f"{prefix}_{what}" for what in ("frequencies", "lengths", "offsets")]
        _require(arrays, dict(zip(names, (np.uint32, np.int32, np.int32), strict=True)))
        frequencies, lengths, offsets = (np.ascontiguousarray(arrays[name]) for name in names)
        rows = len(lengths)
        problems = []
        if not 1 <= rows <= 1 << 16 or len(offsets) != rows:
            problems.append(f"{rows} lengths and {len(offsets)} offsets; expected 1 to 65536 of each")
        elif lengths.min() < 2 or lengths.sum(dtype=np.int64) != len(frequencies):
            problems.append(
                f"lengths from {lengths.min()} up, in all {lengths.sum(dtype=np.int64)}; "
                f"expected 2 or more, in all {len(frequencies)} as there are frequencies"
            )
        elif len(frequencies) > MAX_ENTRIES:
            problems.append(f"{len(frequencies)} frequencies; at most {MAX_ENTRIES}")
        else:
            starts = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)])
            sums = np.add.reduceat(frequencies.astype(np.int64), starts)
            if wrong := np.flatnonzero(sums != 1 << PRECISION_BITS).tolist():
                problems.append(f"row {wrong[0]} sums to {sums[wrong[0]]}; expected {1 << PRECISION_BITS}")
            if frequencies.min() < 1:
                problems.append(f"frequency 0 at entry {int(frequencies.argmin())}; expected 1 or more")
            if np.abs(offsets.astype(np.int64)).max() > MAX_OFFSET:
                problems.append(f"offsets beyond ±{MAX_OFFSET}")
        if problems:
            raise BundleError(f"tables of {prefix}: " + "; ".join(problems))
        return cls(frequencies, lengths, offsets, starts)

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, index: int) -> NDArray[np.uint32]:
        """Return one row's frequencies, the escape last: uint32 [length]."""
        start = self.starts[index]
        return self.frequencies[start : start + self.lengths[index]]

    def slots_from_symbols(self, symbols: Int32Array, rows: Array) -> tuple[Int32Array, NDArray[np.int64]]:
        """Return each symbol's slot, and the raw numbers of those that escape.

        Args:
            symbols: int32 [n], within ±``MAX_SYMBOL``.
            rows: unsigned [n], row of each symbol.

        Returns:
            int32 [n] slots; int64 [number of escapes] raw numbers, at least 0, in the order of ``symbols``.
        """
        slots = symbols - self.offsets[rows]
        escape = self.lengths[rows] - 1
        outside = np.flatnonzero((slots < 0) | (slots >= escape))
        value, limit = slots[outside].astype(np.int64), escape[outside]
        raws = np.where(value < 0, -2 * value - 1, 2 * (value - limit))
        slots[outside] = limit
        return slots, raws

    def symbols_from_slots(
        self, slots: Int32Array, rows: Array, take_raws: Callable[[int], NDArray[np.int64]]
    ) -> Int32Array:
        """Return the symbols that slots stand for; the inverse of ``slots_from_symbols``.

        Args:
            slots: int32 [n], each within its row.
            rows: unsigned [n].
            take_raws: given the number of escapes, returns their raw numbers, int64 and at least 0, in order.

        Raises:
            CorruptStreamError: an escaped symbol is larger than any encoder writes.
        """
        symbols = slots + self.offsets[rows]
        escape = self.lengths[rows] - 1
        outside = np.flatnonzero(slots == escape)
        if outside.size:
            raws = take_raws(outside.size)
            value = np.where(raws & 1, -(raws >> 1) - 1, (raws >> 1) + escape[outside])
            value += self.offsets[rows[outside]]
            if np.abs(value).max() > MAX_SYMBOL:
                raise CorruptStreamError(f"an escaped symbol lies beyond ±{MAX_SYMBOL}")
            symbols[outside] = value
        return symbols


class EntropyModel:
    """What both ends know about the distribution of symbols.

    Attributes:
        scale_table: float32 [L], rising.
        y: one row a scale.
        z: one row a channel of z.
        medians: float32 [N]; the graphs contain them, the runtime does not use them.
    """

    def __init__(
        self, scale_table: Float32Array, y: FrequencyTables, z: FrequencyTables, medians: Float32Array
    ) -> None:
        self.scale_table = scale_table
        self.y = y
        self.z = z
        self.medians = medians
        self._buckets = _bucket_table(scale_table)
        # A scale above its bucket's entry belongs to the next one; nothing is above the last.
        self._bounds = np.append(scale_table[:-1], np.float32(np.inf))

    @classmethod
    def from_arrays(cls, arrays: Tensors) -> EntropyModel:
        """Build the model from the arrays of ``tables.npz``.

        Raises:
            BundleError: arrays are missing or inconsistent.
        """
        _require(arrays, {"scale_table": np.float32, "medians": np.float32})
        scale_table, medians = (np.ascontiguousarray(arrays[name]) for name in ("scale_table", "medians"))
        y = FrequencyTables.from_arrays(arrays, "y")
        z = FrequencyTables.from_arrays(arrays, "z")
        problems = []
        if not 1 <= len(scale_table) <= MAX_ROWS or len(scale_table) != len(y):
            problems.append(f"{len(scale_table)} scales and {len(y)} rows of y; expected as many, at most {MAX_ROWS}")
        elif not (np.isfinite(scale_table).all() and scale_table[0] > 0 and (scale_table[1:] > scale_table[:-1]).all()):
            problems.append("scale_table is not positive, finite and rising")
        if len(medians) != len(z):
            problems.append(f"{len(medians)} medians and {len(z)} rows of z; expected as many")
        if problems:
            raise BundleError("tables: " + "; ".join(problems))
        return cls(scale_table, y, z, medians)

    def build_indexes(self, scales: Float32Array) -> UInt8Array:
        """Return, for each scale, the row whose scale is the first not below it.

        Twin of ``np.searchsorted(scale_table[:-1], scales)``, several times faster: the upper 16 bits of a
        scale look up a row, and one comparison decides between it and the next.

        Args:
            scales: float32, any shape, any sign.

        Returns:
            uint8, same shape, in 0..L-1; scales above the table get the last row, NaN gets the first or last.
        """
        if self._buckets is None:
            slow: UInt8Array = np.searchsorted(self.scale_table[:-1], scales).astype(np.uint8)
            return slow
        scales = np.ascontiguousarray(scales, dtype=np.float32)
        indexes: UInt8Array = self._buckets[scales.view(np.uint32) >> _BUCKET_SHIFT]
        with np.errstate(invalid="ignore"):  # NaN compares false and keeps the last row
            indexes += scales > self._bounds[indexes]
        return indexes


def quantize(values: Float32Array, means: Float32Array, what: str) -> Int32Array:
    """Return ``round(values - means)``, ties to even, as whole numbers.

    Args:
        values: float32, any shape.
        means: float32, same shape.
        what: names the arrays in an error, such as ``graph step_03``.

    Returns:
        int32, same shape, within ±``MAX_SYMBOL``.

    Raises:
        BackendError: a difference is NaN, infinite or larger; clipping it would silently code another
            picture.
    """
    return integers_from_floats(np.rint(values - means), what)


def integers_from_floats(symbols: Float32Array, what: str) -> Int32Array:
    """Return whole numbers held in float32 as int32.

    Raises:
        BackendError: a value is not a whole number within ±``MAX_SYMBOL``.
    """
    with np.errstate(invalid="ignore"):
        fine = (np.abs(symbols) <= MAX_SYMBOL) & (np.rint(symbols) == symbols)
    if not fine.all():
        value = symbols[~fine].flat[0]
        raise BackendError(f"{what}: symbol {value} is not a whole number within ±{MAX_SYMBOL}")
    return symbols.astype(np.int32)


def dequantize(symbols: Int32Array, means: Float32Array) -> Float32Array:
    """Return ``symbols + means`` in float32."""
    return symbols.astype(np.float32) + means


def _bucket_table(scale_table: Float32Array) -> UInt8Array | None:
    """Return the row of each bucket's smallest scale: uint8 [65536]; None if a bucket holds two entries."""
    bits = np.arange(1 << 16, dtype=np.uint32) << _BUCKET_SHIFT
    lowest, highest = bits.view(np.float32), (bits | 0xFFFF).view(np.float32)
    first = np.searchsorted(scale_table[:-1], lowest)
    last = np.searchsorted(scale_table[:-1], highest)
    positive = slice(0, 0x7F80)  # below infinity; searchsorted puts all negative values first and NaN last
    if (last[positive] - first[positive] > 1).any():
        return None
    return first.astype(np.uint8)


def _require(arrays: Tensors, expected: dict[str, Any]) -> None:
    problems = []
    for name, dtype in expected.items():
        if name not in arrays:
            problems.append(f"{name} is missing")
        elif arrays[name].dtype != dtype or arrays[name].ndim != 1:
            found = arrays[name]
            problems.append(f"{name} is {found.dtype} {list(found.shape)}; expected {np.dtype(dtype)} [n]")
    if problems:
        raise BundleError("tables: " + "; ".join(problems))
