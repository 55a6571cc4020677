"""Which indexes the encoder must have had."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlic.runtime import syndrome_reference
from mlic.runtime.checksums import CHECKSUMS
from mlic.runtime.repair import MARGIN, Reach, Repair, costs_of, sets_with_sum

TABLE = np.exp(np.linspace(math.log(0.11), math.log(256), 64)).astype(np.float32)
NOISE = 2e-6  # of a scale; what engines differ by


def indexes_of(scales):
    return np.searchsorted(TABLE[:-1], scales).astype(np.uint8)


def explain(ours, theirs, width=16):
    """Return the explanations that a decoder with scales ``ours`` finds for an encoder with scales ``theirs``."""
    checksum = CHECKSUMS[width]
    repair = Repair(TABLE, checksum)
    indexes = indexes_of(ours)
    sums = [checksum.of(memoryview(values)) for values in (indexes, indexes_of(theirs))]
    return repair.explanations(repair.candidates(indexes, ours), checksum.difference(*sums))


def applied(ours, explanation):
    indexes = indexes_of(ours)
    indexes[explanation.places] = explanation.indexes
    return indexes


def scales_with(rng, count, *distances):
    """Return scales of which the first few lie at given distances above a boundary."""
    scales = np.exp(rng.uniform(math.log(0.08), math.log(40), count)).astype(np.float32)
    bounds = TABLE[rng.integers(0, 30, len(distances))]
    scales[: len(distances)] = bounds + np.asarray(distances, np.float32)
    return rng.permutation(scales)


@pytest.mark.parametrize("width", [16, 32])
@pytest.mark.parametrize("flips", [1, 2, 3, 4, 6])
def test_flips_of_the_nearest_are_found_first(rng, width, flips):
    ours = scales_with(rng, 24576, *([1e-6] * flips))
    near = np.abs(ours[:, None] - TABLE[None, :40]).min(axis=1) < 1.5e-6
    theirs = np.where(near, ours - np.float32(4e-6), ours)
    assert np.count_nonzero(indexes_of(ours) != indexes_of(theirs)) >= flips
    found = explain(ours, theirs, width)
    assert np.array_equal(applied(ours, found[0]), indexes_of(theirs))


@given(st.integers(0, 2**32 - 1), st.sampled_from([16, 32]))
@settings(deadline=None, max_examples=60)
def test_the_encoders_indexes_are_first_among_the_explanations_at_the_noise_of_engines(seed, width):
    rng = np.random.default_rng(seed)
    ours = scales_with(rng, 24576)
    theirs = (ours + rng.normal(0, NOISE, ours.shape)).astype(np.float32)
    assert np.array_equal(applied(ours, explain(ours, theirs, width)[0]), indexes_of(theirs))


@given(st.integers(0, 2**32 - 1), st.sampled_from([16, 32]))
@settings(deadline=None, max_examples=20)
def test_the_twin_finds_the_same_explanations_at_the_same_costs(seed, width):
    rng = np.random.default_rng(seed)
    ours = scales_with(rng, 40)
    theirs = (ours * (1 + rng.normal(0, 0.05, ours.shape))).astype(np.float32)
    checksum = CHECKSUMS[width].of(memoryview(indexes_of(theirs)))
    limit = width * math.log(2) + MARGIN
    expected = {
        frozenset(changes): cost
        for cost, changes in syndrome_reference.explanations(
            ours.astype(float), TABLE.astype(float), checksum, width, 3
        )
        if cost <= limit
    }
    found = {
        frozenset(zip(one.places.tolist(), one.indexes.tolist(), strict=True)): one.cost
        for one in explain(ours, theirs, width)
        if len(one.places) <= 3
    }
    assert found.keys() == expected.keys()
    assert all(found[changes] == pytest.approx(cost, rel=1e-9, abs=1e-9) for changes, cost in expected.items())


@given(st.lists(st.integers(0, 15), max_size=12), st.integers(0, 15))
def test_every_set_is_found_once_whatever_its_size(effects, wanted):
    """Small numbers, so that many sets have the same sum."""
    values = np.array(effects, np.uint64)
    expected = []
    for mask in range(1 << len(effects)):
        chosen = tuple(place for place in range(len(effects)) if mask >> place & 1)
        if np.bitwise_xor.reduce(values[list(chosen)], initial=0) == wanted:
            expected.append(chosen)
    assert sets_with_sum(values, wanted, Reach(12, 12, 12, 12)) == sorted(expected)
    shorter = [chosen for chosen in expected if len(chosen) <= 3]
    assert [one for one in sets_with_sum(values, wanted, Reach(12, 12, 12, 0)) if len(one)] == sorted(shorter)[
        1 if wanted == 0 else 0 :
    ]


def test_no_change_costs_nothing_and_near_changes_cost_less_than_far_ones():
    distances = np.array([1e-8, 1e-7, 1e-6, 1e-5, 1e-4])
    costs = costs_of(distances, [(), (0,), (1,), (2,), (3,), (4,)])
    assert costs[0] == 0
    assert costs == sorted(costs)
    assert costs_of(distances, [(0, 1)])[0] < costs_of(distances, [(0, 4)])[0]


def test_indexes_of_unrelated_scales_are_explained_by_chance_alone(rng):
    """About 2^26 sets are looked at, of which one in 2^32 fits."""
    unrelated = [explain(scales_with(rng, 24576), scales_with(rng, 24576), 32) for _ in range(20)]
    assert sum(map(len, unrelated)) <= 3


def test_a_scale_on_a_boundary_and_scales_outside_the_table_are_candidates_for_their_only_neighbour():
    repair = Repair(TABLE, CHECKSUMS[16])
    scales = np.array([TABLE[5], -3, 1000, TABLE[0]], np.float32)
    found = repair.candidates(indexes_of(scales), scales)
    by_place = dict(zip(found.places.tolist(), found.indexes.tolist(), strict=True))
    assert by_place == {0: 6, 1: 1, 2: 62, 3: 1}
    assert found.distances[:2].tolist() == [0, 0]


def test_of_equally_near_scales_the_first_are_candidates():
    scales = np.full(5000, TABLE[5], np.float32)
    scales[4000] = TABLE[7]
    found = Repair(TABLE, CHECKSUMS[16]).candidates(indexes_of(scales), scales)
    assert found.places.tolist() == list(range(1024))


def test_a_table_of_one_entry_has_no_candidates():
    repair = Repair(TABLE[:1], CHECKSUMS[16])
    scales = np.ones(9, np.float32)
    found = repair.candidates(np.zeros(9, np.uint8), scales)
    assert len(found.places) == 0
    assert repair.explanations(found, 77) == []
