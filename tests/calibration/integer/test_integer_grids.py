"""Grids of 8 bits, and results in more than 8."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlic.calibration.integer.convolution import piece_values
from mlic.calibration.integer.grids import SIGNED_ZERO, Grid, free, means, positive, symmetric, with_zero
from mlic.calibration.integer.statistics import Statistics, measure


def statistics_of(rows: np.ndarray) -> Statistics:
    return measure([("x", 0)], lambda _: [lambda: {"x": rows}])["x", 0]


ROWS = np.random.default_rng(1).normal([[0.0], [3.0], [-2.0]], [[1.0], [0.2], [5.0]], (3, 20_000))


@settings(max_examples=100, deadline=None)
@given(st.floats(1e-4, 1e3), st.integers(-300, 600))
def test_codes_and_values_round_trip(scale, zero):
    grid = Grid(np.asarray(scale), np.asarray(zero))
    values = grid.values()
    np.testing.assert_array_equal(grid.codes(values)[0], np.arange(256))


@pytest.mark.parametrize("axis", [0, None])
def test_zero_is_exact_and_common_where_products_take_it(axis):
    rows = ROWS if axis == 0 else ROWS.reshape(1, -1)
    for grid in (symmetric(statistics_of(rows), axis), positive(statistics_of(np.abs(rows)), axis)):
        assert grid.common_zero is not None
        codes = grid.codes(np.zeros((1, 1)))
        np.testing.assert_array_equal(codes, grid.common_zero)
        np.testing.assert_array_equal(grid.values()[:, grid.common_zero], 0.0)
        assert (grid.axis is None) == (axis is None)


def test_a_zero_outside_of_the_codes_is_not_common():
    assert Grid(np.ones(2), np.asarray(256), 1).common_zero is None
    assert Grid(np.ones(2), np.asarray(-1), 1).common_zero is None
    assert Grid(np.ones(2), np.array([3, 4]), 1).common_zero is None
    assert Grid(np.ones(2), np.array([4, 4]), 1).common_zero == 4


def test_symmetric_grids_cut_tails_where_that_costs_less():
    rows = np.random.default_rng(2).laplace(0, 1, (1, 100_000))
    grid = symmetric(statistics_of(rows), 0)
    reach = float(grid.scale[0]) * 127
    assert reach < 0.9 * np.abs(rows).max()

    def loss(scale: float) -> float:
        one = Grid(np.array([scale]), np.asarray(SIGNED_ZERO), 0)
        return float(np.mean((one.values()[0][one.codes(rows)] - rows) ** 2))

    assert loss(grid.scale[0]) < loss(np.abs(rows).max() / 127)
    assert loss(grid.scale[0]) < 1.1 * min(loss(reach * share / 127) for share in np.geomspace(0.3, 3, 40))


def test_free_grids_cover_values_far_from_zero():
    rows = np.random.default_rng(3).uniform(100, 101, (1, 10_000))
    grid = free(statistics_of(rows), 0, lambda values: values)
    error = grid.values()[0][grid.codes(rows)] - rows
    assert np.abs(error).max() < 1 / 255
    assert grid.common_zero is None


def test_free_grids_spend_codes_where_the_function_moves():
    rows = np.random.default_rng(4).uniform(-8, 8, (1, 50_000))
    grid = free(statistics_of(rows), 0, np.tanh)
    reach = grid.values()[0][[0, 255]]
    assert reach[0] > -6  # beyond that tanh is flat
    assert reach[1] < 6


def test_means_after_clipping_are_those_of_clipped_values():
    grid = with_zero(statistics_of(ROWS), 0, SIGNED_ZERO)
    narrow = Grid(grid.scale / 4, grid.zero, 0)
    before, after = means(statistics_of(ROWS), narrow)
    np.testing.assert_allclose(before, ROWS.mean(1), atol=0.02)
    np.testing.assert_allclose(
        after, (narrow.scale[:, None] * np.clip(ROWS / narrow.scale[:, None], -SIGNED_ZERO, 127)).mean(1), atol=0.02
    )


def test_parts_keep_their_channels():
    grid = Grid(np.array([1.0, 2.0, 3.0]), np.array([0, 5, 9]), 1)
    part = grid.part(slice(1, 3))
    np.testing.assert_array_equal(part.scale, [2.0, 3.0])
    np.testing.assert_array_equal(part.zero, [5, 9])
    assert Grid(np.asarray(1.0), np.asarray(0)).part(slice(0, 1)).axis is None


def test_grids_have_equal_keys_if_they_are_equal():
    one = Grid(np.array([1.0, 2.0]), np.asarray(128), 1)
    assert one.key == Grid(np.array([1.0, 2.0]), np.asarray(128), 1).key
    for other in (one.moved(2), Grid(np.array([1.0, 2.5]), one.zero, 1), Grid(one.scale, np.asarray(127), 1)):
        assert other.key != one.key


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=8), st.floats(-5, 5))
def test_values_of_pieces_rise_and_meet_the_limits(widths, start):
    limits = start + np.cumsum([0.0, *widths])[None]
    values = piece_values(limits)[0]
    assert len(values) == 255 * len(widths) + 1
    assert np.all(np.diff(values) > 0)
    np.testing.assert_allclose(values[::255], limits[0], atol=1e-9)
