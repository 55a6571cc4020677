"""BD-rate on curves whose answer is known, and who is ahead."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.tools.compare.measure import Point
from mlic.tools.compare.summary import Versus, bd_rate, bd_rates, ms_ssim_db

CURVE = [(0.1, 28.0), (0.2, 30.5), (0.4, 33.0), (0.8, 36.0), (1.6, 39.0)]


@given(st.floats(0.2, 5.0))
def test_a_curve_at_a_multiple_of_the_rate_has_that_bd_rate(factor: float):
    other = [(rate * factor, quality) for rate, quality in CURVE]
    assert bd_rate(CURVE, other) == pytest.approx(100 * (factor - 1), abs=0.05)
    assert bd_rate(other, CURVE) == pytest.approx(100 * (1 / factor - 1), abs=0.05)


def test_three_points_among_many_are_compared_where_they_lie():
    dense = [(2 ** (x / 4), 30.0 + x) for x in range(-12, 13)]  # 4 dB for each doubling of the rate
    ours = [(0.9 * 2 ** (x / 4), 30.0 + x) for x in (-8, 0, 8)]
    assert bd_rate(dense, ours) == pytest.approx(-10, abs=0.05)


def test_order_of_points_does_not_matter():
    other = [(rate * 1.3, quality) for rate, quality in CURVE]
    assert bd_rate(CURVE[::-1], other) == bd_rate(CURVE, other[::-1])


def test_no_common_quality_or_single_points_have_no_bd_rate():
    above = [(rate, quality + 20) for rate, quality in CURVE]
    assert bd_rate(CURVE, above) is None
    assert bd_rate(CURVE, CURVE[:1]) is None
    assert bd_rate([], CURVE) is None


def test_points_that_pay_for_nothing_are_left_out():
    # A higher rate at no better quality, as some encoders give: no curve through it could be inverted.
    assert bd_rate(CURVE, [*CURVE, (1.0, 35.0)]) == pytest.approx(0, abs=1e-6)


def test_ms_ssim_is_compared_in_decibels():
    assert ms_ssim_db(0.9) == pytest.approx(10)
    assert ms_ssim_db(0.99) == pytest.approx(20)


def point(photo: str, codec: str, bpp: float, psnr: float, ms_ssim: float | None) -> Point:
    return Point(photo, codec, "q", 100, bpp, psnr, ms_ssim, 0.0, 0.0)


def test_each_photo_is_compared_with_itself():
    points = [point("a", "jpeg", rate, quality, None) for rate, quality in CURVE]
    points += [point("a", "mlic", rate / 2, quality, None) for rate, quality in CURVE]
    points += [point("b", "jpeg", rate, quality + 1, 1 - 10 ** -(quality / 10)) for rate, quality in CURVE]
    points += [point("b", "mlic", rate * 2, quality + 1, 1 - 10 ** -(quality / 10)) for rate, quality in CURVE]
    assert bd_rates(points, "jpeg") == pytest.approx({"a": -50, "b": 100}, abs=0.1)
    assert bd_rates(points, "jpeg", ms_ssim=True) == pytest.approx({"a": None, "b": 100}, abs=0.1)


def test_lossless_points_do_not_break_the_curve():
    points = [point("a", codec, rate, quality, 1.0) for codec in ("jpeg", "mlic") for rate, quality in CURVE]
    points.append(point("a", "jpeg", 20.0, math.inf, 1.0))
    assert bd_rates(points, "jpeg") == {"a": pytest.approx(0, abs=1e-6)}
    assert bd_rates(points, "jpeg", ms_ssim=True) == {"a": None}


def test_means_leave_out_what_is_unknown():
    gains = {"a": {"low": 1.0, "high": None}, "b": {"low": -0.5, "high": None}, "c": {"low": None, "high": None}}
    row = Versus("jpeg", {"a": -10.0, "b": None, "c": -20.0}, {"a": None, "b": None, "c": None}, gains)
    assert row.mean_bd_rate_percent == -15
    assert row.mean_bd_rate_ms_ssim_percent is None
    assert (row.mean_gain_db("low"), row.mean_gain_db("high")) == (0.25, None)
    assert (row.num_ahead("low"), row.num_ahead("high")) == (2, 3)
