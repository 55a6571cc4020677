"""Graphs that lie compressed in their bundle: every engine opens them, and computes what it does from plain ones."""

from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest

from mlic.export.compression import compress_bundle
from mlic.runtime import Codec
from mlic.runtime.backends import open_backend
from mlic.runtime.backends.base import symmetric_form
from mlic.runtime.bundle import Bundle
from mlic.runtime.graph_bytes import source_of

ENGINES = ("auto", "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def packed_int8(int8_folder, tmp_path_factory):
    return compress_bundle(Bundle.open(int8_folder), tmp_path_factory.mktemp("packed") / "int8").folder


def engine_of(name):
    if name == "openvino":
        pytest.importorskip("openvino")
    return open_backend(name, threads=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_write_the_same_bytes_with_compressed_graphs(bundle_folder, packed_folder, make_photo, engine):
    pixels = make_photo(70, 90)
    plain, packed = (Codec.load(folder, engine_of(engine)) for folder in (bundle_folder, packed_folder))
    data = plain.encode(pixels)
    assert packed.encode(pixels) == data
    assert np.array_equal(packed.decode(data), plain.decode(data))


@pytest.mark.parametrize("engine", ENGINES)
def test_forms_of_int8_bundles_are_found_where_they_are_compressed(int8_folder, packed_int8, make_photo, engine):
    pixels = make_photo(64, 64)
    plain, packed = (Codec.load(folder, engine_of(engine)) for folder in (int8_folder, packed_int8))
    assert packed.encode(pixels) == plain.encode(pixels)
    bundle = packed.bundle
    graph = bundle.manifest.graphs["g_a"]
    path, entry = symmetric_form(bundle.path_of(graph), graph)
    assert path == packed_int8 / "onnx/g_a.symmetric.onnx.gz"
    assert source_of(path, entry) == (int8_folder / "onnx/g_a.symmetric.onnx").read_bytes()


def test_plain_graphs_are_left_to_the_engine_to_read(bundle_folder, packed_folder):
    for folder, kind in ((bundle_folder, str), (packed_folder, bytes)):
        bundle = Bundle.open(folder)
        graph = bundle.manifest.graphs["h_s"]
        assert type(source_of(bundle.path_of(graph), graph)) is kind
        assert bundle.read_graph(graph) == (bundle_folder / "onnx/h_s.onnx").read_bytes()


def test_files_of_other_programs_are_read_with_name_and_time(packed_folder, bundle_folder, tmp_path, codec, make_photo):
    folder = shutil.copytree(packed_folder, tmp_path / "bundle")
    with (folder / "onnx/g_a.onnx.gz").open("wb") as file, gzip.GzipFile("g_a", "wb", 1, file, mtime=1e9) as member:
        member.write((bundle_folder / "onnx/g_a.onnx").read_bytes())
    bundle = Bundle.open(folder, verify_hashes=False)
    assert Codec(bundle, open_backend("onnxruntime", 1)).encode(make_photo(9, 9)) == codec.encode(make_photo(9, 9))
