"""libmlic writes the files that the Python runtime writes, reads what it reads, and refuses what it refuses."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.choices import QUALITIES
from mlic.runtime.errors import EngineMismatchError, MlicError
from mlic.runtime.manifest import Padding
from mlic.runtime.shipped import shipped_bundle
from mlic.tools.engines.noisy import ChangedScales
from tests.golden_streams import STREAMS
from tests.int8_bundle import build_int8_bundle
from tests.native.programs import ROOT, STATUSES, Driver, library
from tests.tiny_bundle import build_tiny_bundle

pytestmark = pytest.mark.xdist_group("native")  # one build

PHOTO = ROOT / "tests/photos/kodim03.png"
KODAK = ROOT.parent / "shared/data/kodak"
PHOTOS = sorted(KODAK.glob("*.png"))[:4] or [PHOTO]
ODD_SIZES = ((1, 1), (17, 33), (100, 150))
QUALITY = "medium"


@pytest.fixture(scope="module")
def shipped(driver: Driver) -> tuple[str, Codec]:
    folder = shipped_bundle(QUALITY)
    return driver.open("shipped", folder), Codec.load(folder, "onnxruntime", threads=1)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def outcome_of(codec: Codec, data: bytes) -> np.ndarray | MlicError:
    """Return what Python makes of a file: a picture or an error."""
    try:
        return codec.decode(data)
    except MlicError as error:
        return error


def status_of(codec: Codec, data: bytes) -> int:
    """Return the status that stands for what Python makes of a file."""
    outcome = outcome_of(codec, data)
    return STATUSES[type(outcome) if isinstance(outcome, MlicError) else None]


def check_conformance(driver: Driver, native: str, codec: Codec, pixels: np.ndarray) -> bytes:
    """Check that both write the same file and make the same picture of it."""
    data = codec.encode(pixels)
    assert driver.encode(native, pixels) == data
    np.testing.assert_array_equal(driver.decode(native, data, pixels.shape), codec.decode(data))
    return data


@pytest.mark.parametrize(("height", "width"), ODD_SIZES)
def test_files_of_the_tiny_bundle_are_the_same(driver, tiny, codec, make_photo, height, width):
    check_conformance(driver, tiny, codec, make_photo(height, width))


def test_files_of_quantised_bundles_are_the_same(driver, make_photo, tmp_path):
    folder = build_int8_bundle(tmp_path / "int8")
    codec = Codec.load(folder, "onnxruntime", threads=1)
    check_conformance(driver, driver.open("int8", folder), codec, make_photo(100, 150))


@pytest.mark.parametrize(("height", "width"), ODD_SIZES)
def test_files_of_odd_sizes_are_the_same(driver, shipped, height, width):
    check_conformance(driver, *shipped, pixels_of(PHOTO)[100 : 100 + height, 200 : 200 + width])


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_files_of_photos_are_the_same(driver, shipped, path):
    check_conformance(driver, *shipped, pixels_of(path))


@pytest.mark.parametrize("quality", [quality for quality in QUALITIES if quality != QUALITY])
def test_files_of_other_qualities_are_the_same(driver, quality):
    folder = shipped_bundle(quality)
    codec = Codec.load(folder, "onnxruntime", threads=1)
    check_conformance(driver, driver.open(quality, folder), codec, pixels_of(PHOTO)[:200, :300])


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.path.stem)
def test_golden_streams_decode_to_their_pictures(driver, stream):
    native = driver.open(stream.path.stem, stream.bundle)
    found = driver.decode(native, stream.data, stream.pixels.shape)
    assert np.abs(found.astype(int) - stream.pixels).max() <= 1
    python = Codec.load(stream.bundle, "onnxruntime", threads=1)
    np.testing.assert_array_equal(found, python.decode(stream.data))


def test_pictures_of_noise_escape_and_are_the_same(driver, tiny, codec, rng):
    data = check_conformance(driver, tiny, codec, rng.integers(0, 256, (60, 90, 3)).astype(np.uint8))
    assert b"ESCP" in data


def test_padding_of_both_kinds_is_the_same(driver, codec, make_photo, tmp_path):
    for placement in ("top-left", "centre"):
        for fill in ("zeros", "edge"):
            folder = build_tiny_bundle(tmp_path / f"{placement} {fill}", padding=Padding(128, placement, fill))
            native = driver.open("padded", folder)
            check_conformance(driver, native, Codec.load(folder, threads=1), make_photo(75, 131))


def test_bundle_in_memory_does_the_same(driver, bundle_folder, codec, make_photo):
    driver.do("open-memory", "memory", bundle_folder, library(), 1)
    check_conformance(driver, "memory", codec, make_photo(40, 50))


def test_other_numbers_of_threads_write_the_same_file(driver, bundle_folder, codec, make_photo):
    pixels = make_photo(150, 200)
    assert driver.encode(driver.open("two threads", bundle_folder, 2), pixels) == codec.encode(pixels)


def test_one_codec_works_in_several_threads(driver, bundle_folder, codec, make_photo, tmp_path):
    (tmp_path / "file").write_bytes(codec.encode(make_photo(90, 70)))
    driver.do("threads", driver.open("fresh", bundle_folder), 4, 5, tmp_path / "file")


@pytest.fixture(scope="module")
def small(codec, make_photo) -> bytes:
    data = codec.encode(make_photo(24, 40))
    assert b"ESCP" in data
    return data


def test_every_prefix_and_trailing_data_fail_alike(driver, tiny, codec, small):
    for length in range(len(small)):
        assert driver.try_to_decode(tiny, small[:length])[0] == status_of(codec, small[:length]), length
    assert driver.try_to_decode(tiny, small + b"x")[0] == status_of(codec, small + b"x") == 21


def test_every_flipped_bit_fails_alike(driver, tiny, codec, small):
    for bit in range(8 * len(small)):
        changed = bytearray(small)
        changed[bit // 8] ^= 1 << bit % 8
        data = bytes(changed)
        assert driver.try_to_decode(tiny, data)[0] == status_of(codec, data), bit


def test_every_forged_bit_fails_alike_or_gives_the_same_picture(driver, tiny, codec, small):
    """The checksum is right and the contents are not: readings are tried, and the same one wins."""
    for bit in range(8 * (len(small) - 4)):
        changed = bytearray(small)
        changed[bit // 8] ^= 1 << bit % 8
        struct.pack_into("<I", changed, len(changed) - 4, zlib.crc32(changed[:-4]))
        data = bytes(changed)
        expected = outcome_of(codec, data)
        if isinstance(expected, MlicError):
            status, text = driver.try_to_decode(tiny, data)
            assert status == STATUSES[type(expected)], (bit, text)
            if isinstance(expected, EngineMismatchError):
                assert text == str(expected)
        else:
            np.testing.assert_array_equal(driver.decode(tiny, data, expected.shape), expected)


def test_file_of_another_model_is_unsupported(driver, tiny, codec, tmp_path, make_photo):
    other = Codec.load(build_tiny_bundle(tmp_path / "other", seed=1), threads=1)
    data = other.encode(make_photo(20, 20))
    status, text = driver.try_to_decode(tiny, data)
    assert status == 22
    with pytest.raises(MlicError) as caught:
        codec.decode(data)
    assert text == str(caught.value)


def noisy(bundle: Path, level: float, seed: int = 3) -> Codec:
    """Return a codec whose engine differs from ONNX Runtime by relative noise."""
    rng = np.random.default_rng(seed)
    backend = ChangedScales(OnnxRuntimeBackend(1), lambda scales: scales * (1 + level * rng.normal(0, 1, scales.shape)))
    return Codec(Bundle.open(bundle), backend)


@pytest.mark.parametrize("seed", range(3))
def test_indexes_of_another_engine_are_corrected_alike(driver, shipped, seed):
    """Both find the same changes, of which there are some."""
    native, codec = shipped
    data = noisy(codec.bundle.folder, 2e-5, seed).encode(pixels_of(PHOTO)[:256, :384])
    assert codec.inspect(data).changes
    expected = codec.decode(data)
    np.testing.assert_array_equal(driver.decode(native, data, expected.shape), expected)


def test_engine_beyond_repair_is_named_alike(driver, shipped):
    native, codec = shipped
    data = noisy(codec.bundle.folder, 1e-2).encode(pixels_of(PHOTO)[:128, :192])
    with pytest.raises(EngineMismatchError) as caught:
        codec.decode(data)
    assert driver.try_to_decode(native, data) == (42, str(caught.value))


def test_bundles_that_python_refuses_are_refused(driver, tmp_path):
    folder = build_tiny_bundle(tmp_path / "bundle")
    graph = folder / "onnx/step_02.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    status, text = driver.ask("open", "damaged", folder, library(), 1)
    assert status == 30
    assert "SHA-256 differs from the manifest's: onnx/step_02.onnx" in text
    assert driver.ask("open", "damaged", folder, tmp_path / "libonnxruntime.so", 1)[0] == 30
    assert driver.ask("open", "none", build_tiny_bundle(tmp_path / "other"), tmp_path / "no.so", 1)[0] == 40


def test_graph_that_differs_from_the_manifest_is_refused(driver, tmp_path, make_photo):
    folder = build_tiny_bundle(tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    entries = {graph["name"]: graph for graph in manifest["graphs"]}
    entries["finish"]["path"], entries["finish"]["sha256"] = entries["h_s"]["path"], entries["h_s"]["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    codec = Codec.load(folder, "onnxruntime", threads=1)
    data = codec.encode(make_photo(10, 10))
    driver.do("open", "swapped", folder, library(), 1)
    status, text = driver.try_to_decode("swapped", data)
    assert status == status_of(codec, data) == 41
    assert text.startswith("graph finish: inputs are z_symbols; the manifest names decoded_04")
