"""One number a codec: Bjontegaard delta rate, and how many photos look better at the same size."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import bjontegaard

from mlic.tools.compare.contenders import OURS
from mlic.tools.compare.measure import Point

FEWEST_POINTS = 2  # of a curve


@dataclass(frozen=True)
class Versus:
    """Our models against one codec.

    Attributes:
        codec: the other one.
        bd_rate_percent: by photo: bits that ours need more (less, where negative) at equal PSNR, averaged over the PSNR
            that both reach; None where none is.
        bd_rate_ms_ssim_percent: likewise at equal MS-SSIM in dB, -10 log10(1 - MS-SSIM).
        gains_db: by photo and quality of ours: PSNR of ours minus that of the other's largest file not above ours in
            size; None where the other has none so small.
    """

    codec: str
    bd_rate_percent: dict[str, float | None]
    bd_rate_ms_ssim_percent: dict[str, float | None]
    gains_db: dict[str, dict[str, float | None]]

    @property
    def mean_bd_rate_percent(self) -> float | None:
        """Mean over the photos that have one."""
        return _mean(self.bd_rate_percent.values())

    @property
    def mean_bd_rate_ms_ssim_percent(self) -> float | None:
        """Mean over the photos that have one."""
        return _mean(self.bd_rate_ms_ssim_percent.values())

    def mean_gain_db(self, quality: str) -> float | None:
        """Mean over the photos that have one."""
        return _mean(gains[quality] for gains in self.gains_db.values())

    def num_ahead(self, quality: str) -> int:
        """Photos on which ours is better at equal size; the other having no file so small counts."""
        gains = [by_quality[quality] for by_quality in self.gains_db.values()]
        return sum(gain is None or gain > 0 for gain in gains)


def _mean(values: object) -> float | None:
    known = [value for value in values if value is not None]  # type: ignore[attr-defined]
    return mean(known) if known else None


def bd_rates(points: Sequence[Point], codec: str, ms_ssim: bool = False) -> dict[str, float | None]:
    """Return the Bjontegaard delta rate of ours against a codec in percent, by photo (VCEG-M33, piecewise cubic).

    Args:
        points: of all photos and codecs.
        codec: the other one.
        ms_ssim: at equal MS-SSIM in dB instead of at equal PSNR.
    """
    photos = dict.fromkeys(point.photo for point in points)
    return {
        photo: bd_rate(_curve(points, photo, codec, ms_ssim), _curve(points, photo, OURS, ms_ssim)) for photo in photos
    }


def bd_rate(anchor: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> float | None:
    """Return how many percent more bits ``test`` needs than ``anchor``; None where their qualities do not overlap.

    Args:
        anchor: (bpp, quality in dB), any order.
        test: likewise.
    """
    curves = [_rising(curve) for curve in (anchor, test)]
    if min(map(len, curves)) < FEWEST_POINTS:
        return None
    low, high = max(curve[0][1] for curve in curves), min(curve[-1][1] for curve in curves)
    if low >= high:
        return None
    (rate_a, dist_a), (rate_t, dist_t) = (zip(*curve, strict=True) for curve in curves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of partial overlap, which captions say
        value = bjontegaard.bd_rate(
            rate_a, dist_a, rate_t, dist_t, method="pchip", require_matching_points=False, min_overlap=0
        )
    return float(value) if math.isfinite(value) else None


def _curve(points: Sequence[Point], photo: str, codec: str, ms_ssim: bool) -> list[tuple[float, float]]:
    chosen = [point for point in points if point.photo == photo and point.codec == codec]
    if not ms_ssim:
        return [(point.bpp, point.psnr_db) for point in chosen if math.isfinite(point.psnr_db)]
    return [(p.bpp, ms_ssim_db(p.ms_ssim)) for p in chosen if p.ms_ssim is not None and p.ms_ssim < 1]


def ms_ssim_db(value: float) -> float:
    """Return -10 log10(1 - value), which spreads what lies close to 1."""
    return -10 * math.log10(1 - value)


def _rising(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points by rising rate, without those that are no better than a cheaper one."""
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(curve):
        if not kept or (rate > kept[-1][0] and quality > kept[-1][1]):
            kept.append((rate, quality))
    return kept
