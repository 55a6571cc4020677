"""How pictures are cut into tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.manifest import Tiling
from mlic.runtime.tiles import Box, Tile, tile_grid

ANY_SIDE = (1 << 20, 1 << 20)
TILINGS = st.tuples(st.sampled_from([16, 32, 64]), st.integers(0, 4)).map(
    lambda pair: Tiling(pair[0], pair[0] * pair[1])
)
SIDES = st.integers(1, 40).map(lambda count: 64 * count)


@given(SIDES, SIDES, TILINGS, st.integers(4096, 1 << 20))
def test_tiles_keep_every_pixel_once_and_compute_a_halo_around_it(height, width, tiling, tile_pixels):
    seen = np.zeros((height // 16, width // 16), int)
    tiles = tile_grid(height, width, tiling, tile_pixels, ANY_SIDE)
    for computed, kept in tiles:
        seen[kept.divided(16).rows, kept.divided(16).columns] += 1
        for sides, first, end in ((("top", "height"), 0, height), (("left", "width"), 0, width)):
            (outer, outer_size), (inner, inner_size) = (
                [getattr(box, side) for side in sides] for box in (computed, kept)
            )
            assert outer % tiling.multiple == inner % tiling.multiple == 0
            assert inner - outer >= tiling.halo or outer == first == inner
            outer_end, inner_end = outer + outer_size, inner + inner_size
            assert outer_end - inner_end >= tiling.halo or outer_end == end == inner_end
    assert (seen == 1).all()
    assert len({(tile.computed.height, tile.computed.width) for tile in tiles}) == 1


@given(SIDES, SIDES, TILINGS, st.integers(4096, 1 << 20))
def test_tiles_are_no_larger_than_asked_where_the_halo_allows_it(height, width, tiling, tile_pixels):
    computed = tile_grid(height, width, tiling, tile_pixels, ANY_SIDE)[0].computed
    # The least that can be cut: a multiple between two halos, or all of a side that is no longer.
    least = [min(side, 2 * tiling.halo + tiling.multiple + 64) for side in (height, width)]
    assert computed.height * computed.width <= max(tile_pixels, least[0] * least[1])


def test_a_picture_up_to_a_tile_is_one_and_so_is_one_without_a_tiling():
    whole = Box(0, 0, 512, 768)
    assert tile_grid(512, 768, Tiling(16, 64), 512 * 768, ANY_SIDE) == [Tile(whole, whole)]
    assert len(tile_grid(512, 768, Tiling(16, 64), 512 * 768 - 1, ANY_SIDE)) == 2
    assert tile_grid(512, 768, None, 1, (1, 1)) == [Tile(whole, whole)]


def test_tiles_of_a_picture_written_out():
    assert tile_grid(64, 512, Tiling(16, 32), 64 * 208, ANY_SIDE) == [
        Tile(Box(0, 0, 64, 176), Box(0, 0, 64, 144)),
        Tile(Box(0, 112, 64, 176), Box(0, 144, 64, 112)),
        Tile(Box(0, 224, 64, 176), Box(0, 256, 64, 112)),
        Tile(Box(0, 336, 64, 176), Box(0, 368, 64, 144)),
    ]


@pytest.mark.parametrize("size", [(3328, 4608), (4608, 3328), (8192, 8192)])
def test_no_other_number_of_equal_tiles_computes_less(size):
    tiling, tile_pixels = Tiling(16, 112), 1 << 20
    tiles = tile_grid(*size, tiling, tile_pixels, ANY_SIDE)
    found = sum(tile.computed.height * tile.computed.width for tile in tiles)
    for rows in range(1, 30):
        for columns in range(1, 30):
            sides = [-(-(side + 224 * (n - 1)) // (16 * n)) * 16 for side, n in zip(size, (rows, columns), strict=True)]
            if sides[0] * sides[1] <= tile_pixels and min(sides) >= 240:
                assert found <= sides[0] * sides[1] * rows * columns


def test_tiles_stay_within_what_engines_were_built_for():
    tiles = tile_grid(64, 1 << 14, Tiling(16, 64), 1 << 20, (4096, 4096))
    assert len(tiles) == 5
    assert all(tile.computed.width <= 4096 for tile in tiles)
    assert tile_grid(64, 4096, Tiling(16, 64), 1 << 20, (4096, 4096))[0].computed == Box(0, 0, 64, 4096)
    # Tiles that are smaller than the halo allows cannot be had: the smallest there are.
    assert tile_grid(64, 512, Tiling(16, 64), 1 << 20, (64, 64))[0].computed.width == 144


def test_the_widest_picture_is_cut_at_once():
    tiles = tile_grid(256, 1 << 20, Tiling(16, 112), 1 << 20, (4096, 4096))
    assert 256 <= len(tiles) < 300
    assert tiles[-1].computed.columns.stop == 1 << 20


def test_boxes_meet_move_and_divide():
    box = Box(16, 32, 48, 64)
    assert box.common(Box(0, 0, 32, 64)) == Box(16, 32, 16, 32)
    assert box.common(Box(64, 0, 32, 64)) is None
    assert box.moved(-16, 1) == Box(0, 33, 48, 64)
    assert box.divided(16) == Box(1, 2, 3, 4)
    assert (box.rows, box.columns) == (slice(16, 64), slice(32, 96))
