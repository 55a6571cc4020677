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
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mlic.runtime import manifest_json
from mlic.runtime.bundle import MAX_MANIFEST_BYTES, MAX_TABLES_BYTES, MAX_UNPACKED_BYTES, Bundle
from mlic.runtime.bundle_files import MAX_GRAPH_BYTES, sha256_of
from mlic.runtime.errors import BundleError
from mlic.runtime.manifest_json import MAX_CHANNELS, MAX_DEPTH, MAX_GRAPHS, MAX_STEPS, manifest_from_json
from mlic.runtime.npz import MAX_MEMBERS, arrays_from_npz
from tests.runtime.damaged_bundle import edit, refused


@pytest.fixture
def folder(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "copy")


def write_tables(folder, data):
    (folder / "tables.npz").write_bytes(data)
    edit(folder, lambda value: value["tables"].update(sha256=sha256_of(folder / "tables.npz")))


# Paths


@pytest.mark.parametrize("name", ["manifest.json", "tables.npz", "onnx/g_a.onnx"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "circle", "outside", "device"])
def test_a_file_that_is_none_is_refused_without_being_waited_for(folder, tmp_path, name, kind):
    path = folder / name
    path.rename(tmp_path / "moved")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"circle": path.name, "outside": tmp_path / "moved", "device": "/dev/zero"}[kind])
    refused(folder, "paths lead out of the folder|not a regular file|missing")


@pytest.mark.parametrize(
    "path",
    ["../g_a.onnx", "/etc/passwd", "onnx/../../x.onnx", "", "onnx\\g_a.onnx", "C:\\x.onnx", "a\0b", "a" * 300 + ".onnx",
     "a/" * 500 + "g.onnx", "\ud800.onnx", "onnx/\x1b[2J.onnx", "onnx/a\nb.onnx", "onnx", ".", "x" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("what", ["graph", "tables"])
def test_paths_of_any_kind_are_refused(folder, path, what):
    edit(folder, lambda value: (value["graphs"][0] if what == "graph" else value["tables"]).update(path=path))
    refused(folder, "paths lead out|missing|cannot read|path is|have to be files .onnx")


def test_graphs_have_to_be_called_onnx(folder):
    (folder / "onnx" / "g_a.onnx").rename(folder / "onnx" / "g_a.ort")
    edit(folder, lambda value: value["graphs"][0].update(path="onnx/g_a.ort"))
    refused(folder, "graphs have to be files .onnx: onnx/g_a.ort")


def test_a_sparse_graph_of_terabytes_is_not_read(folder):
    os.truncate(folder / "onnx" / "g_s.onnx", 1 << 42)
    refused(folder, f"graphs of {1 << 42} bytes, .*; the limits are {MAX_GRAPH_BYTES} and ")


# The manifest


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 900 + b"]" * 900, b"NaN", b"1" * 5000])
def test_text_that_is_deep_or_no_json_is_refused(folder, text):
    (folder / "manifest.json").write_bytes(text)
    refused(folder, "is not JSON|deep|not the manifest")


def test_depth_is_limited_whatever_the_parser_bears(folder):
    deep = None
    for _ in range(MAX_DEPTH):
        deep = [deep]
    edit(folder, lambda value: value.update(future=deep))  # the root is one level
    refused(folder, f"lie more than {MAX_DEPTH} deep")
    edit(folder, lambda value: value.update(future=deep[0]))
    assert Bundle.open(folder)


def test_a_manifest_of_more_bytes_is_not_parsed(folder):
    with (folder / "manifest.json").open("ab") as file:
        file.write(b" " * MAX_MANIFEST_BYTES)
    refused(folder, f"manifest.json is larger than {MAX_MANIFEST_BYTES} bytes")


def set_at(*path, value):
    def change(root):
        target = root
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value(target[path[-1]]) if callable(value) else value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("latent", "y_channels", value=1 << 40), f"y_channels is 1099511627776; expected 1 to {MAX_CHANNELS}"),
        (set_at("latent", "z_channels", value=MAX_CHANNELS + 1), f"expected 1 to {MAX_CHANNELS}"),
        (set_at("steps", 0, "channels", value=[0, 1 << 40]), "channels is"),
        (set_at("padding", "multiple", value=64 << 40), "multiple is 70368744177664; expected 1 to 4096"),
        (set_at("padding", "multiple", value=10**4000), "multiple is 1000"),
        (set_at("sizes", value={"min": [1, 1], "opt": [64, 64], "max": [1 << 40, 64]}), "sizes.max is"),
        (set_at("graphs", value=lambda graphs: graphs * 200), f"expected 1 to {MAX_GRAPHS}"),
        (set_at("steps", value=lambda steps: steps * 200), f"expected 1 to {MAX_STEPS}"),
        (set_at("graphs", 0, "inputs", value={f"x{n}": {} for n in range(300)}), "300 entries; expected at most 256"),
        (set_at("graphs", 0, "inputs", "x", "shape", value=[1] * 9), "9 dimensions; expected at most 8"),
        (set_at("graphs", 0, "inputs", "x", "shape", value=[1 << 31]), "shape holds 2147483648"),
        (set_at("graphs", 0, "inputs", "x", "shape", value=["height/" + "9" * 5000]), "shape holds 'height/9999"),
        (set_at("graphs", 0, "inputs", value={"a\nb": {}}), "is a name; expected"),
        (set_at("name", value="two\nlines"), "name is 'two.*printable"),
        (set_at("name", value="a" * 2000), "name is 'aaa"),
        (set_at("latent", "y_channels", value=float("nan")), "not JSON: NaN"),
        (set_at("future", value=float("-inf")), "not JSON: -Infinity"),
        (set_at("latent", "y_channels", value=6.0), "expected int"),
    ],
)
def test_absurd_numbers_are_refused(folder, change, message):
    edit(folder, change)
    refused(folder, message)


def test_problems_are_listed_up_to_a_number(folder):
    edit(folder, lambda value: value["graphs"].extend([3] * 500))
    refused(folder, r"; and \d+ more$")


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


def npy(header, data=b""):
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def zipped(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def claiming(shape, dtype="<f4"):
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zipped({"a.npy": npy(claiming("(1099511627776,)"), bytes(9))}), "its header claims 4398046511104 bytes"),
        (zipped({"a.npy": npy(claiming("(1099511627776, 0, 5)"), bytes(9))}), "scale_table is missing"),
        (zipped({"a.npy": npy(claiming("(-1, -1)"), bytes(9))}), "expected sides of 0 or more"),
        (zipped({"a.npy": npy(claiming("(1,)", "|V2147483647"), bytes(9))}), "expected numbers"),
        (zipped({"a.npy": npy(claiming("(1,)", "|O"), b"cos\nsystem\n(S'id'\ntR.")}), "Object arrays cannot be loaded"),
        (zipped({"a.npy": npy(b"(" * 9000)}), "cannot read tables.npz"),
        (zipped({"a.npy": npy(b"__import__('os').abort()")}), "cannot read tables.npz"),
        (zipped({"a.npy": bytes(MAX_UNPACKED_BYTES + 1)}, zipfile.ZIP_DEFLATED), "unpacks to more than"),
        (zipped({f"{n}": b"" for n in range(MAX_MEMBERS + 1)}), "65 members; expected at most 64"),
        (zipped({"a.npy": bytes(9)}, zipfile.ZIP_LZMA), "neither stored nor deflated"),
        (zipped({"a.npy": bytes(9)}, zipfile.ZIP_BZIP2), "neither stored nor deflated"),
        (bytes(MAX_TABLES_BYTES + 1), f"tables.npz is larger than {MAX_TABLES_BYTES} bytes"),
    ],
    ids=[  # the files themselves hold the time of day
        "terabytes",
        "a side of zero",
        "negative sides",
        "two gigabytes an element",
        "objects",
        "nested header",
        "code as header",
        "bomb",
        "many members",
        "LZMA",
        "bzip2",
        "large file",
    ],
)
def test_tables_that_claim_or_unpack_to_too_much_are_refused(folder, data, message):
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


def graph_with(tensor, name="y"):
    """Return an ONNX file whose graph adds a tensor; of no use to a codec, which is found out later."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", tensor.name], [name])], "g",
        [value("x", TensorProto.FLOAT, [4])], [value(name, TensorProto.FLOAT, [4])], [tensor],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def external(location, **more):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def put_graph(folder, data):
    (folder / "onnx" / "g_a.onnx").write_bytes(data)
    edit(folder, lambda value: value["graphs"][0].update(sha256=sha256_of(folder / "onnx" / "g_a.onnx")))


@pytest.mark.parametrize("location", ["../outside", "/etc/passwd", "inside", "*/_ORT_MEM_ADDR_/*", "/dev/zero"])
def test_a_graph_with_data_in_another_file_is_refused(folder, location):
    (folder / "onnx" / "inside").write_bytes(bytes(16))
    put_graph(folder, graph_with(external(location, offset=0, length=16)).SerializeToString())
    refused(folder, "graphs keep weights in other files: onnx/g_a.onnx")


def test_it_is_found_wherever_it_stands_and_however_it_is_written(folder):
    branch = graph_with(external("inside")).graph
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    model = helper.make_model(helper.make_graph([node], "g", [], []), ir_version=10)
    put_graph(folder, model.SerializeToString())
    refused(folder, "graphs keep weights in other files")
    plain = graph_with(external("inside")).SerializeToString()
    for key in (b"\x0a\x88\x00location", b"\x8a\x00\x08location", b"\x8a\x80\x00\x88\x80\x80\x00location"):
        put_graph(folder, plain.replace(b"\x0a\x08location", key))
        refused(folder, "graphs keep weights in other files")


@pytest.mark.parametrize("shift", range(-20, 21, 4))
def test_it_is_found_across_the_blocks_in_which_files_are_read(folder, shift):
    data = graph_with(external("inside")).SerializeToString()
    before = (1 << 20) - data.index(b"location") + shift
    head = onnx.ModelProto(doc_string="a" * (before - 5)).SerializeToString()  # 1 byte of tag, 3 or 4 of length
    put_graph(folder, head + data)
    refused(folder, "graphs keep weights in other files")


def test_names_that_hold_the_word_are_fine(folder):
    path = folder / "onnx" / "g_a.onnx"
    model = onnx.load(path)
    model.graph.node[0].name = "/allocation/location"
    model.graph.doc_string = "location"
    put_graph(folder, model.SerializeToString())
    assert b"location" in path.read_bytes()
    assert Bundle.open(folder)


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
