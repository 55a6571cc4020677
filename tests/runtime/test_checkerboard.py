"""The checkerboard halves: fixed values first, then properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.checkerboard import part_of_y, squeeze, unsqueeze
from mlic.runtime.errors import ShapeError

VALUES = np.arange(12).reshape(3, 4)
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 4).map(lambda half: 2 * half))


def test_anchors_are_where_row_plus_column_is_odd():
    assert squeeze(VALUES, "anchor").tolist() == [[1, 3], [4, 6], [9, 11]]


def test_nonanchors_are_where_row_plus_column_is_even():
    assert squeeze(VALUES, "nonanchor").tolist() == [[0, 2], [5, 7], [8, 10]]


def test_unsqueeze_leaves_zeros_at_the_other_positions():
    assert unsqueeze(squeeze(VALUES, "anchor"), "anchor").tolist() == [[0, 1, 0, 3], [4, 0, 6, 0], [0, 9, 0, 11]]


@given(SIZES, st.sampled_from([np.float32, np.int32, np.uint8]))
def test_the_halves_add_up_to_the_whole(shape, dtype):
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    halves = [unsqueeze(squeeze(values, kind), kind) for kind in ("anchor", "nonanchor")]
    assert np.array_equal(halves[0] + halves[1], values)
    assert halves[0].dtype == dtype


@given(SIZES)
def test_squeeze_agrees_with_the_definition(shape):
    values = np.arange(np.prod(shape)).reshape(shape)
    odd = np.indices(shape)[-2:].sum(axis=0) % 2 == 1
    assert squeeze(values, "anchor").ravel().tolist() == values[odd].tolist()
    assert squeeze(values, "nonanchor").ravel().tolist() == values[~odd].tolist()


def test_all_positions_stay_as_they_are():
    assert np.array_equal(squeeze(VALUES, "all"), VALUES)
    assert np.array_equal(unsqueeze(VALUES, "all"), VALUES)


def test_part_of_y_takes_channels_and_is_contiguous():
    y = np.arange(2 * 3 * 2 * 4, dtype=np.float32).reshape(1, 6, 2, 4)
    part = part_of_y(y, (2, 5), "anchor")
    assert part.shape == (1, 3, 2, 2)
    assert part.flags.c_contiguous
    assert part[0, 0].tolist() == [[17, 19], [20, 22]]
    assert part_of_y(y, (0, 6), "all").shape == (1, 6, 2, 4)


def test_an_odd_width_is_refused():
    with pytest.raises(ShapeError, match="even width; got 3"):
        squeeze(np.zeros((2, 3)), "anchor")
