"""Weights as integers: the bounds that make engines agree hold for any weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlic.calibration.errors import CalibrationError
from mlic.calibration.integer import weights as module
from mlic.calibration.integer.weights import ACCUMULATOR, BIAS, PAIR, corrected, integer_weights

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 40))
KINDS = ("normal", "one sign", "one large", "alike", "zero")


def weights_of(kind: str, size: tuple[int, int], seed: int, magnitude: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, magnitude, size)
    if kind == "one sign":
        weights = np.abs(weights)
    if kind == "one large":
        weights[:, 0] *= 1000
    if kind == "alike":
        weights[:] = magnitude
    return weights * 0 if kind == "zero" else weights


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KINDS),
    SIZES,
    st.integers(0, 2**31),
    st.floats(1e-6, 1e6),
    st.floats(-1e4, 1e4),
    st.integers(0, 255),
)
def test_bounds_hold_for_any_weights(kind, size, seed, magnitude, offset, zero):
    weights = weights_of(kind, size, seed, magnitude)
    bias = np.full(len(weights), offset * magnitude)
    found = integer_weights(weights, bias, zero, "layer")
    integers = found.integers.astype(np.int64)
    assert found.integers.dtype == np.int8
    assert np.abs(integers).max() <= 127
    # The worst codes: 255 or 0 for each weight, whichever is farther from the sum.
    for sign in (1, -1):
        worst = np.where(sign * integers > 0, 255 - zero, -zero)
        sums = (integers * worst).sum(1)
        assert np.all(np.abs(sums) <= found.bound)
        assert np.all(np.abs(sums + found.bias) < ACCUMULATOR)
    assert np.all(np.abs(found.bias) < BIAS)
    for row in integers:
        for signed in (row, -row):
            largest = np.sort(np.maximum(signed, 0))[-2:].sum()
            assert largest <= PAIR
            assert largest * 255 <= 32767  # two products of neighbours in 16 bits


@settings(max_examples=50, deadline=None)
@given(SIZES, st.integers(0, 2**31), st.integers(0, 255))
def test_rounding_is_within_half_a_quantum(size, seed, zero):
    weights = weights_of("normal", size, seed, 0.1)
    bias = np.random.default_rng(seed).normal(0, 0.1, len(weights))
    found = integer_weights(weights, bias, zero, "layer")
    quantum = found.quantum[:, None]
    assert np.all(np.abs(found.integers * quantum - weights) <= quantum * (0.5 + 1e-9))
    assert np.all(np.abs(found.bias * found.quantum - bias) <= found.quantum * (0.5 + 1e-9))


@settings(max_examples=100, deadline=None)
@given(SIZES, st.integers(0, 2**31), st.integers(0, 255), st.floats(-1e6, 1e6))
def test_a_corrected_bias_keeps_the_bounds(size, seed, zero, more):
    weights = np.abs(weights_of("normal", size, seed, 0.1))
    before = integer_weights(weights, np.zeros(len(weights)), zero, "layer")
    after = corrected(before, np.full(len(weights), more))
    assert np.all(np.abs(after.bias.astype(np.int64)) < BIAS)
    assert np.all(np.abs(after.bias.astype(np.int64)) + after.bound < ACCUMULATOR)
    fits = np.abs(more) / before.quantum < min(BIAS, (ACCUMULATOR - before.bound).min()) - 1
    np.testing.assert_array_equal(after.bias[fits], np.rint(more / before.quantum)[fits])


def test_a_long_row_is_rounded_more_coarsely_than_a_short_one():
    short, long = (integer_weights(np.ones((1, n)), np.zeros(1), 128, "layer") for n in (8, 10_000))
    assert short.integers.max() == 64  # two neighbours of 64 are 128
    assert long.integers.max() == 13  # 10,000 * 13 * 128 < 2^24 <= 10,000 * 14 * 128
    assert long.bound[0] < ACCUMULATOR


def test_shape_is_kept():
    found = integer_weights(np.ones((3, 2, 5, 5)), np.zeros(3), 128, "layer")
    assert found.integers.shape == (3, 2, 5, 5)
    assert found.bias.dtype == np.int32


def test_a_layer_that_cannot_keep_the_bounds_is_named(monkeypatch: pytest.MonkeyPatch):
    for weights, bias in ((np.inf, 0.0), (1.0, np.nan)):
        with pytest.raises(CalibrationError, match=r"^graph h_s: layer first: its weights are not finite$"):
            integer_weights(np.full((1, 4), weights), np.array([bias]), 128, "graph h_s: layer first")
    monkeypatch.setattr(module, "STEPS", 0)  # no weights are known that need more
    with pytest.raises(CalibrationError, match=r"^second: no weights keep the accumulator below 2\^24$"):
        integer_weights(np.ones((1, 4)), np.zeros(1), 128, "second")
