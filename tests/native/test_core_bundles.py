"""The native reader of bundles opens what Python opens, and refuses what Python refuses."""

from __future__ import annotations

import hashlib
import io
import shutil
import struct
import zipfile

import numpy as np
import pytest

from mlic.runtime.arithmetic import ARITHMETICS
from mlic.runtime.bundle import Bundle
from mlic.runtime.choices import QUALITIES
from mlic.runtime.errors import BundleError
from mlic.runtime.manifest import Padding
from mlic.runtime.shipped import shipped_bundle
from tests.int8_bundle import build_int8_bundle
from tests.integer_bundle import build_integer_bundle
from tests.native.core_probe import RefusedError, files_of
from tests.runtime.damaged_bundle import edit, set_at, write_tables
from tests.tiny_bundle import build_tiny_bundle

pytestmark = pytest.mark.xdist_group("native_core")  # one build


@pytest.fixture
def folder(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "copy")


def opened_alike(probe, folder):
    """Open a bundle with both, in both ways; return whether it was opened."""
    try:
        Bundle.open(folder)
    except BundleError:
        expected = 30
    else:
        expected = 0
    assert probe.status("open", str(folder)) == expected
    return expected == 0


@pytest.mark.parametrize("name", [*QUALITIES, "tiny", "centred", "integer"])
def test_bundles_are_read_as_python_reads_them(probe, bundle_folder, tmp_path, name):
    folder = bundle_folder if name == "tiny" else shipped_bundle(name) if name in QUALITIES else tmp_path / "b"
    if name == "centred":
        build_tiny_bundle(folder, seed=3, padding=Padding(128, "centre", "edge"))
    if name == "integer":
        build_integer_bundle(folder)
    bundle = Bundle.open(folder)
    manifest, entropy = bundle.manifest, bundle.entropy
    found = probe.ask("open", str(folder))
    assert probe.ask("open_memory", *files_of(folder)) == found
    title, model_id, steps, graphs, scales, frequencies, offsets = found
    assert (title.decode(), model_id) == (manifest.name, manifest.model_id)
    assert (scales, frequencies) == (entropy.scale_table.tobytes(), entropy.y.frequencies.tobytes())
    assert offsets == entropy.z.offsets.tobytes()
    expected = []
    for step in manifest.steps:
        given = ARITHMETICS[manifest.arithmetic].output(step)
        shape = manifest.graphs[step.graph].spec.outputs[given].concrete(128, 192)
        expected.append(f"{step.graph} {step.channels[0]} {step.channels[1]} {np.prod(shape)} {given} {step.symbols}")
    assert steps.decode().splitlines() == expected
    lines = dict(line.split(" ", 1) for line in graphs.decode().splitlines())
    assert lines.keys() == manifest.graphs.keys()
    for graph, line in lines.items():
        file = manifest.graphs[graph]
        text = f"{file.path} {file.sha256} {'exact' if file.spec.exact else 'free'}"
        if file.tiling is not None:
            text += f" tiles {file.tiling.multiple} {file.tiling.halo}"
        for tensor, spec in sorted(file.spec.inputs.items()):
            text += f" {tensor} {spec.dtype} [{', '.join(map(str, spec.shape))}]"
        for tensor, spec in file.spec.outputs.items():
            text += f" {tensor} {' '.join(map(str, spec.concrete(128, 192)))}"
        assert line == text


def delete_at(*path):
    def change(root):
        target = root
        for key in path[:-1]:
            target = target[key]
        del target[path[-1]]

    return change


def add_graph(root):
    root["graphs"].append(root["graphs"][0])


MANIFESTS = {
    "format": set_at("format", value="other"),
    "newer": set_at("format_version", value=2),
    "version is a flag": set_at("format_version", value=True),
    "version is a fraction": set_at("format_version", value=1.0),
    "no name": delete_at("name"),
    "name is null": set_at("name", value=None),
    "model_id": set_at("model_id", value="FADC0592499003CB"),
    "short model_id": set_at("model_id", value="00"),
    "empty model_id": set_at("model_id", value=""),
    "arithmetic": set_at("arithmetic", value="integer"),
    "multiple 0": set_at("padding", "multiple", value=0),
    "multiple -64": set_at("padding", "multiple", value=-64),
    "multiple 32": set_at("padding", "multiple", value=32),
    "multiple true": set_at("padding", "multiple", value=True),
    "multiple 64.0": set_at("padding", "multiple", value=64.0),
    "placement": set_at("padding", "placement", value="left"),
    "fill": delete_at("padding", "fill"),
    "padding": set_at("padding", value=[]),
    "y_channels": set_at("latent", "y_channels", value="6"),
    "more y_channels": set_at("latent", "y_channels", value=7),
    "more z_channels": set_at("latent", "z_channels", value=5),
    "huge": set_at("latent", "z_channels", value=1 << 70),
    "hash": set_at("tables", "sha256", value="zz"),
    "another hash": set_at("tables", "sha256", value="0" * 64),
    "another hash of a graph": set_at("graphs", 3, "sha256", value="0" * 64),
    "graphs is an object": set_at("graphs", value={}),
    "no graphs": set_at("graphs", value=[]),
    "a graph is a number": set_at("graphs", 0, value=3),
    "a graph twice": add_graph,
    "a graph less": delete_at("graphs", 5),
    "exact is 1": set_at("graphs", 0, "exact", value=1),
    "not exact": set_at("graphs", 4, "exact", value=False),
    "dtype": set_at("graphs", 0, "inputs", "x", "dtype", value="float64"),
    "dtype of x": set_at("graphs", 0, "inputs", "x", "dtype", value="float16"),
    "shape 0": set_at("graphs", 0, "inputs", "x", "shape", value=[1, 0]),
    "shape height/0": set_at("graphs", 0, "inputs", "x", "shape", value=[1, "height/0"]),
    "shape height/": set_at("graphs", 0, "inputs", "x", "shape", value=[1, 3, "height/", "width"]),
    "shape height/1": set_at("graphs", 0, "inputs", "x", "shape", value=[1, 3, "height/1", "width"]),
    "shape height/016": set_at("graphs", 0, "outputs", "y", "shape", value=[1, 6, "height/016", "width/16"]),
    "shape depth": set_at("graphs", 0, "inputs", "x", "shape", value=[1, 3, "depth", "width"]),
    "shape null": set_at("graphs", 0, "inputs", "x", "shape", value=None),
    "one more input": set_at("graphs", 4, "inputs", "ghost", value={"dtype": "float32", "shape": [1]}),
    "given twice": set_at("graphs", 4, "outputs", "hyper", value={"dtype": "float32", "shape": [1]}),
    "steps": set_at("steps", value=[]),
    "a step less": delete_at("steps", 4),
    "channels": set_at("steps", 0, "channels", value=[2, 2]),
    "channels of three": set_at("steps", 0, "channels", value=[0, 1, 2]),
    "more channels": set_at("steps", 4, "channels", value=[4, 7]),
    "fewer channels": set_at("steps", 4, "channels", value=[4, 5]),
    "negative channels": set_at("steps", 0, "channels", value=[-1, 2]),
    "positions": set_at("steps", 0, "positions", value="odd"),
    "other positions": set_at("steps", 1, "positions", value="anchor"),
    "graph of a step": set_at("steps", 1, "graph", value="step_02"),
    "unknown graph": set_at("steps", 1, "graph", value="finish"),
    "sizes": set_at("sizes", value=[64, 64]),
    "sizes out of order": set_at("sizes", value={"min": [64, 64], "opt": [63, 64], "max": [64, 64]}),
    "sizes of one": set_at("sizes", value={"min": [64], "opt": [64, 64], "max": [64, 64]}),
    "path outside": set_at("graphs", 0, "path", value="../copy/onnx/g_a.onnx"),
    "absolute path": set_at("graphs", 0, "path", value="/etc/passwd"),
    "path up and down": set_at("graphs", 0, "path", value="onnx/../onnx/g_a.onnx"),
    "path with backslash": set_at("graphs", 0, "path", value="onnx\\g_a.onnx"),
    "path with zero": set_at("graphs", 0, "path", value="onnx/g_a.onnx\0"),
    "empty path": set_at("graphs", 0, "path", value=""),
    "path is the folder": set_at("graphs", 0, "path", value="."),
    "missing file": set_at("graphs", 0, "path", value="onnx/none.onnx"),
    "tables outside": set_at("tables", "path", value="../copy/tables.npz"),
    "tiling is null": set_at("graphs", 0, "tiling", value=None),
    "tiling is a number": set_at("graphs", 0, "tiling", value=16),
    "tiling is empty": set_at("graphs", 0, "tiling", value={}),
    "tiling without a halo": set_at("graphs", 0, "tiling", value={"multiple": 16}),
    "tiling without a multiple": set_at("graphs", 0, "tiling", value={"halo": 16}),
    "multiple of tiles 0": set_at("graphs", 0, "tiling", value={"multiple": 0, "halo": 0}),
    "multiple of tiles 8": set_at("graphs", 0, "tiling", value={"multiple": 8, "halo": 0}),
    "multiple of tiles 48": set_at("graphs", 0, "tiling", value={"multiple": 48, "halo": 0}),
    "multiple of tiles 128": set_at("graphs", 0, "tiling", value={"multiple": 128, "halo": 0}),
    "multiple of tiles true": set_at("graphs", 0, "tiling", value={"multiple": True, "halo": 0}),
    "halo 8": set_at("graphs", 0, "tiling", value={"multiple": 16, "halo": 8}),
    "halo -16": set_at("graphs", 0, "tiling", value={"multiple": 16, "halo": -16}),
    "halo 16.0": set_at("graphs", 0, "tiling", value={"multiple": 16, "halo": 16.0}),
    "tiles of the chain": set_at("graphs", 1, "tiling", value={"multiple": 16, "halo": 0}),
    "symmetric is null": set_at("graphs", 0, "symmetric", value=None),
    "symmetric is a path": set_at("graphs", 0, "symmetric", value="onnx/h_a.onnx"),
    "symmetric is empty": set_at("graphs", 0, "symmetric", value={}),
    "symmetric without a hash": set_at("graphs", 0, "symmetric", value={"path": "onnx/h_a.onnx"}),
    "symmetric without a path": set_at("graphs", 0, "symmetric", value={"sha256": "0" * 64}),
    "symmetric with a short hash": set_at("graphs", 0, "symmetric", value={"path": "onnx/h_a.onnx", "sha256": "0"}),
    "symmetric of another hash": set_at("graphs", 0, "symmetric", value={"path": "onnx/h_a.onnx", "sha256": "0" * 64}),
    "symmetric is plain of another hash": set_at(
        "graphs", 0, "symmetric", value={"path": "onnx/g_a.onnx", "sha256": "0" * 64}
    ),
    "symmetric missing": set_at("graphs", 0, "symmetric", value={"path": "onnx/none.onnx", "sha256": "0" * 64}),
    "symmetric outside": set_at("graphs", 0, "symmetric", value={"path": "/etc/passwd", "sha256": "0" * 64}),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_wrong_manifests_are_refused_by_both(probe, folder, name):
    edit(folder, MANIFESTS[name])
    assert not opened_alike(probe, folder)
    assert probe.status("open_memory", *files_of(folder)) == 30


@pytest.mark.parametrize(
    "change",
    [
        set_at("future", value={"a": [1, None, {}]}),
        set_at("sizes", value={"min": [1, 1], "opt": [64, 64], "max": [64, 64]}),
        set_at("padding", value={"multiple": 128, "placement": "centre", "fill": "edge", "more": 1}),
        set_at("graphs", 0, "path", value="./onnx//g_a.onnx"),
        set_at("graphs", 0, "precision", value="fp16"),
        set_at("graphs", 0, "tiling", value={"multiple": 16, "halo": 0, "more": 1}),
        set_at("graphs", 0, "tiling", value={"multiple": 64, "halo": 640}),
        set_at("graphs", 0, "outputs", "more", value={"dtype": "float32", "shape": [1]}),
        set_at("architecture", value=""),
    ],
)
def test_what_is_harmless_is_accepted_by_both(probe, folder, change):
    edit(folder, change)
    assert opened_alike(probe, folder)


@pytest.mark.parametrize(
    "text", [b"", b"[" * 100000, b"[]", b"{}", b'{"format": "mlic-bundle"}', b"\xff\xfe", b"{" * 400, b'"\xff"', b"{}x"]
)
def test_what_is_no_manifest_is_refused_by_both(probe, folder, text):
    (folder / "manifest.json").write_bytes(text)
    assert not opened_alike(probe, folder)


def test_every_problem_is_in_one_message(probe, folder):
    edit(folder, lambda value: (value.pop("name"), value["padding"].pop("fill"), value.update(latent=3)))
    with pytest.raises(RefusedError, match="name is missing") as caught:
        probe.ask("open", str(folder))
    assert "padding.fill is missing" in str(caught.value)
    assert "latent is 3; expected dict" in str(caught.value)


def test_missing_and_changed_files_are_refused_by_both(probe, folder, tmp_path):
    assert not opened_alike(probe, tmp_path / "none")
    assert not opened_alike(probe, folder / "manifest.json")
    model = folder / "onnx/g_s.onnx"
    data = model.read_bytes()
    model.write_bytes(data + b"\0")
    assert not opened_alike(probe, folder)
    model.unlink()
    assert not opened_alike(probe, folder)
    outside = tmp_path / "outside.onnx"
    outside.write_bytes(data)
    model.symlink_to(outside)
    assert not opened_alike(probe, folder)
    model.unlink()
    (folder / "onnx/other.onnx").write_bytes(data)
    model.symlink_to("other.onnx")
    assert opened_alike(probe, folder)
    (tmp_path / "link").symlink_to(folder)
    assert opened_alike(probe, tmp_path / "link")
    (folder / "manifest.json").unlink()
    assert not opened_alike(probe, folder)
    (folder / "manifest.json").mkdir()
    assert not opened_alike(probe, folder)


def test_symmetric_forms_are_checked_by_both(probe, tmp_path):
    folder = build_int8_bundle(tmp_path / "int8")
    assert opened_alike(probe, folder)
    assert probe.ask("open_memory", *files_of(folder)) == probe.ask("open", str(folder))
    form = folder / "onnx/g_s.symmetric.onnx"
    data = form.read_bytes()
    form.write_bytes(data + b"\0")
    assert not opened_alike(probe, folder)
    form.unlink()
    assert not opened_alike(probe, folder)
    assert probe.status("open_memory", *files_of(folder)) == 30
    (tmp_path / "outside.onnx").write_bytes(data)
    form.symlink_to(tmp_path / "outside.onnx")
    assert not opened_alike(probe, folder)


def tables_of(folder):
    with np.load(folder / "tables.npz") as arrays:
        return dict(arrays)


def npz(tables, save=np.savez):
    file = io.BytesIO()
    save(file, **tables)
    return file.getvalue()


def zipped(members, **options):
    """Return a zip file of members given by name and contents."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


def changed(tables, name, place, value):
    array = tables[name].copy()
    array[place] = value
    return tables | {name: array}


BROKEN_TABLES = {
    "no scales": lambda t: {name: array for name, array in t.items() if name != "scale_table"},
    "no offsets": lambda t: {name: array for name, array in t.items() if name != "z_offsets"},
    "float64": lambda t: t | {"scale_table": t["scale_table"].astype(np.float64)},
    "big-endian": lambda t: t | {"scale_table": t["scale_table"].astype(">f4")},
    "int64 lengths": lambda t: t | {"y_lengths": t["y_lengths"].astype(np.int64)},
    "int32 frequencies": lambda t: t | {"y_frequencies": t["y_frequencies"].astype(np.int32)},
    "two dimensions": lambda t: t | {"scale_table": t["scale_table"][None]},
    "no dimension": lambda t: t | {"scale_table": t["scale_table"][0]},
    "objects": lambda t: t | {"scale_table": np.array([{}], dtype=object)},
    "objects beside": lambda t: t | {"more": np.array([{}], dtype=object)},
    "empty": lambda t: t | {"y_lengths": t["y_lengths"][:0], "y_offsets": t["y_offsets"][:0]},
    "nothing": lambda _: {},
    "zero scales": lambda t: t | {"scale_table": np.zeros(16, np.float32)},
    "a falling scale": lambda t: changed(t, "scale_table", 5, t["scale_table"][4]),
    "a scale that is not a number": lambda t: changed(t, "scale_table", 15, np.nan),
    "an infinite scale": lambda t: changed(t, "scale_table", 15, np.inf),
    "a sum": lambda t: changed(t, "y_frequencies", 3, t["y_frequencies"][3] + 1),
    "a frequency of 0": lambda t: changed(
        changed(t, "y_frequencies", 0, 0), "y_frequencies", 1, t["y_frequencies"][:2].sum()
    ),
    "a length of 1": lambda t: changed(changed(t, "y_lengths", 0, 1), "y_lengths", 1, t["y_lengths"][:2].sum() - 1),
    "a negative length": lambda t: changed(t, "y_lengths", 0, -5),
    "huge lengths": lambda t: changed(t, "y_lengths", 0, 2**31 - 1),
    "a far offset": lambda t: changed(t, "y_offsets", 0, (1 << 20) + 1),
    "the least offset": lambda t: changed(t, "y_offsets", 0, -(1 << 31)),
    "fewer offsets": lambda t: t | {"y_offsets": t["y_offsets"][:-1]},
    "fewer medians": lambda t: t | {"medians": t["medians"][:-1]},
    "fewer scales": lambda t: t | {"scale_table": t["scale_table"][:-1]},
    "channels of z": lambda t: t | {
        "medians": t["medians"][:3], "z_lengths": t["z_lengths"][:3], "z_offsets": t["z_offsets"][:3],
        "z_frequencies": t["z_frequencies"][: t["z_lengths"][:3].sum()],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_TABLES)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_wrong_tables_are_refused_by_both(probe, folder, name, save):
    write_tables(folder, npz(BROKEN_TABLES[name](tables_of(folder)), save))
    assert not opened_alike(probe, folder)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_tables_are_read_however_they_were_packed(probe, folder, version, method):
    members = {f"{name}.npy": npy(array, version) for name, array in tables_of(folder).items()}
    members["more.npy"] = npy(np.zeros((2, 3), np.complex64), version)
    members["note.txt"] = b"a note"
    write_tables(folder, zipped(members, compression=method))
    assert opened_alike(probe, folder)


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(40), b"\x93NUMPY", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_npz_is_refused_by_both(probe, folder, data):
    write_tables(folder, data)
    assert not opened_alike(probe, folder)


HEADERS = [
    b"", b"{", b"{}", b"{'descr': '<f4', 'fortran_order': False, 'shape': (16,)", b"[1]",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (16)}",
    b"{'descr': '<f4', 'fortran_order': 0, 'shape': (16,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (17,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
    b"{'descr': '<f4', 'fortran_order': False}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (16,), 'more': 1}",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (16,)}",
    b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (16,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (16,)} 1",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_wrong_headers_of_arrays_are_refused_by_both(probe, folder, header):
    tables = tables_of(folder)
    members = {f"{name}.npy": npy(array) for name, array in tables.items()}
    head = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
    members["scale_table.npy"] = head + tables["scale_table"].tobytes()
    write_tables(folder, zipped(members))
    assert not opened_alike(probe, folder)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (16,), }          \n",
        b'{"shape":(16,),"fortran_order":True,"descr":"<f4"}',
    ],
)
def test_headers_may_be_written_otherwise(probe, folder, header):
    tables = tables_of(folder)
    members = {f"{name}.npy": npy(array) for name, array in tables.items()}
    head = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
    members["scale_table.npy"] = head + tables["scale_table"].tobytes() + b"rest"
    write_tables(folder, zipped(members))
    assert opened_alike(probe, folder)


def test_member_that_is_no_array_is_refused_by_both(probe, folder):
    members = {f"{name}.npy": npy(array) for name, array in tables_of(folder).items()}
    write_tables(folder, zipped(members | {"medians.npy": b"no array"}))
    assert not opened_alike(probe, folder)


def test_tables_that_unpack_to_too_much_are_refused_by_both(probe, folder):
    members = {f"{name}.npy": npy(array) for name, array in tables_of(folder).items()}
    bomb = zipped(members | {"bomb": bytes((1 << 28) + 1)}, compression=zipfile.ZIP_DEFLATED)
    write_tables(folder, bomb)
    assert not opened_alike(probe, folder)
    place = bomb.rindex(b"PK\1\2") + 24
    write_tables(folder, bomb[:place] + struct.pack("<I", 1000) + bomb[place + 4 :])  # says it is small
    assert probe.status("open", str(folder)) == 30


def test_damaged_tables_never_pass_where_python_refuses_them(probe, folder, rng):
    """The other way round happens: what nobody reads may be damaged, and this reader is stricter."""
    refused, tables = 0, tables_of(folder)
    for save in (np.savez, np.savez_compressed):
        good = npz(tables, save)
        for _ in range(400):
            data = bytearray(good[: rng.integers(0, len(good))] if rng.random() < 0.1 else good)
            for place in rng.integers(0, len(data), rng.integers(1, 4)) if data else ():
                data[place] ^= 1 << int(rng.integers(0, 8))
            directory = good.index(b"PK\1\2")
            if rng.random() < 0.5 and len(data) == len(good):
                data[:directory] = good[:directory]
                data[rng.integers(directory, len(data))] ^= 1 << int(rng.integers(0, 8))
            write_tables(folder, bytes(data))
            status = probe.status("open", str(folder))
            assert status in (0, 30)
            refused += status == 30
            if status == 0:
                Bundle.open(folder)
    assert refused > 100


def test_sha256_is_that_of_hashlib(probe, rng):
    for sizes in ((0,), (1,), (55,), (56,), (63,), (64,), (65,), (119, 1), (1000, 63, 64, 7)):
        parts = [rng.integers(0, 256, size, dtype=np.uint8).tobytes() for size in sizes]
        assert probe.ask("sha256", *parts) == [hashlib.sha256(b"".join(parts)).hexdigest().encode()]
