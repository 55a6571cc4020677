"""Ranges of known distributions."""

import numpy as np
import pytest

from mlic.calibration.observe import BINS, Observation
from mlic.calibration.ranges import (
    LEVELS,
    METHODS,
    PERCENTILE,
    SHARES,
    entropy,
    mean_squared_error,
    min_max,
    percentile,
)
from tests.calibration.graphs import observation_of


def skewed(rng):
    return np.concatenate([rng.laplace(size=100_000), 3 * np.abs(rng.laplace(size=100_000))])


def gelu_like(rng):
    values = 2 * rng.normal(size=100_000)
    return values / (1 + np.exp(-1.7 * values))


DISTRIBUTIONS = {
    "normal": lambda rng: rng.normal(size=100_000),
    "skewed": skewed,
    "gelu": gelu_like,
    "positive": lambda rng: rng.uniform(5, 6, 10_000),
    "negative": lambda rng: -rng.exponential(size=100_000) - 1,
    "two values": lambda rng: rng.choice([-1.0, 2.0], 1000),
}


@pytest.fixture(params=DISTRIBUTIONS)
def values(request, rng):
    return DISTRIBUTIONS[request.param](rng).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_every_range_holds_zero_and_lies_within_all_values_and_zero(method, values):
    low, high = METHODS[method](observation_of(values))
    assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)
    assert low < high


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("value", "expected"), [(0.0, (0, 0)), (2.5, (0, 2.5)), (-2.5, (-2.5, 0))])
def test_constant_tensor_has_the_range_from_zero_to_it(method, value, expected):
    assert METHODS[method](observation_of(np.array([value]))) == expected


def test_min_max_is_the_least_and_the_largest_value():
    assert min_max(observation_of(np.array([-3.0, 1.0, 7.0]))) == (-3, 7)
    assert min_max(observation_of(np.array([3.0, 7.0]))) == (0, 7)
    assert min_max(observation_of(np.array([-7.0, -3.0]))) == (-7, 0)


def test_percentile_leaves_out_half_of_the_rest_at_each_end(rng):
    values = np.append(rng.permutation(np.linspace(-1, 1, 1_000_000)), [-50, 90])
    counts, _ = np.histogram(values, BINS, (-50, 90))
    found = percentile(Observation(-50, 90, counts, 1.0))
    expected = np.percentile(values, [(100 - PERCENTILE) / 2, (100 + PERCENTILE) / 2])
    np.testing.assert_allclose(found, expected, atol=140 / BINS)  # to a bin


@pytest.mark.parametrize(("side", "expected"), [(1, (-1, 2)), (-1, (-2, 1))])
def test_percentile_leaves_out_rare_values_and_no_frequent_ones(side, expected):
    # 0.002 % at 10 are less than half of 0.01 %; with the 0.006 % at 2 they are more
    values = np.repeat([-1.0, 1.0, 2.0, 10.0], [25_000, 24_996, 3, 1]) * side
    np.testing.assert_allclose(percentile(observation_of(values)), expected, atol=11 / BINS)


def quantized(values, low, high):
    """Return values rounded to 256 levels of which one is zero, and clipped."""
    step = (high - low) / (LEVELS - 1)
    zero = np.rint(-low / step)
    return (np.clip(np.rint(values / step) + zero, 0, LEVELS - 1) - zero) * step


def test_mse_is_near_the_best_of_all_pairs_of_limits(values):
    def error(limits):
        return np.mean((quantized(values, *limits) - values) ** 2)

    low, high = min(values.min(), 0), max(values.max(), 0)
    best = min(error((low * a, high * b)) for a in SHARES for b in SHARES)
    # A histogram of eight bins a level adds to every loss, and ends are searched one after the other
    assert error(mean_squared_error(observation_of(values))) <= 1.03 * best + 1e-9


@pytest.mark.parametrize("sign", [1, -1])
def test_each_end_is_searched_with_what_was_found_for_the_other(sign, rng):
    observation = observation_of(sign * np.append(rng.normal(size=1_000_000), [-20, -20, -20, 20, 20]))

    def error(limits):
        return (observation.counts * (quantized(observation.centres, *limits) - observation.centres) ** 2).sum()

    best = min(error((-20 * a, 20 * b)) for a in SHARES for b in SHARES)
    assert error(mean_squared_error(observation)) <= 1.01 * best


def test_entropy_clips_an_outlier_that_min_max_keeps(rng):
    values = np.append(rng.normal(size=100_000), 20)
    observation = observation_of(values)
    low, high = entropy(observation)
    assert min_max(observation)[1] == 20
    assert 4 <= high <= 5  # the largest of the others is 4.6
    assert low == pytest.approx(values.min(), rel=0.1)


def test_entropy_keeps_all_of_a_distribution_without_tails(rng):
    values = rng.uniform(-1, 3, 1_000_000)
    assert entropy(observation_of(values)) == pytest.approx((-1, 3), rel=0.03)
