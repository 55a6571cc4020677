"""Bundles with compressed graphs: the same model, the same bytes every time, in less space."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlic.export.compression import compress_bundle
from mlic.export.errors import ExportError
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import BundleError
from mlic.tools.compress_bundle import app
from tests.calibration.graphs import contents
from tests.int8_bundle import build_int8_bundle


def test_a_copy_differs_in_its_graphs_files_alone(bundle_folder: Path, packed_folder: Path):
    plain, packed = contents(bundle_folder), contents(packed_folder)
    assert packed["tables.npz"] == plain["tables.npz"]
    assert packed.keys() == {f"{name}.gz" if name.endswith(".onnx") else name for name in plain}
    for name, data in plain.items():
        if name.endswith(".onnx"):
            assert gzip.decompress(packed[f"{name}.gz"]) == data
    before, after = (json.loads(files["manifest.json"]) for files in (plain, packed))
    for value in (before, after):
        for graph in value["graphs"]:
            del graph["path"], graph["sha256"]
    assert after == before


def test_files_hold_neither_name_nor_time(bundle_folder: Path, packed_folder: Path, tmp_path: Path):
    time.sleep(1.1)
    assert contents(compress_bundle(Bundle.open(bundle_folder), tmp_path / "again").folder) == contents(packed_folder)
    head = (packed_folder / "onnx/g_a.onnx.gz").read_bytes()[:10]
    assert head[:8] == b"\x1f\x8b\x08" + bytes(5)


def test_compressing_twice_changes_nothing(packed_folder: Path, tmp_path: Path):
    assert contents(compress_bundle(Bundle.open(packed_folder), tmp_path / "twice").folder) == contents(packed_folder)


def test_certificate_and_second_forms_come_along(integer_folder: Path, tmp_path: Path):
    source = Bundle.open(integer_folder)
    packed = compress_bundle(source, tmp_path / "integer")
    assert (packed.manifest.model_id, packed.certificate) == (source.manifest.model_id, source.certificate)
    int8 = compress_bundle(Bundle.open(build_int8_bundle(tmp_path / "int8")), tmp_path / "packed")
    assert int8.manifest.graphs["g_a"].symmetric.path == "onnx/g_a.symmetric.onnx.gz"


def test_engines_stay_behind_and_the_source_as_it_was(bundle_folder: Path, tmp_path: Path):
    folder = shutil.copytree(bundle_folder, tmp_path / "source")
    (folder / "engines").mkdir()
    (folder / "engines/g_a.plan").write_bytes(b"built")
    before = contents(folder)
    assert not (compress_bundle(Bundle.open(folder), tmp_path / "packed").folder / "engines").exists()
    assert contents(folder) == before


def test_places_that_are_taken_are_refused(bundle_folder: Path, tmp_path: Path):
    folder = shutil.copytree(bundle_folder, tmp_path / "source")
    with pytest.raises(ExportError, match="exists"):
        compress_bundle(Bundle.open(folder), folder)
    with pytest.raises(ExportError, match="would replace"):
        compress_bundle(Bundle.open(folder), folder, overwrite=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(ExportError, match="it is not a bundle"):
        compress_bundle(Bundle.open(folder), tmp_path / "other", overwrite=True)


def test_what_readers_would_refuse_is_not_written(bundle_folder: Path, tmp_path: Path):
    folder = shutil.copytree(bundle_folder, tmp_path / "source")
    graph = folder / "onnx/g_a.onnx"
    graph.write_bytes(graph.read_bytes() + bytes(1 << 25))
    with pytest.raises(BundleError, match="graphs unpack to more than"):
        compress_bundle(Bundle.open(folder, verify_hashes=False), tmp_path / "packed")
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


def test_the_command_says_what_it_saves(bundle_folder: Path, packed_folder: Path, tmp_path: Path):
    result = CliRunner().invoke(app, [str(bundle_folder), "-o", str(tmp_path / "packed")])
    assert (result.exit_code, result.stderr) == (0, "")
    model = Bundle.open(bundle_folder).manifest.model_id.hex()
    assert result.stdout.startswith(f"{tmp_path / 'packed'}: model {model}, graphs of ")
    assert contents(tmp_path / "packed") == contents(packed_folder)
    again = CliRunner().invoke(app, [str(bundle_folder), "-o", str(tmp_path / "packed")])
    assert again.exit_code == 1
    assert again.stderr == f"compress_bundle: {tmp_path / 'packed'} exists; choose another name, or --force\n"
