"""How many bits more symbols take when their distributions are not quite those of the float chain.

Tables have whole numbers only. They are those of normal distributions, so between whole numbers the information content
is that of the normal distribution that gives 0 the frequency that it has in the row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mlic.calibration.integer.functions import erf_of
from mlic.calibration.judge import PRECISION_BITS, bits_of
from mlic.runtime.arrays import Array
from mlic.runtime.entropy_model import EntropyModel

_SCALES_PER_ROW = 16  # standard deviations that expected costs of rows are tabulated for
_FARTHEST, _PLACES = 4, 32  # distances between means that they are tabulated for: up to 4, in 32 to a step
_REACH = 6  # standard deviations; beyond lies less than one frequency of 2^24


@dataclass(frozen=True)
class Cost:
    """Additional bits, or percent of them.

    Attributes:
        expected: over all symbols that might have been coded, if they are distributed as the float chain says.
        coded: of the symbols that were coded. About the same, and it holds for a model that is wrong about its symbols
            too; but which symbols happen to lie where a table is a little better or worse is chance, more of it than
            what most layers cost.
    """

    expected: float
    coded: float

    def __add__(self, other: Cost) -> Cost:
        """Return both together."""
        return Cost(self.expected + other.expected, self.coded + other.coded)

    def percent_of(self, bits: float) -> Cost:
        """Return it in percent."""
        return Cost(100 * self.expected / bits, 100 * self.coded / bits)


class Information:
    """Knows what symbols cost.

    Args:
        entropy: the coder's tables; rows of y hold 0.
    """

    def __init__(self, entropy: EntropyModel) -> None:
        self._entropy = entropy
        tables = entropy.y
        shares = tables.frequencies[tables.starts - tables.offsets] / 2.0**PRECISION_BITS
        self._scales = np.array([0.5 / NormalDist().inv_cdf((1 + float(share)) / 2) for share in shares])
        largest = max(float(entropy.scale_table[-1]), 2 * self._scales[0])
        self._fine = np.geomspace(self._scales[0], largest, _SCALES_PER_ROW * len(tables))
        self._of_rows = self._expected_of_rows()
        self._of_shifts = self._expected_of_shifts()

    def more(self, symbols: Array, scales: Array, rows: Array, shift: Array) -> Cost:
        """Return what symbols take more with other rows and means than the float chain has.

        Args:
            symbols: float32, whole numbers, any shape.
            scales: float32, as large: of the float chain.
            rows: uint8, as large: of the tables, now.
            shift: float32, as large: the float chain's means less those that there are now.
        """
        symbols, scales, rows, shift = (array.reshape(-1) for array in (symbols, scales, rows, shift))
        return self._of_other_rows(symbols, scales, rows) + self._of_moved_means(symbols, rows, shift)

    def _of_other_rows(self, symbols: Array, scales: Array, rows: Array) -> Cost:
        before = self._entropy.build_indexes(scales)
        other = np.flatnonzero(before != rows)
        symbols, scales, before, rows = (array[other] for array in (symbols, scales, before, rows))
        coded = bits_of(self._entropy.y, symbols, rows) - bits_of(self._entropy.y, symbols, before)
        start, step = np.log(self._fine[0]), np.log(self._fine[1] / self._fine[0])
        nearest = np.rint((np.log(np.maximum(scales, self._fine[0])) - start) / step).astype(np.int64)
        found = self._of_rows[np.minimum(nearest, len(self._fine) - 1)]
        places = np.arange(len(other))
        return Cost(float((found[places, rows] - found[places, before]).sum()), coded)

    def _of_moved_means(self, symbols: Array, rows: Array, shift: Array) -> Cost:
        moved = np.flatnonzero(shift)
        whole, rows, shift = symbols[moved].astype(np.float64), rows[moved], shift[moved].astype(np.float64)
        coded = _bits(whole + shift, self._scales[rows]) - _bits(whole, self._scales[rows])
        place = np.minimum(np.abs(shift), _FARTHEST) * _PLACES
        low = np.minimum(place.astype(np.int64), _FARTHEST * _PLACES - 1)
        factor = self._of_shifts[rows, low] * (low + 1 - place) + self._of_shifts[rows, low + 1] * (place - low)
        return Cost(float((factor * shift**2).sum()), float(coded.sum()))

    def _expected_of_rows(self) -> Array:
        """Return what a symbol of each of the ``_fine`` scales takes in each row: float64 [scales, rows]."""
        result = np.empty((len(self._fine), len(self._scales)))
        for number, scale in enumerate(self._fine):
            symbols = np.arange(math.ceil(_REACH * scale) + 2, dtype=np.float64)  # and as many below 0
            shares = 2.0 ** -_bits(symbols, scale)
            shares[1:] *= 2
            result[number] = _bits(symbols, self._scales[:, None]) @ (shares / shares.sum())
        return result

    def _expected_of_shifts(self) -> Array:
        """Return what a mean costs that moved, over the square of the distance: float64 [rows, distances]."""
        distances = np.maximum(np.arange(_FARTHEST * _PLACES + 1) / _PLACES, 1e-2)
        result = np.empty((len(self._scales), len(distances)))
        for row, scale in enumerate(self._scales):
            reach = math.ceil(_REACH * scale) + 1
            symbols = np.arange(-reach, reach + 1, dtype=np.float64)[:, None]
            information = _bits(symbols, scale)
            shares = 2.0**-information
            more = (shares * (_bits(symbols + distances, scale) - information)).sum(0) / shares.sum()
            result[row] = more / distances**2
        return result


def _bits(values: Array, scales: Array) -> Array:
    """Return the information content of the unit interval around each value; as in tables, nothing is impossible."""
    reach = 1 / (scales * math.sqrt(2))
    shares = (erf_of((values + 0.5) * reach) - erf_of((values - 0.5) * reach)) / 2
    result: Array = -np.log2(np.maximum(shares, 2.0**-PRECISION_BITS))
    return result
