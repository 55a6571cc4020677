"""Bundles made to harm: each ends in one BundleError, soon, in little memory, and nothing outside is touched."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime import Codec, manifest_json
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import MAX_MANIFEST_BYTES, Bundle
from mlic.runtime.errors import BundleError
from mlic.runtime.gzip_file import packed, unpacked
from mlic.runtime.manifest_json import manifest_from_json
from mlic.runtime.npz import arrays_from_npz
from mlic.runtime.strict_json import MAX_DEPTH
from tests.runtime.damaged_bundle import (
    FILES,
    GRAPHS,
    MANIFESTS,
    PACKED_FILES,
    PACKED_GRAPHS,
    PATH_REFUSALS,
    PATHS,
    TABLES,
    TEXTS,
    claiming,
    edit,
    naming,
    nested,
    npy,
    pack_graph,
    put_graph,
    put_in_place_of,
    refused,
    set_at,
    write_tables,
    zipped,
)


@pytest.fixture
def folder(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "copy")


# Paths


@pytest.mark.parametrize("name", ["manifest.json", "tables.npz", "onnx/g_a.onnx"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "circle", "outside", "device"])
def test_a_file_that_is_none_is_refused_without_being_waited_for(folder, tmp_path, name, kind):
    put_in_place_of(folder / name, kind, tmp_path / "moved")
    refused(folder, "paths lead out of the folder|not a regular file|missing")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("what", ["graph", "tables"])
def test_paths_of_any_kind_are_refused(folder, path, what):
    edit(folder, lambda value: (value["graphs"][0] if what == "graph" else value["tables"]).update(path=path))
    refused(folder, PATH_REFUSALS)


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_too_large_or_of_another_kind_are_refused(folder, name):
    change, message = FILES[name]
    change(folder)
    refused(folder, message)


# The manifest


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_deep_or_no_json_is_refused(folder, name):
    (folder / "manifest.json").write_bytes(TEXTS[name])
    refused(folder, "is not JSON|deep|not the manifest")


def test_depth_is_limited_whatever_the_parser_bears(folder):
    edit(folder, lambda value: value.update(future=nested(MAX_DEPTH)))  # the root is one level
    refused(folder, f"lie more than {MAX_DEPTH} deep")
    edit(folder, lambda value: value.update(future=nested(MAX_DEPTH - 1)))
    assert Bundle.open(folder)


def test_a_manifest_of_more_bytes_is_not_parsed(folder):
    with (folder / "manifest.json").open("ab") as file:
        file.write(b" " * MAX_MANIFEST_BYTES)
    refused(folder, f"manifest.json is larger than {MAX_MANIFEST_BYTES} bytes")


@pytest.mark.parametrize(("change", "message"), MANIFESTS)
def test_absurd_numbers_are_refused(folder, change, message):
    edit(folder, change)
    refused(folder, message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


@given(st.data())
def test_any_value_anywhere_is_read_or_refused(bundle_folder, data):
    root = json.loads((bundle_folder / "manifest.json").read_text())
    place = root
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(json_values)
        break
    try:
        manifest = manifest_from_json(json.dumps(root))
    except BundleError:
        return
    assert manifest_from_json(manifest_json.json_from_manifest(manifest)) == manifest


# Tables


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_claim_or_unpack_to_too_much_are_refused(folder, name):
    data, message = TABLES[name]
    write_tables(folder, data)
    refused(folder, message)


def test_a_member_gives_no_more_than_its_directory_says():
    data = zipped({"a.npy": npy(claiming("(16,)"), bytes(64)) + bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    place = data.rindex(b"PK\1\2") + 24
    lying = data[:place] + struct.pack("<I", 100) + data[place + 4 :]
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        arrays_from_npz(lying, 1 << 20)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_tables(data):
    try:
        arrays = arrays_from_npz(data, 1 << 20)
    except Exception as error:
        assert not isinstance(error, MemoryError)  # noqa: PT017
    else:
        assert arrays == {}


@given(st.data())
def test_tables_with_changed_bytes_are_read_or_refused(bundle_folder, data):
    changed = bytearray((bundle_folder / "tables.npz").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = arrays_from_npz(bytes(changed), 1 << 20)
    except Exception as error:
        assert not isinstance(error, MemoryError)  # noqa: PT017
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())


# Graphs


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_with_data_in_another_file_is_refused(folder, name):
    (folder / "onnx" / "inside").write_bytes(bytes(16))
    put_graph(folder, GRAPHS[name]())
    refused(folder, "graphs keep weights in other files: onnx/g_a.onnx")


def test_names_that_hold_the_word_are_fine(folder):
    path = folder / "onnx" / "g_a.onnx"
    model = onnx.load(path)
    model.graph.node[0].name = "/allocation/location"
    model.graph.doc_string = "location"
    put_graph(folder, model.SerializeToString())
    assert b"location" in path.read_bytes()
    assert Bundle.open(folder)


# Compressed graphs


@pytest.mark.parametrize("name", PACKED_FILES)
def test_a_compressed_graph_that_is_none_or_too_large_is_refused_unread(folder, name):
    make, message = PACKED_FILES[name]
    pack_graph(folder, make((folder / "onnx" / "g_a.onnx").read_bytes()))
    refused(folder, message)
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder, verify_hashes=False)


@pytest.mark.parametrize("name", PACKED_GRAPHS)
def test_a_compressed_graph_that_does_not_hold_what_it_says_is_refused_when_it_is_opened(folder, name):
    make, message = PACKED_GRAPHS[name]
    pack_graph(folder, make((folder / "onnx" / "g_a.onnx").read_bytes()))
    bundle = Bundle.open(folder)
    graph = bundle.manifest.graphs["g_a"]
    for use in (Codec(bundle, OnnxRuntimeBackend(1)).open, lambda: bundle.read_graph(graph)):
        with pytest.raises(BundleError, match=f"^graph g_a: {message}$") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_compressed_graphs_are_bounded_together_too(folder):
    """Two of 10 MiB from 10 kB each: one alone may be as large."""
    pack_graph(folder, packed(bytes(10 << 20)), "g_a")
    assert Bundle.open(folder)
    pack_graph(folder, packed(bytes(10 << 20)), "h_a")
    refused(folder, "graphs unpack to more than .* their own: onnx/g_a.onnx.gz, onnx/h_a.onnx.gz$")


def test_a_changed_compressed_graph_is_noticed_by_its_hash_first(packed_folder, tmp_path):
    folder = shutil.copytree(packed_folder, tmp_path / "copy")
    path = folder / "onnx" / "h_s.onnx.gz"
    path.write_bytes(path.read_bytes()[:-1])
    refused(folder, "SHA-256 differs from the manifest's: onnx/h_s.onnx.gz$")


def test_a_bomb_that_lies_about_its_size_takes_no_memory(folder):
    pack_graph(folder, naming(packed(bytes(1 << 28)), 1000))
    bundle = Bundle.open(folder)
    tracemalloc.start()
    with pytest.raises(BundleError, match="more than the 1000 bytes that it names"):
        bundle.read_graph(bundle.manifest.graphs["g_a"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@given(st.data())
def test_gzip_files_with_changed_bytes_give_what_they_held_or_nothing(bundle_folder, data):
    model = (bundle_folder / "onnx/step_01.onnx").read_bytes()
    changed = bytearray(packed(model))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    changed = changed[: data.draw(st.integers(0, len(changed)) | st.just(len(changed)))]
    try:
        found = unpacked(io.BytesIO(changed), 1 << 20)
    except ValueError:
        return
    assert found == model


def test_the_worst_of_them_are_refused_in_little_memory(folder, tmp_path):
    """What ``ulimit`` allows is below what any of these asks for."""
    script = (
        "import sys; from mlic.runtime.bundle import Bundle; from mlic.runtime.errors import BundleError\n"
        "try: Bundle.open(sys.argv[1])\n"
        "except BundleError as error: print('refused')"
    )
    cases = {
        "channels": lambda copy: edit(copy, set_at("latent", "y_channels", value=1 << 33)),
        "lists": lambda copy: (copy / "manifest.json").write_bytes(b"[" + b"[]," * 1_390_000 + b"[]]"),
        "tables": lambda copy: write_tables(copy, zipped({"a.npy": npy(claiming("(1073741824,)"), bytes(9))})),
        "sparse": lambda copy: os.truncate(copy / "tables.npz", 1 << 40),
    }
    for name, change in cases.items():
        copy = shutil.copytree(folder, tmp_path / name)
        change(copy)
        result = subprocess.run(
            [sys.executable, "-c", script, str(copy)], capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, cwd=Path(__file__).parents[2],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
        )  # fmt: skip
        assert (result.returncode, result.stdout) == (0, "refused\n"), (name, result.stderr)
