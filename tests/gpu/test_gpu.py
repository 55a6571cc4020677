"""Engines on a real GPU, against those on the CPU: files read both ways, scales, recorded work, threads.

Skipped where there is no GPU; each engine's tests where it is not installed. ``pytest -m gpu`` runs only these.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mlic.runtime import Codec
from mlic.runtime.backends import open_backend
from mlic.runtime.backends.tensorrt import TensorRtBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.device.cuda import CudaDevice
from mlic.runtime.device.lanes import STAGING_BYTES, Lanes
from mlic.runtime.device.probe import probe
from mlic.runtime.errors import BackendError
from mlic.runtime.image_files import read_image
from mlic.runtime.shipped import shipped_bundle

pytestmark = [pytest.mark.gpu, pytest.mark.xdist_group("gpu")]

# Float32 on two engines differs by some 1e-6 of the values, TF32 by some 1e-3: this is between the two.
TOLERANCE = 5e-5


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        return probe()
    except BackendError as error:
        pytest.skip(str(error))


def opened(start):
    try:
        return start()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The medium model that ships, in a folder where engines may be stored."""
    return Bundle.open(shutil.copytree(shipped_bundle(), tmp_path_factory.mktemp("gpu") / "bundle"))


@pytest.fixture(scope="module")
def cpu(bundle):
    return Codec(bundle, open_backend("onnxruntime"))


@pytest.fixture(scope="module", params=["cuda", "tensorrt"])
def on_gpu(request, gpu, bundle):
    return Codec(bundle, opened(lambda: open_backend(request.param)))


@pytest.fixture(scope="module")
def photo():
    return read_image(Path(__file__).parents[1] / "photos" / "kodim03.png").pixels


def within_one(left, right):
    return np.abs(left.astype(int) - right).max() <= 1


def test_the_gpu_has_a_name_and_a_capability(gpu):
    assert gpu.name
    assert gpu.compute_capability >= (5, 0)
    assert gpu.cuda_version >= (12, 0)


def test_arrays_go_there_and_back_in_pieces_and_between_threads():
    lanes = Lanes(opened(CudaDevice))
    arrays = [
        np.random.default_rng(seed).random(size, np.float32) for seed, size in enumerate((1, 1000, STAGING_BYTES))
    ]
    held = [lanes.current().upload(array, (64, 64), "") for array in arrays]
    with ThreadPoolExecutor(2) as pool:
        for array, found in zip(arrays, pool.map(np.asarray, held), strict=True):
            assert np.array_equal(found, array)


def test_recorded_copies_are_launched_again():
    device = opened(CudaDevice)
    stream, address, pinned = device.open_stream(), device.allocate(256), device.allocate_pinned(256)
    result = device.allocate_pinned(256)
    device.begin_capture(stream)
    device.copy_in(address, pinned, stream)
    device.copy_out(result, address, stream)
    recording = device.end_capture(stream)
    for value in (1, 2):
        pinned[:] = value
        device.launch(recording, stream)
        device.synchronise(stream)
        assert (result == value).all()
    device.drop(recording)


def test_memory_that_is_not_there_is_an_error_and_no_more(gpu):
    device = opened(CudaDevice)
    with pytest.raises(BackendError, match="cudaMalloc"):
        device.allocate(1 << 50)
    device.free(device.allocate(256))


def test_each_reads_what_the_other_wrote(cpu, on_gpu, photo):
    for writer, reader in ((cpu, on_gpu), (on_gpu, cpu), (on_gpu, on_gpu)):
        data = writer.encode(photo)
        assert within_one(reader.decode(data), writer.decode(data))


def test_scales_are_those_of_float32(cpu, on_gpu, photo):
    trace = cpu.trace(photo)
    expected, found = (codec.replay(trace["z_symbols"], trace["symbols"]) for codec in (cpu, on_gpu))
    for left, right in zip(expected, found, strict=True):
        np.testing.assert_allclose(right, left, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_same_picture_gives_the_same_bytes_again_and_again(on_gpu, photo):
    """The third time, TensorRT launches what it recorded."""
    first = on_gpu.encode(photo)
    picture = on_gpu.decode(first)
    for _ in range(4):
        assert on_gpu.encode(photo) == first
        assert np.array_equal(on_gpu.decode(first), picture)


def test_a_new_codec_gives_the_same_bytes(on_gpu, bundle, photo):
    again = Codec(bundle, open_backend(on_gpu.backend.name))
    assert again.encode(photo) == on_gpu.encode(photo)


def test_pictures_of_several_sizes_come_back(cpu, on_gpu, make_photo):
    for height, width in ((1, 1), (64, 64), (75, 100), (200, 130), (64, 64), (512, 768), (75, 100)):
        pixels = make_photo(height, width)
        data = on_gpu.encode(pixels)
        assert np.array_equal(on_gpu.decode_latent(data), on_gpu.trace(pixels)["y_hat"])
        assert within_one(cpu.decode(data), on_gpu.decode(data))


def test_recording_changes_nothing(gpu, bundle, photo):
    plain = Codec(bundle, opened(lambda: TensorRtBackend(cuda_graphs=False)))
    recording = Codec(bundle, TensorRtBackend())
    data = plain.encode(photo)
    for _ in range(4):
        assert recording.encode(photo) == data
        assert np.array_equal(recording.decode(data), plain.decode(data))


def test_several_threads_may_encode_and_decode_at_once(on_gpu, make_photo):
    pictures = [make_photo(64 * (1 + number % 3), 128, number) for number in range(12)]
    files = [on_gpu.encode(picture) for picture in pictures]
    decoded = [on_gpu.decode(data) for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(on_gpu.encode, pictures)) == files
        for found, expected in zip(pool.map(on_gpu.decode, files), decoded, strict=True):
            assert np.array_equal(found, expected)


def test_pictures_one_after_another_cross_two_threads(on_gpu, make_photo):
    pictures = [make_photo(128, 192, number) for number in range(5)]
    files = list(on_gpu.encode_many(pictures))
    assert files == [on_gpu.encode(picture) for picture in pictures]
    for found, data in zip(on_gpu.decode_many(files), files, strict=True):
        assert np.array_equal(found, on_gpu.decode(data))
