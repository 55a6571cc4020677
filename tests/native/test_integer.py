"""libmlic and integer bundles: Python's files and refusals, and certificates that engines have to pass."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import zlib

import numpy as np
import onnx
import pytest

from mlic.runtime import Codec, Metadata, container
from mlic.runtime.bundle_files import sha256_of
from mlic.runtime.certificate_cache import VARIABLE
from mlic.runtime.errors import EngineMismatchError, MlicError
from mlic.runtime.manifest import Padding, Tiling
from mlic.runtime.manifest_json import manifest_from_json
from mlic.runtime.metadata import Source
from mlic.runtime.version import VERSION
from tests.integer_bundle import build_integer_bundle, certify
from tests.native.programs import STATUSES, Driver, build, library
from tests.native.test_native import check_conformance, outcome_of, status_of
from tests.runtime.damaged_certificate import edit_certificate
from tests.tiny_bundle import SCALES

pytestmark = pytest.mark.xdist_group("native")  # one build

MISMATCH, FAILED = STATUSES[EngineMismatchError], 41


@pytest.fixture(scope="module")
def native(driver, integer_folder) -> str:
    return driver.open("integer", integer_folder)


@pytest.fixture
def folder(integer_folder, tmp_path):
    return shutil.copytree(integer_folder, tmp_path / "copy")


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 64), (100, 150)], ids=str)
def test_files_are_the_same(driver, native, integer_codec, make_photo, size):
    data = check_conformance(driver, native, integer_codec, make_photo(*size))
    assert driver.info(data)[-1] == 2
    assert b"CHCK" in data


def test_pictures_of_noise_escape_and_are_the_same(driver, native, integer_codec, rng):
    data = check_conformance(driver, native, integer_codec, rng.integers(0, 256, (60, 90, 3)).astype(np.uint8))
    assert b"ESCP" in data


@pytest.mark.parametrize("place", ["top-left", "centre"])
def test_padding_grids_tiles_and_regions_are_the_same(driver, make_photo, tmp_path, place):
    folder = build_integer_bundle(tmp_path / "b", padding=Padding(128, place, "edge"), tiling=Tiling(16, 16))
    limits = {"tile_pixels": 1 << 14, "latent_pixels": 1 << 14}
    codec = Codec.load(folder, "onnxruntime", threads=1, **limits)
    native = driver.open("gridded", folder, **limits)
    data = check_conformance(driver, native, codec, make_photo(150, 140))
    assert len(container.read(data).grid.cells) == 4
    region = (90, 100, 40, 45)
    np.testing.assert_array_equal(driver.region(native, data, region), codec.decode(data, region=region))


def test_metadata_travels_with_the_picture(driver, native, integer_codec, make_photo):
    metadata = Metadata(b"a profile", xmp=b"<x/>", source=Source.GREY)
    pixels = make_photo(20, 30)[:, :, 0]
    data = integer_codec.encode(pixels, metadata)
    assert driver.encode_with(native, pixels, metadata) == data
    assert driver.info(data) == [30, 20, 1, 0, 0, 9, 0, 4, 2]
    np.testing.assert_array_equal(driver.decode(native, data, (20, 30, 3)), integer_codec.decode(data))


def test_bundle_in_memory_and_other_threads_do_the_same(driver, integer_folder, integer_codec, make_photo):
    driver.do("open-memory", "memory", integer_folder, library(), 1)
    check_conformance(driver, "memory", integer_codec, make_photo(40, 50))
    pixels = make_photo(150, 200)
    two = driver.open("two threads", integer_folder, threads=2)
    assert driver.encode(two, pixels) == integer_codec.encode(pixels)


def test_one_codec_works_in_several_threads(driver, integer_folder, integer_codec, make_photo, tmp_path):
    """The first call of each asks for the proof."""
    (tmp_path / "file").write_bytes(integer_codec.encode(make_photo(90, 70)))
    driver.do("threads", driver.open("fresh", integer_folder), 4, 3, tmp_path / "file")


@pytest.fixture(scope="module")
def small(integer_codec, make_photo) -> bytes:
    data = integer_codec.encode(make_photo(24, 40))
    assert b"ESCP" in data
    return data


def test_every_prefix_and_trailing_data_fail_alike(driver, native, integer_codec, small):
    for length in range(len(small)):
        assert driver.try_to_decode(native, small[:length])[0] == status_of(integer_codec, small[:length]), length
    assert driver.try_to_decode(native, small + b"x")[0] == status_of(integer_codec, small + b"x") == 21


def test_every_forged_bit_fails_alike_or_gives_the_same_picture(driver, native, integer_codec, small):
    """The checksum is right and the contents are not: the same words refuse it, and the same pictures come out."""
    seen = set()
    for bit in range(8 * (len(small) - 4)):
        changed = bytearray(small)
        changed[bit // 8] ^= 1 << bit % 8
        struct.pack_into("<I", changed, len(changed) - 4, zlib.crc32(changed[:-4]))
        data = bytes(changed)
        expected = outcome_of(integer_codec, data)
        if isinstance(expected, MlicError):
            status, text = driver.try_to_decode(native, data)
            assert status == STATUSES[type(expected)], (bit, text)
            if isinstance(expected, EngineMismatchError):
                assert text == str(expected)
            seen.add(status)
        else:
            np.testing.assert_array_equal(driver.decode(native, data, expected.shape), expected)
    assert seen == {20, 21, 22, 42}


def test_files_of_the_other_arithmetic_are_refused_in_the_same_words(
    driver, tiny, native, codec, integer_codec, make_photo
):
    pixels = make_photo(20, 30)
    stream = container.read(codec.encode(pixels))
    forged = container.write(dataclasses.replace(stream, model_id=integer_codec.bundle.manifest.model_id))
    for reader, name, data in (
        (codec, tiny, integer_codec.encode(pixels)),
        (integer_codec, native, codec.encode(pixels)),
        (integer_codec, native, forged),
    ):
        expected = outcome_of(reader, data)
        assert "arithmetic" in str(expected)
        assert driver.try_to_decode(name, data) == (22, str(expected))


def divided_by(folder, divisor):
    """Make the indexes of step_02 larger: they are divided by another number; the certificate says so."""
    path = folder / "onnx/step_02.onnx"
    model = onnx.load(path)
    (number,) = [
        tensor
        for node in model.graph.node
        if node.op_type == "Div"
        for tensor in model.graph.initializer
        if tensor.name == node.input[1] and onnx.numpy_helper.to_array(tensor) == 256 // SCALES
    ]
    number.CopyFrom(onnx.numpy_helper.from_array(np.array(divisor, np.int32), number.name))
    path.write_bytes(model.SerializeToString())
    sha256 = sha256_of(path)
    manifest = manifest_from_json((folder / "manifest.json").read_text())
    graph = dataclasses.replace(manifest.graphs["step_02"], sha256=sha256)
    certify(folder, dataclasses.replace(manifest, graphs=manifest.graphs | {"step_02": graph}))


def test_an_index_beyond_the_tables_fails_alike(driver, folder, make_photo, tmp_path):
    """The certificate covers what graphs give, not whether there are tables for it."""
    divided_by(folder, 1)
    codec = Codec.load(folder, "onnxruntime", threads=1)
    driver.open("beyond", folder)
    pixels = make_photo(30, 40)
    with pytest.raises(MlicError, match=r"graph step_02: table index \d+; expected 0 to 15") as caught:
        codec.encode(pixels)
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    ask = ("encode", "beyond", tmp_path / "pixels", 40, 30, tmp_path / "file")
    assert driver.ask(*ask) == (FAILED, str(caught.value))


def test_a_graph_of_another_type_than_the_manifest_says_is_refused(driver, folder, make_photo):
    manifest = json.loads((folder / "manifest.json").read_text())
    for graph in manifest["graphs"]:
        for side in ("inputs", "outputs"):
            if "hyper.code" in graph[side]:
                graph[side]["hyper.code"]["dtype"] = "uint8"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    codec = Codec.load(folder, "onnxruntime", threads=1)
    driver.open("uint8", folder)
    with pytest.raises(MlicError, match=r"graph h_s: output hyper\.code is tensor\(int8\)"):
        codec.encode(make_photo(9, 9))
    status, text = driver.ask("prepare", "uint8")
    assert status == FAILED
    assert text.startswith("graph h_s: output hyper.code is int8 [")
    assert "the manifest has uint8 [1, " in text


def lie(folder, case=1, graph="step_03"):
    """Give one graph of one case another hash."""
    edit_certificate(folder, lambda value: value["cases"][case]["sha256"].update({graph: "0" * 64}))


@pytest.mark.parametrize("graph", ["h_s", "step_03", "finish"])
def test_an_engine_that_fails_the_certificate_is_refused_before_it_reads_or_writes(
    driver, folder, integer_codec, make_photo, graph, tmp_path
):
    pixels = make_photo(20, 30)
    data = integer_codec.encode(pixels)
    lie(folder, graph=graph)
    codec = Codec.load(folder, "onnxruntime", threads=1)
    with pytest.raises(EngineMismatchError, match=f"^graph {graph}: engine onnxruntime .*64x64, seed 2") as caught:
        codec.encode(pixels)
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    driver.open("lied to", folder)
    for _ in range(2):
        for line in (
            ("prepare", "lied to"),
            ("encode", "lied to", tmp_path / "pixels", 30, 20, tmp_path / "file"),
        ):
            assert driver.ask(*line) == (MISMATCH, str(caught.value))
        assert driver.try_to_decode("lied to", data) == (MISMATCH, str(caught.value))
    driver.do("open-memory", "lied to in memory", folder, library(), 1)
    assert driver.ask("prepare", "lied to in memory") == (MISMATCH, str(caught.value))


def test_damaged_files_are_damage_whether_the_engine_passes_or_not(driver, folder, small):
    lie(folder)
    driver.open("lied to", folder)
    assert driver.try_to_decode("lied to", small[:-1])[0] == 20
    changed = bytes(small[:8]) + bytes(8) + small[16:]
    changed = changed[:-4] + struct.pack("<I", zlib.crc32(changed[:-4]))
    assert driver.try_to_decode("lied to", changed)[0] == 22


def test_a_pass_is_remembered_in_the_folder_that_was_named(driver, folder, integer_codec, make_photo, tmp_path):
    cache = tmp_path / "a" / "cache"
    check_conformance(driver, driver.open("first", folder, cache=cache), integer_codec, make_photo(20, 30))
    (entry,) = cache.iterdir()
    assert entry.read_text() == f"mlic certificate 1 passed {entry.name}\n"
    assert len(entry.name) == 64
    entry.unlink()
    driver.do("prepare", driver.open("again", folder, cache=cache))
    assert list(cache.iterdir()) == [entry]
    driver.do("prepare", driver.open("two threads", folder, threads=2, cache=cache))
    assert len(list(cache.iterdir())) == 2


def key_of(probe, folder):
    """Return the key under which the driver's engine, with one thread, is known to pass."""
    import onnxruntime

    granted = f"libmlic {VERSION}, onnxruntime {onnxruntime.__version__}, CPUExecutionProvider, 1 threads"
    (key,) = probe.ask("certificate_key", str(folder), f"{granted}, {onnxruntime.get_build_info()}")
    return key.decode()


def test_what_is_remembered_is_believed_and_what_is_damaged_is_not(
    driver, probe, folder, integer_codec, make_photo, tmp_path
):
    """With a certificate that nobody passes, so that it shows which of the two was asked."""
    lie(folder)
    cache = tmp_path / "cache"
    cache.mkdir()
    entry = cache / key_of(probe, folder)
    good = f"mlic certificate 1 passed {entry.name}\n".encode()
    for contents in (b"", good[:-1], good + b"x", good.replace(b"1", b"2", 1), bytes(5000)):
        entry.write_bytes(contents)
        assert driver.ask("prepare", driver.open("lied to", folder, cache=cache))[0] == MISMATCH
        assert entry.read_bytes() == contents
    entry.unlink()
    for put in (entry.mkdir, lambda: os.mkfifo(entry), lambda: entry.symlink_to("/dev/zero")):
        put()
        assert driver.ask("prepare", driver.open("lied to", folder, cache=cache))[0] == MISMATCH
        entry.rmdir() if entry.is_dir() else entry.unlink()
    assert list(cache.iterdir()) == []
    entry.write_bytes(good)
    native = driver.open("known", folder, cache=cache)
    data = driver.encode(native, make_photo(20, 30))
    assert data == integer_codec.encode(make_photo(20, 30))
    assert driver.ask("prepare", driver.open("off", folder, cache="off"))[0] == MISMATCH


def test_damaged_entries_are_replaced_when_the_engine_passes(driver, probe, folder, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    entry = cache / key_of(probe, folder)
    entry.write_bytes(b"mlic certificate 1 passed 00\n")
    driver.do("prepare", driver.open("passes", folder, cache=cache))
    assert entry.read_text() == f"mlic certificate 1 passed {entry.name}\n"
    assert list(cache.iterdir()) == [entry]


def test_a_cache_that_cannot_be_written_is_fine(driver, folder, integer_codec, make_photo, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for number, cache in enumerate((tmp_path / "file", tmp_path / "file" / "more", "/proc/none", "a\x01" * 3000)):
        native = driver.open(f"unwritable {number}", folder, cache=cache)
        check_conformance(driver, native, integer_codec, make_photo(9, 9))
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("kind", ["XDG_CACHE_HOME", "relative", "HOME", "off"])
def test_without_a_name_the_cache_lies_where_pythons_does(integer_folder, tmp_path, kind):
    variables = {VARIABLE: None, "XDG_CACHE_HOME": str(tmp_path / "x"), "HOME": str(tmp_path / "h")}
    if kind != "XDG_CACHE_HOME":
        variables["XDG_CACHE_HOME"] = "x" if kind == "relative" else None
    if kind == "off":
        variables[VARIABLE] = "off"
    driver = Driver(build(sanitized=True), tmp_path, variables)
    driver.do("prepare", driver.open("integer", integer_folder))
    driver.close()
    folder = tmp_path / ("x" if kind == "XDG_CACHE_HOME" else "h/.cache") / "mlic/certificates"
    found = [path for path in tmp_path.rglob("*") if "mlic" in path.relative_to(tmp_path).parts and path.is_file()]
    assert [path.parent for path in found] == ([] if kind == "off" else [folder])  # the engine writes elsewhere


def test_bundles_in_floats_have_nothing_to_prove(driver, bundle_folder, tmp_path):
    driver.do("prepare", driver.open("floats", bundle_folder, cache=tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()
