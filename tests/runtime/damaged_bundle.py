"""Bundles that were changed to harm, and the one line with which they are refused; both runtimes refuse them."""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from functools import partial
from io import BytesIO

import pytest
from onnx import ModelProto, TensorProto, helper

from mlic.runtime.bundle import MAX_TABLES_BYTES, MAX_UNPACKED_BYTES, Bundle
from mlic.runtime.bundle_files import MAX_GRAPH_BYTES, sha256_of
from mlic.runtime.container import MAX_SIDE
from mlic.runtime.errors import MAX_LISTED, BundleError
from mlic.runtime.gzip_file import most_unpacked, packed
from mlic.runtime.manifest_json import MAX_CHANNELS, MAX_GRAPHS, MAX_STEPS
from mlic.runtime.npz import MAX_MEMBERS


def edit(folder, change):
    """Change the manifest, given as the parsed JSON."""
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def refused(folder, message):
    """Expect an error whose text matches, on one line that stays short however much is wrong."""
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 * (MAX_LISTED + 2)


def set_at(*path, value):
    """Return a change of one place of a manifest: to a value, or to what a function makes of what was there."""

    def change(root):
        target = root
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value(target[path[-1]]) if callable(value) else value

    return change


def write_tables(folder, data):
    """Replace the tables, with a SHA-256 that fits."""
    (folder / "tables.npz").write_bytes(data)
    edit(folder, lambda value: value["tables"].update(sha256=sha256_of(folder / "tables.npz")))


def put_graph(folder, data):
    """Replace the first graph, with a SHA-256 that fits."""
    (folder / "onnx" / "g_a.onnx").write_bytes(data)
    edit(folder, lambda value: value["graphs"][0].update(sha256=sha256_of(folder / "onnx" / "g_a.onnx")))


# Paths

PATHS = (
    "../g_a.onnx", "/etc/passwd", "onnx/../../x.onnx", "", "onnx\\g_a.onnx", "C:\\x.onnx", "a\0b", "a" * 300 + ".onnx",
    "a/" * 500 + "g.onnx", "\ud800.onnx", "onnx/\x1b[2J.onnx", "onnx/a\nb.onnx", "onnx", ".", "x" * 5000,
)  # fmt: skip
PATH_REFUSALS = "paths lead out|missing|cannot read|path is|have to be files .onnx|is not JSON"


def put_in_place_of(path, kind, aside):
    """Put something that is no file of the bundle where one was, which goes ``aside``."""
    path.rename(aside)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"circle": path.name, "outside": aside, "device": "/dev/zero"}[kind])


def rename_graph(folder):
    """Call a graph something else than .onnx."""
    (folder / "onnx" / "g_a.onnx").rename(folder / "onnx" / "g_a.ort")
    edit(folder, lambda value: value["graphs"][0].update(path="onnx/g_a.ort"))


FILES = {  # what is done to the folder, and what is said then
    "not .onnx": (rename_graph, "graphs have to be files .onnx or .onnx.gz: onnx/g_a.ort"),
    "sparse graph": (
        lambda folder: os.truncate(folder / "onnx" / "g_s.onnx", 1 << 42),
        rf"graphs of {1 << 42} bytes, \d+ in all; the limits are {MAX_GRAPH_BYTES} and {1 << 33}",
    ),
    "sparse tables": (
        lambda folder: os.truncate(folder / "tables.npz", 1 << 42),
        f"tables.npz is larger than {MAX_TABLES_BYTES} bytes",
    ),
    "sparse manifest": (
        lambda folder: os.truncate(folder / "manifest.json", 1 << 42),
        f"manifest.json is larger than {1 << 22} bytes",
    ),
}

# Manifests

MANIFESTS = (
    (set_at("latent", "y_channels", value=1 << 40), f"y_channels is 1099511627776; expected 1 to {MAX_CHANNELS}"),
    (set_at("latent", "y_channels", value=MAX_CHANNELS + 1), f"is {MAX_CHANNELS + 1}; expected 1 to {MAX_CHANNELS}"),
    (set_at("latent", "z_channels", value=MAX_CHANNELS + 1), f"expected 1 to {MAX_CHANNELS}"),
    (set_at("steps", 0, "channels", value=[0, 1 << 40]), r"channels is .0, ?1099511627776.; expected .first, end."),
    (set_at("steps", 0, "channels", value=[0, MAX_CHANNELS + 1]), f"0 <= first < end <= {MAX_CHANNELS}"),
    (set_at("padding", "multiple", value=64 << 40), "multiple is 70368744177664; expected 1 to 4096"),
    (set_at("padding", "multiple", value=4160), "multiple is 4160; expected 1 to 4096"),
    (set_at("padding", "multiple", value=10**4000), "not JSON: "),
    (set_at("graphs", 0, "tiling", value={"multiple": 4112, "halo": 0}), "multiple is 4112; expected 1 to 4096"),
    (set_at("graphs", 0, "tiling", value={"multiple": 16, "halo": MAX_SIDE + 16}), f"expected 0 to {MAX_SIDE}"),
    (set_at("sizes", value={"min": [1, 1], "opt": [64, 64], "max": [1 << 40, 64]}), "sizes.max is"),
    (set_at("sizes", value={"min": [1, 1], "opt": [9, 9], "max": [9, MAX_SIDE + 1]}), f"at most {MAX_SIDE}"),
    (set_at("sizes", value={"min": [0, 1], "opt": [9, 9], "max": [9, 9]}), "sizes.height has min 0, opt 9, max 9"),
    (set_at("graphs", value=lambda graphs: graphs * 200), f"expected 1 to {MAX_GRAPHS}"),
    (set_at("steps", value=lambda steps: steps * 200), f"1000 entries; expected 1 to {MAX_STEPS}"),
    (set_at("graphs", 0, "inputs", value={f"x{n}": {} for n in range(300)}), "300 entries; expected at most 256"),
    (set_at("graphs", 0, "inputs", "x", "shape", value=[1] * 9), "9 dimensions; expected at most 8"),
    (set_at("graphs", 0, "inputs", "x", "shape", value=[1 << 31]), "shape holds 2147483648"),
    (set_at("graphs", 0, "inputs", "x", "shape", value=["height/" + "9" * 5000]), "shape holds .height/9999"),
    (set_at("graphs", 0, "inputs", value={"a\nb": {}}), "is a name; expected at most 1024 printable characters"),
    (set_at("graphs", 0, "inputs", value={"a" * 1025: {}}), "is a name; expected at most 1024 printable characters"),
    (set_at("name", value="two\nlines"), "name is .two.*printable"),
    (set_at("name", value="\u202ename"), "name is .*printable"),
    (set_at("name", value="\x9b31m"), "name is .*printable"),
    (set_at("name", value="a" * 1025), "name is .aaa.*; expected at most 1024 printable characters"),
    (set_at("engine", value="\ud800"), "printable|not JSON"),
    (set_at("padding", "fill", value="a" * 1025), "fill is .aaa.*; expected at most 1024 printable characters"),
    (set_at("latent", "y_channels", value=float("nan")), "not JSON: "),
    (set_at("future", value=float("-inf")), "not JSON: "),
    (set_at("latent", "y_channels", value=6.0), "expected int"),
    (set_at("graphs", value=lambda graphs: graphs + [3] * 500), r"; and \d+ more$"),
)


def nested(depth):
    """Return lists in one another."""
    value = None
    for _ in range(depth):
        value = [value]
    return value


TEXTS = {
    "lists": b"[" * 100_000,
    "objects": b'{"a":' * 100_000,
    "deep": b"[" * 900 + b"]" * 900,
    "NaN": b"NaN",
    "digits": b"1" * 5000,
    "exponent": b'{"format": 1e999}',
    "UTF-16": '{"format": "mlic-bundle"}'.encode("utf-16"),
    "half of a pair": b'{"\\ud800": 1}',
    "half of a pair, packed": b'{"\xed\xa0\x80": 1}',
}

# Tables


def npy(header, data=b""):
    """Return a member that begins as an array does."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def zipped(members, method=zipfile.ZIP_STORED):
    """Return a zip file of members given by name and contents."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def claiming(shape, dtype="<f4"):
    """Return the header of an array."""
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


TABLES = {  # the files themselves hold the time of day
    "terabytes": (zipped({"a.npy": npy(claiming("(1099511627776,)"), bytes(9))}), "header claims .*; the member has"),
    "terabytes of what nobody reads": (
        zipped({"a.npy": npy(claiming("(1048576, 1048576)", "<f8"), bytes(9))}), "header claims .*; the member has",
    ),
    "a product that overflows": (
        zipped({"a.npy": npy(claiming("(4294967296, 4294967296, 1)", "|u1"), bytes(9))}), "header claims",
    ),
    "a side of zero": (
        zipped({"a.npy": npy(claiming("(1099511627776, 0, 5)"), bytes(9))}), "scale_table is missing",
    ),
    "negative sides": (zipped({"a.npy": npy(claiming("(-1, -1)"), bytes(9))}), "cannot read .*shape"),
    "two gigabytes an element": (
        zipped({"a.npy": npy(claiming("(1,)", "|V2147483647"), bytes(9))}), "expected numbers",
    ),
    "text": (zipped({"a.npy": npy(claiming("(1,)", "<U2"), bytes(9))}), "expected numbers"),
    "objects": (
        zipped({"a.npy": npy(claiming("(1,)", "|O"), b"cos\nsystem\n(S'id'\ntR.")}), "[Oo]bject",
    ),
    "nested header": (zipped({"a.npy": npy(b"(" * 9000)}), "cannot read"),
    "code as header": (zipped({"a.npy": npy(b"__import__('os').abort()")}), "cannot read"),
    "bomb": (zipped({"a.npy": bytes(MAX_UNPACKED_BYTES + 1)}, zipfile.ZIP_DEFLATED), "unpack(s)? to more than"),
    "many members": (
        zipped({f"{n}": b"" for n in range(MAX_MEMBERS + 1)}), "65 members; expected at most 64",
    ),
    "LZMA": (zipped({"a.npy": bytes(9)}, zipfile.ZIP_LZMA), "neither stored nor deflated"),
    "bzip2": (zipped({"a.npy": bytes(9)}, zipfile.ZIP_BZIP2), "neither stored nor deflated"),
    "large file": (bytes(MAX_TABLES_BYTES + 1), f"tables.npz is larger than {MAX_TABLES_BYTES} bytes"),
}  # fmt: skip

# Compressed graphs


def pack_graph(folder, data, name="g_a"):
    """Put a compressed file in the place of a graph, with a SHA-256 that fits."""
    path = folder / "onnx" / f"{name}.onnx.gz"
    path.write_bytes(data)
    entry = {"path": f"onnx/{name}.onnx.gz", "sha256": sha256_of(path)}
    edit(folder, lambda value: next(graph for graph in value["graphs"] if graph["name"] == name).update(entry))


def naming(data, size):
    """Return a gzip file that says it unpacks to something else."""
    return data[:-4] + struct.pack("<I", size)


PACKED_FILES = {  # made of the graph's bytes; what is said when the bundle is opened
    "a plain file": (lambda model: model, "no gzip files: onnx/g_a.onnx.gz"),
    "nothing": (lambda _: b"", "no gzip files: onnx/g_a.onnx.gz"),
    "a head alone": (lambda model: packed(model)[:17], "no gzip files: onnx/g_a.onnx.gz"),
    "zlib": (zlib.compress, "no gzip files: onnx/g_a.onnx.gz"),
    "four gigabytes": (
        lambda model: naming(packed(model), 0xFFFFFFFF),
        rf"graphs of {0xFFFFFFFF} bytes, \d+ in all; the limits are {MAX_GRAPH_BYTES} and {1 << 33}",
    ),
    "more than it may": (
        lambda model: naming(packed(model), most_unpacked(len(packed(model))) + 1),
        rf"graphs unpack to more than {1 << 24} bytes \+ 16 times their own: onnx/g_a.onnx.gz",
    ),
    "a bomb": (lambda _: packed(bytes(1 << 25)), rf"graphs unpack to more than {1 << 24} bytes \+ 16 times their own"),
}
PACKED_GRAPHS = {  # likewise; what is said when the graph is opened
    "cut": (
        lambda model: naming(packed(model)[: len(packed(model)) // 2], len(model)),
        "cannot unpack g_a.onnx.gz: it (ends early|is damaged)",
    ),
    "cut before its end": (
        lambda model: naming(packed(model)[:-8], len(model)),
        "cannot unpack g_a.onnx.gz: it (ends early|is damaged|unpacks to more than .*)",
    ),
    "of another checksum": (
        lambda model: packed(model)[:-8] + bytes(4) + packed(model)[-4:], "cannot unpack g_a.onnx.gz: it is damaged",
    ),
    "of no method": (lambda model: b"\x1f\x8b\7" + packed(model)[3:], "cannot unpack g_a.onnx.gz: it is damaged"),
    "of a name without end": (
        lambda _: b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 9 + b"\1\1\1\0",
        "cannot unpack g_a.onnx.gz: it ends early",
    ),
    "longer than it says": (
        lambda model: naming(packed(model), len(model) - 2),
        r"cannot unpack g_a.onnx.gz: it unpacks to more than the \d+ bytes that it names",
    ),
    "much longer than it says": (
        lambda _: naming(packed(bytes(1 << 25)), 9),
        "cannot unpack g_a.onnx.gz: it unpacks to more than the 9 bytes that it names",
    ),
    "shorter than it says": (
        lambda model: naming(packed(model), len(model) + 1), "cannot unpack g_a.onnx.gz: it is damaged",
    ),
    "followed by something": (
        lambda model: packed(model) + struct.pack("<I", len(model)),
        "cannot unpack g_a.onnx.gz: something follows its first member",
    ),
    "of two members": (
        lambda model: packed(model) * 2, "cannot unpack g_a.onnx.gz: something follows its first member",
    ),
    "with data elsewhere": (lambda _: packed(_plain().SerializeToString()), "g_a.onnx.gz keeps weights in other files"),
}  # fmt: skip

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
    """Return a tensor whose data lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _plain():
    return graph_with(external("inside"))


def _in_a_branch():
    branch = _plain().graph
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    return helper.make_model(helper.make_graph([node], "g", [], []), ir_version=10).SerializeToString()


def _at(location):
    return graph_with(external(location, offset=0, length=16)).SerializeToString()


def _written(key):
    return _plain().SerializeToString().replace(b"\x0a\x08location", key)


def _across(shift):
    data = _plain().SerializeToString()
    before = (1 << 20) - data.index(b"location") + shift
    return ModelProto(doc_string="a" * (before - 5)).SerializeToString() + data  # 1 byte of tag, 3 or 4 of length


LOCATIONS = ("../outside", "/etc/passwd", "inside", "*/_ORT_MEM_ADDR_/*", "/dev/zero")
KEYS = (b"\x0a\x88\x00location", b"\x8a\x00\x08location", b"\x8a\x80\x00\x88\x80\x80\x00location")
GRAPHS = {  # that keep data in other files, wherever that stands and however it is written
    **{f"at {location}": partial(_at, location) for location in LOCATIONS},
    "in a branch": _in_a_branch,
    **{f"key {number}": partial(_written, key) for number, key in enumerate(KEYS)},
    **{f"across blocks {shift}": partial(_across, shift) for shift in range(-20, 21, 4)},
}
