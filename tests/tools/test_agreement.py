"""How engines are compared."""

import math

import numpy as np
import pytest

from mlic.runtime import Codec
from mlic.tools.agreement import MAX_FACTOR, by_step, difference, is_repaired, known, margin, overall, scales_of


@pytest.fixture
def entropy(codec):
    return codec.bundle.entropy


@pytest.fixture
def scales(rng):
    """Two pictures of three steps."""
    return [[np.exp(rng.uniform(-2, 3, (1, 2, 9, 11))).astype(np.float32) for _ in range(3)] for _ in range(2)]


def moved(scales, by):
    return [[step + np.float32(by) for step in picture] for picture in scales]


def test_symbols_that_are_known_give_the_scales_that_the_encoder_had(codec, make_photo):
    pixels = make_photo(100, 150)
    found = scales_of(codec, [known(codec, pixels)])[0]
    assert all(np.array_equal(a, b) for a, b in zip(found, codec.trace(pixels)["scales"], strict=True))


def test_a_difference_counts_flips_and_measures_scales(entropy):
    bound = float(entropy.scale_table[2])
    left = [np.array([[bound + 1e-3, 5, 5, 5]], np.float32)]
    right = [np.array([[bound - 1e-3, 5, 5, 5.5]], np.float32)]
    found = difference(entropy, left, right)
    assert (found.count, found.flips, found.equal, found.largest) == (4, 1, 0.5, 0.5)
    assert found.flips_per_million == 250_000
    assert found.mean == pytest.approx(0.502 / 4, rel=1e-4)


def test_steps_are_compared_across_pictures(entropy, scales):
    other = [[step.copy() for step in picture] for picture in scales]
    other[1][2] += np.float32(0.25)
    steps = by_step(entropy, scales, other)
    assert [step.largest for step in steps] == [0, 0, pytest.approx(0.25, rel=1e-3)]
    assert [step.count for step in steps] == [2 * 198] * 3
    assert overall(entropy, scales, other).count == 6 * 198


def test_engines_that_do_not_differ_have_an_infinite_margin(entropy, scales):
    assert margin(entropy, scales, moved(scales, 0)) == math.inf


def test_the_margin_is_the_largest_factor_at_which_all_is_repaired(entropy, scales):
    other = moved(scales, 1e-6)
    found = margin(entropy, scales, other)
    assert 1 <= found <= MAX_FACTOR
    pairs = [*zip(scales, other, strict=True), *zip(other, scales, strict=True)]
    assert all(is_repaired(entropy, theirs, ours, found) for theirs, ours in pairs)
    assert found == MAX_FACTOR or not all(is_repaired(entropy, *pair, factor=2 * found) for pair in pairs)


def test_engines_beyond_repair_have_no_margin(entropy, rng):
    left, right = ([[np.exp(rng.uniform(-2, 3, 30_000)).astype(np.float32)]] for _ in range(2))
    assert margin(entropy, left, right) == 0


def test_repair_is_tried_with_the_checksums_of_choice(entropy, scales):
    nudged = moved(scales, 2e-6)
    assert is_repaired(entropy, scales[0], nudged[0], chunk_log2=6, width=32)


def test_replay_refuses_symbols_of_another_size(codec: Codec, make_photo):
    from mlic.runtime.errors import BackendError

    small, large = (known(codec, make_photo(side, side)) for side in (64, 128))
    with pytest.raises(BackendError):
        codec.replay(small.z_symbols, large.symbols)
