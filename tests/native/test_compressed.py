"""Compressed graphs: the native reader unpacks what Python does, and refuses the rest in the same words."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest

from mlic.export.compression import compress_bundle
from mlic.runtime import Codec
from mlic.runtime.bundle import Bundle
from mlic.runtime.bundle_files import MAX_GRAPH_BYTES
from mlic.runtime.errors import BundleError
from mlic.runtime.gzip_file import packed, unpacked
from tests.int8_bundle import build_int8_bundle
from tests.native.core_probe import RefusedError, files_of
from tests.native.programs import library
from tests.runtime.damaged_bundle import PACKED_FILES, PACKED_GRAPHS, naming, pack_graph

pytestmark = pytest.mark.xdist_group("native_core")  # one build

BAD_BUNDLE = 30


@pytest.fixture
def folder(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "copy")


@pytest.mark.parametrize("command", ["open", "open-memory"])
def test_bundles_with_compressed_graphs_write_the_same_bytes(driver, packed_folder, codec, make_photo, command):
    driver.do(command, "packed", packed_folder, library(), 1)
    pixels = make_photo(70, 90)
    data = codec.encode(pixels)
    assert driver.encode("packed", pixels) == data
    np.testing.assert_array_equal(driver.decode("packed", data, pixels.shape), codec.decode(data))


@pytest.mark.parametrize("command", ["open", "open-memory"])
def test_a_compressed_integer_bundle_passes_its_certificate(driver, integer_folder, tmp_path, make_photo, command):
    folder = compress_bundle(Bundle.open(integer_folder), tmp_path / "packed").folder
    driver.do(command, "packed integers", folder, library(), 1)
    driver.do("prepare", "packed integers")
    pixels = make_photo(40, 50)
    assert driver.encode("packed integers", pixels) == Codec.load(folder, "onnxruntime", threads=1).encode(pixels)


def test_compressed_bundles_are_read_as_plain_ones(probe, tmp_path):
    plain = build_int8_bundle(tmp_path / "int8")
    folder = compress_bundle(Bundle.open(plain), tmp_path / "packed").folder
    found = probe.ask("open", str(folder))
    assert probe.ask("open_memory", *files_of(folder)) == found
    assert [part for place, part in enumerate(found) if place != 3] == [
        part for place, part in enumerate(probe.ask("open", str(plain))) if place != 3
    ]  # the fourth has paths and hashes


@pytest.mark.parametrize("name", PACKED_FILES)
def test_files_that_are_none_or_too_large_are_refused_unread_in_the_same_words(probe, folder, name):
    make, _ = PACKED_FILES[name]
    pack_graph(folder, make((folder / "onnx" / "g_a.onnx").read_bytes()))
    with pytest.raises(BundleError) as ours:
        Bundle.open(folder)
    for request in (("open", str(folder)), ("open_memory", *files_of(folder))):
        with pytest.raises(RefusedError) as theirs:
            probe.ask(*request)
        assert (theirs.value.status, str(theirs.value)) == (BAD_BUNDLE, str(ours.value))


def test_files_are_bounded_together_in_the_same_words(probe, folder):
    for name in ("g_a", "h_a"):
        pack_graph(folder, packed(bytes(10 << 20)), name)
    with pytest.raises(BundleError, match="graphs unpack to more than") as ours:
        Bundle.open(folder)
    with pytest.raises(RefusedError) as theirs:
        probe.ask("open", str(folder))
    assert (theirs.value.status, str(theirs.value)) == (BAD_BUNDLE, str(ours.value))


@pytest.mark.parametrize("name", PACKED_GRAPHS)
@pytest.mark.parametrize("command", ["open", "open-memory"])
def test_graphs_that_do_not_hold_what_they_say_are_refused_in_the_same_words(driver, folder, name, command):
    make, _ = PACKED_GRAPHS[name]
    pack_graph(folder, make((folder / "onnx" / "g_a.onnx").read_bytes()))
    with pytest.raises(BundleError) as ours:
        Codec.load(folder, "onnxruntime", threads=1).open()
    driver.do(command, "hostile", folder, library(), 1)
    assert driver.ask("prepare", "hostile") == (BAD_BUNDLE, str(ours.value))


def test_changed_bytes_are_judged_alike(probe, rng, bundle_folder):
    good = packed((bundle_folder / "onnx/step_03.onnx").read_bytes())
    outcomes = set()
    for turn in range(1500):
        data = bytearray(good)
        for place in rng.integers(0, len(data), rng.integers(0, 4)):
            data[place] ^= 1 << int(rng.integers(0, 8))
        if turn % 5 == 0:
            data = data[: rng.integers(0, len(data) + 1)]
        if turn % 3 == 0:
            data = data + bytes(rng.integers(0, 256, rng.integers(0, 20), dtype=np.uint8))
        if turn % 2 == 0 and len(data) > 4:
            data = naming(bytes(data), int(rng.integers(0, 8000)))
        limit = int(rng.choice([MAX_GRAPH_BYTES, 3000]))
        try:
            expected = (0, unpacked(io.BytesIO(data), limit))
        except ValueError as error:
            expected = (BAD_BUNDLE, str(error))
        try:
            found = (0, probe.ask("unpacked", bytes(data), limit)[0])
        except RefusedError as error:
            found = (error.status, str(error))
        assert found == expected
        outcomes.add(expected[1] if expected[0] else "unpacked")
    texts = {"it is no gzip file", "it is damaged", "it ends early", "something follows its first member", "unpacked"}
    assert texts < outcomes
    assert any("more than the" in text for text in outcomes)
    assert any("the limit is 3000" in text for text in outcomes)
