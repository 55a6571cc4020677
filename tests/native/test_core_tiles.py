"""Pictures are cut into the tiles that Python cuts them into."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from mlic.runtime.manifest import Tiling
from mlic.runtime.tiles import Tile, tile_grid
from mlic.runtime.transforms import TILE_PIXELS

pytestmark = pytest.mark.xdist_group("native_core")  # one build

ANY_SIDE = (1 << 20, 1 << 20)


def same_tiles(probe, height: int, width: int, tiling: Tiling | None, pixels: int, largest=ANY_SIDE) -> list[Tile]:
    expected = tile_grid(height, width, tiling, pixels, largest)
    multiple, halo = (0, 0) if tiling is None else (tiling.multiple, tiling.halo)
    found = probe.ask("tiles", np.array([height, width, multiple, halo, pixels, *largest]))
    assert found == [np.array(box).tobytes() for tile in expected for box in tile]
    return expected


def test_a_tile_is_as_large_as_pythons(probe):
    assert struct.unpack("<Q", probe.ask("tile_pixels")[0]) == (TILE_PIXELS,)


def test_tiles_lie_where_pythons_do(probe, rng):
    counts = set()
    for _ in range(600):
        multiple = int(rng.choice([16, 32, 64, 128]))
        tiling = Tiling(multiple, multiple * int(rng.integers(0, 5)))
        height, width = (128 * int(side) for side in rng.integers(1, 40, 2))
        largest = ANY_SIDE if rng.random() < 0.7 else tuple(64 * int(side) for side in rng.integers(1, 40, 2))
        pixels = int(2 ** rng.uniform(12, 21))
        counts.add(len(same_tiles(probe, height, width, tiling, pixels, largest)))
    assert {1, 2, 4} < counts


@pytest.mark.parametrize("size", [(3328, 4608), (16384, 16384), (64, 1 << 20), (1 << 20, 64)])
def test_large_pictures_are_cut_alike(probe, size):
    for tiling in (Tiling(16, 64), Tiling(16, 112), Tiling(64, 64), Tiling(16, 1 << 20), None):
        same_tiles(probe, *size, tiling, TILE_PIXELS, (4096, 4096))
