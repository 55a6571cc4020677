"""Tiles, regions and cells, on a miniature bundle whose transforms give the same values however they are cut."""

import gc
import tracemalloc

import numpy as np
import pytest

from mlic.runtime import Codec, container
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.container import read
from mlic.runtime.errors import BackendError, ShapeError, UnsupportedStreamError
from mlic.runtime.manifest import Padding, Tiling
from mlic.runtime.metadata import Metadata
from tests.tiny_bundle import build_tiny_bundle

TILE = 128 * 128
LATENT = 256 * 192
PADDINGS = [Padding(64, place, fill) for place in ("top-left", "centre") for fill in ("zeros", "edge")]
PADDINGS.append(Padding(128, "centre", "edge"))
SIZES = [(1, 300), (333, 1), (129, 200), (200, 129), (256, 320), (415, 301)]
REGIONS = [(0, 0, 301, 415), (0, 0, 1, 1), (300, 414, 1, 1), (5, 7, 130, 90), (97, 201, 100, 3), (128, 128, 64, 64)]


class Shapes(OnnxRuntimeBackend):
    """Notes the shape that each run of a graph is given."""

    def __init__(self):
        super().__init__(threads=1)
        self.shapes = {}

    def open(self, path, graph):
        opened = super().open(path, graph)
        run = opened.run

        def noting(inputs):
            (given,) = [inputs[name] for name in opened.spec.inputs][:1]
            self.shapes.setdefault(graph.spec.name, []).append(given.shape[2:])
            return run(inputs)

        opened.run = noting
        return opened


@pytest.fixture(scope="module", params=PADDINGS, ids=lambda p: f"{p.multiple}-{p.placement}-{p.fill}")
def folder(request, tmp_path_factory):
    """A bundle with a halo, though it needs none: mistakes in where tiles lie show exactly."""
    tiling = Tiling(16, 32) if request.param.multiple == 64 else Tiling(64, 0)
    return build_tiny_bundle(tmp_path_factory.mktemp("tiled") / "tiny", padding=request.param, tiling=tiling)


@pytest.fixture(scope="module")
def whole(folder):
    return Codec.load(folder, threads=1)


@pytest.fixture(scope="module")
def tiled(folder):
    return Codec.load(folder, threads=1, tile_pixels=TILE)


@pytest.fixture(scope="module")
def celled(folder):
    return Codec.load(folder, threads=1, tile_pixels=TILE, latent_pixels=LATENT)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_give_what_one_pass_does(whole, tiled, make_photo, size):
    pixels = make_photo(*size)
    data = tiled.encode(pixels)
    assert data == whole.encode(pixels)
    np.testing.assert_array_equal(tiled.decode(data), whole.decode(data))


def test_every_tile_of_a_picture_has_the_same_shape_and_no_more_than_asked(folder, make_photo):
    backend = Shapes()
    codec = Codec.load(folder, backend, tile_pixels=TILE)
    codec.decode(codec.encode(make_photo(415, 301)))
    for graph, stride in (("g_a", 1), ("g_s", 16)):
        assert len(backend.shapes[graph]) > 4
        ((rows, columns),) = set(backend.shapes[graph])
        assert rows * columns * stride * stride <= TILE
    assert len(backend.shapes["h_a"]) == len(backend.shapes["finish"]) == 1  # the chain runs on the whole picture


@pytest.mark.parametrize("region", REGIONS, ids=str)
def test_a_region_is_the_crop_of_the_whole(whole, tiled, celled, make_photo, region):
    x, y, width, height = region
    for codec in (whole, tiled, celled):
        data = codec.encode(make_photo(415, 301))
        expected = codec.decode(data)[y : y + height, x : x + width]
        np.testing.assert_array_equal(codec.decode(data, region=region), expected)


@pytest.mark.parametrize(
    "region",
    [(-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 0, 5), (0, 0, 5, 0), (0, 0, 302, 5), (0, 0, 5, 416), (301, 0, 1, 1)],
    ids=str,
)
def test_a_region_outside_the_picture_is_a_shape_error(codec, make_photo, region):
    data = codec.encode(make_photo(415, 301))
    with pytest.raises(ShapeError, match=r"region of .* expected a part of the picture's 301 x 415 pixels"):
        codec.decode(data, region=region)
    with pytest.raises(ShapeError, match="region of"):
        codec.num_decode_stages(read(data), region)


def test_a_region_runs_the_chain_once_and_only_the_tiles_and_cells_that_it_needs(folder, tiled, celled, make_photo):
    data = tiled.encode(make_photo(415, 301))
    grid = celled.encode(make_photo(415, 301))
    for file, tiles, cells in ((data, 1, 1), (grid, 1, 1)):
        backend = Shapes()
        Codec.load(folder, backend, tile_pixels=TILE).decode(file, region=(2, 3, 4, 5))
        assert len(backend.shapes["g_s"]) == tiles
        assert len(backend.shapes["step_00"]) == cells


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (129, 200), (415, 301)], ids=str)
def test_progress_is_reported_as_often_as_announced(whole, tiled, celled, make_photo, size):
    for codec in (whole, tiled, celled):
        stages = []
        data = codec.encode(make_photo(*size), progress=stages.append)
        assert len(stages) == codec.num_encode_stages(*size)
        for region in (None, (0, 0, 1, 1), (0, 0, size[1], size[0])):
            stages = []
            codec.decode(data, stages.append, region)
            assert len(stages) == codec.num_decode_stages(read(data), region)


def test_progress_of_a_small_picture_names_each_graph_once(codec, make_photo):
    encoding, decoding = [], []
    codec.decode(codec.encode(make_photo(20, 30), progress=encoding.append), decoding.append)
    steps = [name for number in range(5) for name in (f"step_{number:02}", "coder")]
    assert encoding == ["image", "g_a", "h_a", "coder", "h_s", *steps, "container"]
    assert decoding == ["container", "coder", "h_s", *steps, "finish", "g_s", "image"]


@pytest.mark.parametrize("stage", ["g_a", "g_s", "h_s"])
def test_what_progress_raises_ends_the_call_between_tiles_and_cells(celled, make_photo, stage):
    seen = []

    def interrupted(name):
        seen.append(name)
        if seen.count(stage) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        celled.decode(celled.encode(make_photo(415, 301), progress=interrupted), interrupted)
    assert seen.count(stage) == 2


def test_a_picture_of_more_than_a_latent_goes_in_cells_that_are_files_of_their_own(celled, tiled, make_photo):
    pixels = make_photo(415, 301)
    data = celled.encode(pixels)
    stream = read(data)
    grid = stream.grid
    assert grid is not None
    assert (stream.latents, stream.escapes, stream.checks) == (b"", b"", b"")
    assert grid.cell_width * grid.cell_height <= LATENT
    decoded, number = celled.decode(data), 0
    for top in range(0, 415, grid.cell_height):
        for left in range(0, 301, grid.cell_width):
            part = (slice(top, top + grid.cell_height), slice(left, left + grid.cell_width))
            file = container.write(grid.cells[number])
            assert file == tiled.encode(pixels[part])
            np.testing.assert_array_equal(decoded[part], tiled.decode(file))
            number += 1
    assert number == len(grid.cells)


def test_a_grid_is_read_whatever_the_readers_own_limit_is(whole, celled, make_photo):
    data = celled.encode(make_photo(415, 301))
    np.testing.assert_array_equal(whole.decode(data), celled.decode(data))
    plain = whole.encode(make_photo(415, 301))
    np.testing.assert_array_equal(celled.decode(plain), whole.decode(plain))


def test_many_pictures_of_all_kinds_give_what_each_alone_does(celled, make_photo):
    pictures = [make_photo(40, 50), make_photo(415, 301), make_photo(150, 150), make_photo(300, 200, seed=3)]
    files = [celled.encode(picture) for picture in pictures]
    assert list(celled.encode_many(pictures)) == files
    for found, data in zip(celled.decode_many(files), files, strict=True):
        np.testing.assert_array_equal(found, celled.decode(data))


def test_what_needs_one_latent_says_so_of_many(celled, make_photo):
    pixels = make_photo(415, 301)
    with pytest.raises(ShapeError, match="picture has 301 x 415 pixels; expected at most 49152, one latent"):
        celled.trace(pixels)
    with pytest.raises(UnsupportedStreamError, match="the file holds 4 cells"):
        celled.inspect(celled.encode(pixels))


def test_a_colour_profile_stands_beside_the_grid(celled, make_photo):
    data = celled.encode(make_photo(415, 301), Metadata(b"profile"))
    assert read(data).metadata == Metadata(b"profile")
    assert all(cell.metadata == Metadata() for cell in read(data).grid.cells)
    assert celled.decode(data).shape == (415, 301, 3)


def test_cells_may_be_coded_by_any_number_of_tiles(folder, celled, make_photo):
    data = celled.encode(make_photo(415, 301))
    assert Codec.load(folder, threads=1, latent_pixels=LATENT).encode(make_photo(415, 301)) == data


@pytest.mark.parametrize("limit", ["tile_pixels", "latent_pixels"])
def test_limits_too_small_for_any_picture_are_refused(bundle_folder, limit):
    with pytest.raises(ShapeError, match=f"{limit} is 4095; expected 4096 or more"):
        Codec.load(bundle_folder, threads=1, **{limit: 4095})


def test_a_reader_refuses_a_latent_that_is_too_large(codec, make_photo):
    data = codec.encode(make_photo(20, 30))
    assert read(data, max_latent_pixels=600).width == 30
    with pytest.raises(UnsupportedStreamError, match="30 x 20 pixels in one latent; the limit is 599"):
        read(data, max_latent_pixels=599)


class OnDevice(OnnxRuntimeBackend):
    """Gives arrays that can be looked at and nothing else, as engines on a device do."""

    class Array:
        def __init__(self, array):
            self._array, self.shape, self.dtype = array, array.shape, array.dtype

        def __array__(self, dtype=None, copy=None):
            return self._array

    def open(self, path, graph):
        opened = super().open(path, graph)
        run = opened.run
        opened.run = lambda inputs: {
            name: OnDevice.Array(array)
            for name, array in run({key: np.asarray(value) for key, value in inputs.items()}).items()
        }
        return opened


def test_arrays_on_a_device_go_through_tiles(folder, celled, make_photo):
    codec = Codec.load(folder, OnDevice(threads=1), tile_pixels=TILE, latent_pixels=LATENT)
    for size in ((415, 301), (150, 150), (20, 30)):
        data = codec.encode(make_photo(*size))
        assert data == celled.encode(make_photo(*size))
        np.testing.assert_array_equal(codec.decode(data), celled.decode(data))


def test_nan_in_the_last_tile_is_reported(folder, make_photo):
    class Broken(Shapes):
        def open(self, path, graph):
            opened = super().open(path, graph)
            run = opened.run

            def late_nan(inputs):
                outputs = run(inputs)
                if len(self.shapes.get("g_s", [])) == 6:
                    outputs["x_hat"] = outputs["x_hat"] * np.float32("nan")
                return outputs

            opened.run = late_nan
            return opened

    codec = Codec.load(folder, Broken(), tile_pixels=TILE)
    with pytest.raises(BackendError, match="g_s returned NaN"):
        codec.decode(codec.encode(make_photo(415, 301)))


def peak_of(call, *arguments):
    """Return the bytes that Python and numpy hold at most during a call, beyond those before it, and its result."""
    call(*arguments)
    gc.collect()
    tracemalloc.start()
    try:
        result = call(*arguments)
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def test_memory_grows_by_the_latent_and_the_pixels_alone(tmp_path, make_photo):
    codec = Codec.load(
        build_tiny_bundle(tmp_path / "tiny", tiling=Tiling(16, 32)), threads=1, tile_pixels=TILE, latent_pixels=1 << 19
    )
    small, large = make_photo(512, 512), make_photo(1024, 512)
    more = large.size - small.size  # bytes of pixels, 3 for each
    encoded = [peak_of(codec.encode, pixels) for pixels in (small, large)]
    # A float picture would be 4 for each of them; six channels of y and what the chain makes of them are less than 1.
    assert encoded[1][0] - encoded[0][0] < more
    decoded = [peak_of(codec.decode, data)[0] for _, data in encoded]
    assert decoded[1] - decoded[0] < 2 * more
    # In cells, nothing grows but pixels and bytes.
    larger = make_photo(4096, 512)
    assert peak_of(codec.encode, larger)[0] < encoded[1][0] + 3 * len(codec.encode(larger))
