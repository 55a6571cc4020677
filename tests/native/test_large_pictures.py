"""libmlic with tiles, grids, regions and metadata: the files and the pictures of the Python runtime."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from mlic.runtime import Codec
from mlic.runtime.errors import MlicError, ShapeError
from mlic.runtime.manifest import Padding, Tiling
from mlic.runtime.metadata import MAX_EXIF_BYTES, Metadata, Source
from mlic.runtime.shipped import shipped_bundle
from mlic.runtime.transforms import TILE_PIXELS
from tests.native.programs import STATUSES, Driver, build, library, run
from tests.native.test_core_orientation import exif
from tests.native.test_native import check_conformance, status_of
from tests.tiny_bundle import build_tiny_bundle

pytestmark = pytest.mark.xdist_group("native")  # one build

SMALL_TILES = 1 << 14
SMALL_LATENTS = 1 << 14
METADATA = Metadata(b"a profile", exif("<"), b"<x tiff:Orientation='6'/>", Source.TRANSPARENT | Source.DEEP)


@pytest.fixture(scope="module")
def tiled(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Codec]:
    """A codec of small tiles and cells, whose padding is neither at the end alone nor of the cells' multiple."""
    folder = tmp_path_factory.mktemp("tiled") / "bundle"
    build_tiny_bundle(folder, padding=Padding(128, "centre", "edge"), tiling=Tiling(32, 32))
    limits = {"tile_pixels": SMALL_TILES, "latent_pixels": SMALL_LATENTS}
    return driver.open("tiled", folder, **limits), Codec.load(folder, "onnxruntime", threads=1, **limits)


@pytest.fixture(scope="module")
def shipped(driver: Driver) -> tuple[str, Codec]:
    """A model whose networks look beyond a tile, with tiles a little larger than what they see."""
    folder = shipped_bundle("low")
    limits = {"tile_pixels": 320 * 320}
    return driver.open("small tiles", folder, **limits), Codec.load(folder, "onnxruntime", threads=1, **limits)


def regions_of(height: int, width: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Return the whole, corners, and regions anywhere: x, y, width and height."""
    regions = [(0, 0, width, height), (0, 0, 1, 1), (width - 1, height - 1, 1, 1), (0, height // 2, width, 1)]
    for _ in range(6):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        regions.append((x, y, int(rng.integers(1, width - x + 1)), int(rng.integers(1, height - y + 1))))
    return regions


@pytest.mark.parametrize(("height", "width"), [(1, 1), (100, 130), (129, 127), (90, 1000), (300, 290)])
def test_files_and_regions_with_tiles_and_grids_are_the_same(driver, tiled, make_photo, rng, height, width):
    native, codec = tiled
    data = check_conformance(driver, native, codec, make_photo(height, width))
    assert (b"GRID" in data) == (height * width > SMALL_LATENTS)
    whole = codec.decode(data)
    for x, y, across, down in regions_of(height, width, rng):
        expected = whole[y : y + down, x : x + across]
        np.testing.assert_array_equal(driver.region(native, data, (x, y, across, down)), expected)


def test_regions_outside_the_picture_are_refused_alike(driver, tiled, make_photo):
    native, codec = tiled
    data = codec.encode(make_photo(30, 40))
    for region in ((0, 0, 0, 1), (0, 0, 1, 0), (40, 0, 1, 1), (0, 0, 41, 30), (1, 0, 40, 30), (0, 30, 1, 1)):
        with pytest.raises(ShapeError) as caught:
            codec.decode(data, region=region)
        assert driver.try_region(native, data, region) == (10, str(caught.value))


def test_tiles_of_networks_that_overlap_give_the_same_files(driver, shipped, make_photo, rng):
    native, codec = shipped
    pixels = make_photo(400, 460)
    data = check_conformance(driver, native, codec, pixels)
    whole = codec.decode(data)
    x, y, width, height = 300, 35, 61, 330
    expected = whole[y : y + height, x : x + width]
    np.testing.assert_array_equal(driver.region(native, data, (x, y, width, height)), expected)


def test_a_region_computes_only_its_cells_and_tiles(driver, tiled, make_photo):
    """What lies elsewhere may be damaged beyond its checksums: nobody looks at it."""
    native, codec = tiled
    data = codec.encode(make_photo(100, 1000))
    damaged = with_last_cell_forged(data)
    region = (0, 0, 40, 100)
    np.testing.assert_array_equal(driver.region(native, damaged, region), codec.decode(data)[:100, :40])
    with pytest.raises(MlicError) as caught:
        codec.decode(damaged)
    assert driver.try_to_decode(native, damaged)[0] == STATUSES[type(caught.value)]


def with_last_cell_forged(data: bytes) -> bytes:
    """Return a file with a grid whose last cell has another first word, and checksums that fit."""
    start, position = 0, 40
    while position < len(data) - 12:
        (length,) = struct.unpack_from("<I", data, position)
        start, position = position + 4, position + 4 + length
    cell = bytearray(data[start:position])
    cell[32:36] = b"\xff\xff\xff\xff"  # behind header and frame: the first word of LATS
    struct.pack_into("<I", cell, len(cell) - 4, zlib.crc32(cell[:-4]))
    changed = data[:start] + bytes(cell) + data[position:-4]
    return changed + struct.pack("<I", zlib.crc32(changed))


def test_a_picture_over_the_real_tile_is_the_same(driver, tmp_path, make_photo):
    """With the defaults on both sides; the model is tiny, the tiles are not."""
    folder = build_tiny_bundle(tmp_path / "bundle", tiling=Tiling(16, 64))
    codec = Codec.load(folder, "onnxruntime", threads=1)
    pixels = make_photo(1100, 1400)
    assert pixels.size > 3 * TILE_PIXELS
    check_conformance(driver, driver.open("large", folder), codec, pixels)


def test_files_with_a_grid_are_read_whatever_their_cells_are(driver, bundle_folder, make_photo):
    """Tiles and cells are the reader's own: one with other limits gives the same picture."""
    cut = Codec.load(bundle_folder, "onnxruntime", threads=1, latent_pixels=64 * 64)
    data = cut.encode(make_photo(150, 140), METADATA)
    native = driver.open("plain", bundle_folder)
    np.testing.assert_array_equal(driver.decode(native, data, (150, 140, 3)), cut.decode(data))
    other = driver.open("cut", bundle_folder, latent_pixels=64 * 64)
    assert driver.encode_with(other, make_photo(150, 140), METADATA) == data
    assert driver.info(data)[:5] == [140, 150, 6, 64, 64]


def test_every_prefix_and_forged_bit_of_a_grid_fails_alike_or_gives_the_same_picture(driver, bundle_folder, make_photo):
    codec = Codec.load(bundle_folder, "onnxruntime", threads=1, latent_pixels=64 * 64)
    native = driver.open("forged", bundle_folder, latent_pixels=64 * 64)
    data = codec.encode(make_photo(64, 70))
    assert b"GRID" in data
    for length in range(0, len(data), 3):
        assert driver.try_to_decode(native, data[:length])[0] == status_of(codec, data[:length]) != 0
    for bit in range(0, 8 * (len(data) - 4), 3):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        struct.pack_into("<I", changed, len(changed) - 4, zlib.crc32(changed[:-4]))
        assert driver.try_to_decode(native, bytes(changed))[0] == status_of(codec, bytes(changed)), bit


@pytest.mark.parametrize("metadata", [Metadata(), METADATA, Metadata(xmp=b"x" * 100_000), Metadata(source=Source.GREY)])
def test_metadata_is_written_and_read_as_python_does(driver, tiny, codec, make_photo, metadata):
    pixels = make_photo(24, 40)
    data = codec.encode(pixels, metadata)
    assert driver.encode_with(tiny, pixels, metadata) == data
    stored = codec.decode_image(data).info  # what Pillow is given
    found = driver.metadata(data)
    assert found[0] == (metadata.icc_profile or b"")
    assert found[1] == stored.get("exif", b"")[6:]
    assert found[2] == stored.get("xmp", b"")
    assert driver.info(data) == [40, 24, int(metadata.source), 0, 0, *map(len, found), 1]
    np.testing.assert_array_equal(driver.decode(tiny, data, (24, 40, 3)), codec.decode(data))


def test_metadata_that_python_refuses_is_refused(driver, tiny, codec, make_photo):
    pixels = make_photo(8, 8)
    for metadata in (Metadata(b""), Metadata(xmp=b""), Metadata(icc_profile=bytes(MAX_EXIF_BYTES + 1))):
        with pytest.raises(MlicError) as caught:
            codec.encode(pixels, metadata)
        assert driver.try_to_encode_with(tiny, pixels, metadata) == (10, str(caught.value))


def test_grey_pictures_are_the_same(driver, tiny, tiled, codec, make_photo):
    grey = make_photo(150, 140)[..., 0]
    for native, python in ((tiny, codec), tiled):
        data = python.encode(grey)
        assert driver.encode_with(native, grey, Metadata()) == data
        found = driver.decode(native, data, (150, 140, 3))
        np.testing.assert_array_equal(found, python.decode(data))
        assert (found[..., 0] == found[..., 2]).all()
        np.testing.assert_array_equal(driver.region(native, data, (30, 40, 70, 100)), found[40:140, 30:100])


def test_memory_follows_the_tile(tmp_path, make_photo):
    """Four times the pixels take no more than their bytes and their latents beside what a tile takes."""
    folder = build_tiny_bundle(tmp_path / "bundle", tiling=Tiling(16, 64))
    program = build(sanitized=False) / "tests/memory"
    peaks = []
    for side in (1024, 2048):
        (tmp_path / "pixels").write_bytes(make_photo(side, side).tobytes())
        peaks.append(int(run(program, folder, library(), tmp_path / "pixels", side, side)))
    # Two pictures of bytes, and y with what the chain makes of it: 6 channels of float32 for each 256 pixels
    growth = peaks[1] - peaks[0]
    assert growth < (2048**2 - 1024**2) * (2 * 3 + 4), f"{growth} bytes more"
