"""TensorRT on a device made of numpy, whole pictures: bytes, what is copied, memory, recorded work, threads."""

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlic.runtime import Codec
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.errors import EngineMismatchError
from mlic.tools.engines.noisy import ChangedScales
from tests.tensorrt_setup import HEIGHT, WIDTH, Setup


@pytest.fixture
def setup(bundle_folder):
    return Setup(bundle_folder)


@pytest.fixture(scope="module")
def pixels(make_photo):
    return make_photo(HEIGHT, WIDTH)


@pytest.mark.parametrize("options", [{}, {"cuda_graphs": False}, {"rtx": True}, {"rtx": True, "capturable": False}])
def test_files_and_pictures_are_those_of_the_cpu_at_several_sizes(bundle_folder, codec, make_photo, options):
    setup = Setup(bundle_folder, **options)
    for height, width in ((64, 64), (75, 100), (128, 192), (128, 192), (128, 192), (128, 192), (64, 64), (200, 130)):
        pixels = make_photo(height, width)
        data = codec.encode(pixels)
        assert setup.codec.encode(pixels) == data
        assert np.array_equal(setup.codec.decode(data), codec.decode(data))


def test_decoding_copies_the_scales_and_the_picture_down_and_the_symbols_up(setup, codec, pixels):
    data = codec.encode(pixels)
    for _ in range(4):  # recorded and not
        setup.device.bytes_in = setup.device.bytes_out = 0
        setup.codec.decode(data)
        assert setup.device.bytes_out == setup.bytes_of("scales") + 4 * 3 * HEIGHT * WIDTH
        assert setup.device.bytes_in == setup.bytes_of("symbols") + setup.bytes_of("z_symbols")


def test_encoding_copies_the_picture_up_and_what_the_coder_takes_down(setup, pixels):
    setup.codec.encode(pixels)
    expected = sum(map(setup.bytes_of, ("scales", "means", "y", "z_symbols")))
    assert setup.device.bytes_out == expected
    # The last symbols are needed by the decoder's last graph only.
    last = setup.bundle.manifest.steps[-1]
    spec = setup.bundle.manifest.graphs[last.graph].spec.outputs[last.scales]
    unused = 4 * int(np.prod(spec.concrete(HEIGHT, WIDTH)))
    assert setup.device.bytes_in == sum(map(setup.bytes_of, ("symbols", "z_symbols"))) - unused + 4 * 3 * HEIGHT * WIDTH


def test_the_host_waits_for_scales_and_picture_only(setup, codec, pixels):
    data = codec.encode(pixels)
    setup.codec.decode(data)
    setup.codec.decode(data)
    setup.device.counts.clear()
    setup.codec.decode(data)
    assert setup.device.counts["synchronise"] == len(setup.bundle.manifest.steps) + 1


def test_memory_is_allocated_for_the_first_picture_of_a_size(setup, codec, make_photo, pixels):
    sizes = [pixels, make_photo(64, 64)]
    files = [codec.encode(picture) for picture in sizes]
    for picture, data in zip(sizes, files, strict=True):
        setup.codec.encode(picture)
        setup.codec.decode(data)
    allocated = setup.device.counts["allocate"]
    for _ in range(3):
        for picture, data in zip(sizes, files, strict=True):
            setup.codec.encode(picture)
            setup.codec.decode(data)
    assert setup.device.counts["allocate"] == allocated
    assert setup.device.counts["free"] < 10  # scratch memory that grew


def test_work_that_repeats_is_recorded_and_launched(setup, codec, pixels):
    data = codec.encode(pixels)
    graphs = len(setup.bundle.manifest.steps) + 3  # h_s, finish, g_s
    for _ in range(3):  # the scratch memory grows during the first
        setup.codec.decode(data)
    assert [context.recorded for context in setup.contexts] == [1] * graphs
    plain = [context.plain for context in setup.contexts]
    setup.device.counts.clear()
    setup.codec.decode(data)
    assert setup.device.counts["launch"] == graphs
    assert [context.plain for context in setup.contexts] == plain


def test_encoding_and_decoding_share_what_is_recorded(setup, codec, pixels):
    data = codec.encode(pixels)
    for _ in range(5):
        assert setup.codec.encode(pixels) == data
        setup.codec.decode(data)
    assert {context.recorded for context in setup.contexts} == {1}


def test_sizes_in_turn_are_not_recorded_and_keep_nothing(setup, codec, make_photo):
    files = [codec.encode(make_photo(size, 64)) for size in (64, 128)]
    for _ in range(3):
        for data in files:
            setup.codec.decode(data)
    assert {context.recorded for context in setup.contexts} == {0}
    assert setup.device.held["work"] == 0


def test_recording_can_be_switched_off(bundle_folder, codec, pixels):
    setup = Setup(bundle_folder, cuda_graphs=False)
    data = codec.encode(pixels)
    for _ in range(4):
        setup.codec.decode(data)
    assert setup.device.counts["begin_capture"] == 0
    assert setup.device.counts["launch"] == 0


def test_without_recording_arrays_that_do_not_live_together_share_memory(bundle_folder, codec, pixels):
    allocated = {}
    for recorded in (True, False):
        setup = Setup(bundle_folder, cuda_graphs=recorded)
        setup.codec.decode(codec.encode(pixels))
        allocated[recorded] = setup.device.allocated
    assert allocated[False] < allocated[True]


def test_what_cannot_be_recorded_runs_plainly(setup, codec, pixels):
    data = codec.encode(pixels)
    setup.codec.open()
    expected = setup.codec.decode(data)
    for context in setup.contexts:
        context.records = False
    for _ in range(4):
        assert np.array_equal(setup.codec.decode(data), expected)
    assert setup.device.counts["launch"] == 0
    assert setup.device.counts["begin_capture"] == len(setup.contexts)  # tried once each
    assert setup.device.held["work"] == 0


@pytest.mark.parametrize(("noise", "seed", "visits"), [(0.016, 0, 5), (0.016, 12, 7), (0.02, 9, 6)])
def test_a_decoder_that_corrects_and_goes_back_does_so_alike(setup, pixels, noise, seed, visits):
    """An encoder whose scales differ: the decoder tries several readings while it holds the states of all of them."""
    rng = np.random.default_rng(seed)
    writer = ChangedScales(OnnxRuntimeBackend(1), lambda scales: scales + rng.normal(0, noise, scales.shape))
    data = Codec(setup.bundle, writer).encode(pixels)
    expected, *found = (outcome(setup.bundle, engine, data) for engine in (OnnxRuntimeBackend(1), *[setup.backend] * 3))
    assert found == [expected] * 3
    assert expected[0] == visits
    assert expected[1]


def outcome(bundle, engine, data):
    """Return how often steps ran, what was corrected, and the latent or None."""
    reader = ChangedScales(engine, lambda scales: scales)
    try:
        decoded = Codec(bundle, reader).inspect(data)
    except EngineMismatchError:
        return reader.visits, "beyond repair", None
    return reader.visits, decoded.changes, decoded.y_hat.tobytes()


def test_several_threads_may_encode_and_decode_at_once(setup, codec, make_photo):
    pictures = [make_photo(64 * (1 + number % 2), 64, number) for number in range(12)]
    files = [codec.encode(picture) for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(setup.codec.encode, pictures)) == files
        for found, data in zip(pool.map(setup.codec.decode, files), files, strict=True):
            assert np.array_equal(found, codec.decode(data))
    assert setup.device.held["streams"] <= 3


def test_pictures_one_after_another_cross_two_threads(setup, codec, make_photo):
    pictures = [make_photo(HEIGHT, WIDTH, number) for number in range(6)]
    for _ in range(2):
        files = list(setup.codec.encode_many(pictures))
        assert files == [codec.encode(picture) for picture in pictures]
        for found, data in zip(setup.codec.decode_many(files), files, strict=True):
            assert np.array_equal(found, codec.decode(data))
    assert setup.device.held["streams"] <= 3  # the second round's threads took the lanes of the first's


def test_everything_is_given_back_with_the_codec(bundle_folder, codec, pixels):
    setup = Setup(bundle_folder)
    for _ in range(3):
        setup.codec.decode(codec.encode(pixels))
    device = setup.device
    del setup
    gc.collect()
    assert device.held == {"memory": 0, "pinned": 0, "streams": 0, "work": 0}
