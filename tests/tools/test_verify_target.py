"""``mlic-run verify --target`` and ``mlic-export --target``: reports of engines, and one line where there are none."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlic.runtime.bundle import Bundle
from mlic.runtime.bundle_files import sha256_of
from mlic.runtime.codec import Codec
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import DEFAULT_SIZES, SizeRange
from mlic.tools.export_cli import app
from tests.commands import Result, names
from tests.export.test_engines import refuse
from tests.small_model import SmallBundle

pytest.importorskip("tensorrt_rtx")
pytest.importorskip("polygraphy")

SMALL = pytest.mark.xdist_group("small_bundle")
Command = Callable[..., Result]


@pytest.fixture
def export_small(small_bundle: SmallBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Exports the small model into ``b`` in a folder of its own, without tracing it again."""
    monkeypatch.chdir(tmp_path)

    def export_small(*arguments: object) -> Result:
        line = [str(small_bundle.checkpoint), "-o", "b", "--threads", "1", *map(str, arguments)]
        with small_bundle.without_tracing():
            result = CliRunner().invoke(app, line)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return export_small


@pytest.fixture
def refused(broken: Path) -> Path:
    """A bundle that ONNX Runtime runs and TensorRT refuses."""
    refuse(broken / "onnx" / "h_s.onnx")
    value = json.loads((broken / "manifest.json").read_text())
    for graph in value["graphs"]:
        graph["sha256"] = sha256_of(broken / graph["path"])
    (broken / "manifest.json").write_text(json.dumps(value))
    return broken


@pytest.fixture
def without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)


def test_verify_reports_each_graph_and_stores_nothing(mlic: Command, bundle_folder: Path, codec: Codec):
    result = mlic("verify", bundle_folder, "--threads", 1, "--target", "tensorrt-rtx")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"^engines by tensorrt-rtx-[\d.]+, any$", result.out, re.M)
    for name in codec.bundle.manifest.graphs:
        assert re.search(rf"^{name} +\d+\.\d\d s +\d+\.\d [kM]B  ok$", result.out, re.M)
    assert re.search(r"^10 of 10 graphs built in \d+\.\d s, \d\.\d MB$", result.out, re.M)
    assert "150x100: " in result.out
    assert not (bundle_folder / "engines").exists()


def test_verify_without_target_builds_nothing(mlic: Command, bundle_folder: Path):
    assert "engines" not in mlic("verify", bundle_folder, "--threads", 1).out
    assert json.loads(mlic("verify", bundle_folder, "--threads", 1, "--json").out)["builds"] == []


def test_json_of_verify_has_an_entry_for_each_graph(mlic: Command, bundle_folder: Path, codec: Codec):
    row = json.loads(mlic("verify", bundle_folder, "--threads", 1, "--target", "tensorrt", "--json").out)
    assert [build["graph"] for build in row["builds"]] == list(codec.bundle.manifest.graphs)
    assert set(row["builds"][0]) == {"graph", "engine", "seconds", "bytes", "problem", "nodes"}
    assert row["passed"] is True


def test_verify_names_the_node_that_is_refused_and_fails(mlic: Command, refused: Path):
    result = mlic("verify", refused, "--threads", 1, "--target", "tensorrt-rtx")
    assert result.code == 1
    problem = r"tensorrt-rtx-\S+ refuses node wrap \(SequenceConstruct\): unsupported node; node unwrap \(Con"
    assert re.search(rf"^h_s +\d\.\d\d s +-  {problem}", result.out, re.M)
    assert re.match(rf"mlic-run verify: bundle tiny-0: graph h_s: {problem}", result.err)
    assert "9 of 10 graphs built" in result.out
    assert mlic("verify", refused, "--threads", 1).code == 0


@pytest.mark.usefixtures("without_tensorrt")
def test_verify_without_tensorrt_is_one_line(mlic: Command, bundle_folder: Path):
    error = mlic("verify", bundle_folder, "--threads", 1, "--target", "tensorrt").error
    assert error.startswith("mlic-run verify: cannot load TensorRT (")
    assert error.endswith("install it with: pip install 'mlic-deploy[tensorrt]', or 'mlic-deploy[tensorrt-rtx]'")


@SMALL
def test_export_builds_engines_beside_the_files_they_come_from(export_small: Command, small_bundle: SmallBundle):
    result = export_small("--target", "tensorrt-rtx", "--engine", "fp16")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"^9 of 9 graphs built in \d+\.\d s, \d+\.\d MB$", result.out, re.M)
    assert names(Path("b")) == ["engines", "manifest.json", "onnx", "tables.npz"]
    graphs = list(small_bundle.export.manifest.graphs)
    assert [name.partition(".")[0] for name in names(Path("b/engines"))] == sorted(graphs)
    assert Bundle.open("b").manifest.sizes == DEFAULT_SIZES


@SMALL
def test_sizes_reach_the_manifest_and_change_nothing_else(export_small: Command, small_bundle: SmallBundle):
    result = export_small("--min", "64x128", "--opt", "200x128", "--max", "300x400", "--json")
    assert "engines" not in json.loads(result.out)
    manifest = Bundle.open("b").manifest
    assert manifest.sizes == SizeRange((128, 64), (128, 200), (400, 300))
    assert manifest.model_id == small_bundle.export.manifest.model_id
    assert manifest.graphs == small_bundle.export.manifest.graphs
    assert names(Path("b")) == ["manifest.json", "onnx", "tables.npz"]


@SMALL
def test_json_of_export_has_the_engines(export_small: Command, small_bundle: SmallBundle):
    row = json.loads(export_small("--target", "tensorrt", "--max", "768x512", "--json").out)
    assert [build["graph"] for build in row["engines"]] == list(small_bundle.export.manifest.graphs)
    assert {build["problem"] for build in row["engines"]} == {None}


@SMALL
@pytest.mark.usefixtures("without_tensorrt")
def test_export_says_what_is_missing_before_the_work(export_small: Command, tmp_path: Path):
    assert export_small("--target", "tensorrt").error.startswith("mlic-export: cannot load TensorRT (")
    assert names(tmp_path) == []


@SMALL
def test_export_whose_engines_fail_keeps_the_bundle(export_small: Command, monkeypatch: pytest.MonkeyPatch):
    def fail(_flavour: object, _path: Path, graph: object, *_: object) -> bytes:
        raise BackendError("graph g_a: no")

    monkeypatch.setattr("mlic.export.engines.build_plan", fail)
    result = export_small("--target", "tensorrt")
    assert (result.code, "0 of 9 graphs built" in result.out) == (1, True)
    assert result.err == "mlic-export: b: its ONNX files are complete, its engines are not: graph g_a: no\n"
    assert Bundle.open("b")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--max", "4k"), "'4k' is no size; expected WIDTHxHEIGHT, such as 768x512"),
        (("--min", "0x64"), "'0x64' is no size"),
        (("--max", "640x480"), "height has min 64, opt 512, max 480; expected 1 <= min <= opt <= max"),
        (("--target", "cuda"), "'cuda' is not one of"),
    ],
)
def test_wrong_options_are_wrong_usage(arguments: tuple[str, ...], problem: str, tmp_path: Path):
    result = CliRunner().invoke(app, ["c.pth", "-o", str(tmp_path / "b"), *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.replace("│", " ").split())
