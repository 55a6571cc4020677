"""``mlic-export``: options, results, JSON, and one line for each likely mistake."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from mlic.export.errors import ExportError
from mlic.runtime.bundle import Bundle
from mlic.tools.export_cli import app
from tests.commands import Result, command, environment, names
from tests.conftest import photo
from tests.small_model import SmallBundle, small_model

Command = Callable[..., Result]
SMALL = pytest.mark.xdist_group("small_bundle")


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def export(*arguments: object) -> Result:
        result = CliRunner().invoke(app, ["--threads", "1", *map(str, arguments)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return export


@pytest.fixture
def export_small(export: Command, small_bundle: SmallBundle) -> Command:
    """The same on the small model's checkpoint, without tracing it again."""

    def export_small(*arguments: object) -> Result:
        with small_bundle.without_tracing():
            return export(small_bundle.checkpoint, *arguments)

    return export_small


@SMALL
def test_json_says_what_was_written_and_stdout_holds_nothing_else(
    small_bundle: SmallBundle, exported_by_command: tuple[Path, subprocess.CompletedProcess[bytes]]
):
    folder, result = exported_by_command
    assert (result.returncode, result.stderr) == (0, b"")
    row = json.loads(result.stdout)
    assert result.stdout.count(b"\n") == 1
    assert isinstance(row.pop("seconds"), float)
    assert 0 <= row.pop("worst_error") < 5e-5
    assert row.pop("worst_graph") in small_bundle.export.manifest.graphs
    assert row == {
        "bundle": "bundle",
        "architecture": "mlicpp",
        "variant": "current",
        "model_id": small_bundle.export.manifest.model_id.hex(),
        "engine": "fp32",
        "steps": 4,
        "bytes": small_bundle.export.size_bytes,
    }
    assert names(folder.parent) == ["bundle"]


@SMALL
def test_result_is_two_lines(export_small: Command, small_bundle: SmallBundle):
    result = export_small("-o", "b")
    assert result.err == ""
    model = small_bundle.export.manifest.model_id.hex()
    assert re.fullmatch(
        rf"b: MLIC\+\+ \(current\), model {model}, 9 graphs, \d\.\d MB, fp32 transforms\n"
        r"checked against PyTorch at 4 sizes; largest error \S+ \(\w+\); \d+ s\n",
        result.out,
    )


@SMALL
def test_options_reach_the_bundle(export_small: Command):
    result = export_small(
        "--output", "b", "--arch", "mlicpp", "--engine", "fp16", "--name", "gull", "--padding", "edge", "--quiet"
    )
    assert (result.code, result.out, result.err) == (0, "", "")
    manifest = Bundle.open("b").manifest
    assert (manifest.name, manifest.engine, manifest.padding.fill) == ("gull", "fp16", "edge")


@SMALL
def test_engine_int8_calibrates_with_photos(export_small: Command, small_bundle: SmallBundle, tmp_path: Path):
    Image.fromarray(photo(64, 128)).save(tmp_path / "photo.png")
    limits = ("--max-psnr-loss", 1, "--max-rate-increase", 5)
    result = export_small("-o", "b", "--engine", "int8", "--calibrate", "photo.png", *limits, "--json")
    assert (result.code, result.err) == (0, "")
    row = json.loads(result.out)
    assert (row["engine"], row["model_id"]) == ("int8", small_bundle.export.manifest.model_id.hex())
    assert row["calibration"]["effects"]["unsigned"]["psnr_loss_db"] <= 1
    manifest = Bundle.open("b").manifest
    assert (manifest.name, manifest.graphs["g_s"].precision) == ("b", "int8")
    assert names(tmp_path) == ["b", "photo.png"]


@SMALL
def test_compressing_reaches_the_last_bundle_of_several(
    export_small: Command, small_bundle: SmallBundle, tmp_path: Path
):
    Image.fromarray(photo(64, 128)).save(tmp_path / "photo.png")
    assert export_small("-o", "a", "--compress", "-q").code == 0
    options = ("--engine", "int8", "--calibrate", "photo.png", "--max-psnr-loss", 1, "--max-rate-increase", 5)
    assert export_small("-o", "b", *options, "--compress", "-q").code == 0
    for folder, count in (("a", 9), ("b", 11)):
        manifest = Bundle.open(folder).manifest
        paths = [form.path for graph in manifest.graphs.values() for form in graph.forms]
        assert len(paths) == count
        assert all(path.endswith(".onnx.gz") for path in paths)
        assert manifest.model_id == small_bundle.export.manifest.model_id


def test_int8_and_photos_go_together(export: Command, checkpoint: Path):
    for arguments in (("--engine", "int8"), ("--chain", "integer"), ("--calibrate", "photos")):
        error = export(checkpoint, "-o", "b", *arguments).error
        assert error == (
            "mlic-export: --engine int8 and --chain integer need --calibrate PHOTOS, and nothing else does"
        )
    error = export(checkpoint, "-o", "b", "--engine", "int8", "--calibrate", "photos").error
    assert error == "mlic-export: photos: no such file or folder"


@SMALL
def test_existing_bundle_is_replaced_only_with_force(export_small: Command, tmp_path: Path):
    assert export_small("-o", "b", "--name", "first", "-q").code == 0
    assert export_small("-o", "b").error == "mlic-export: b exists; choose another name, or --force"
    assert Bundle.open("b").manifest.name == "first"
    assert export_small("-o", "b", "--force", "-q").code == 0
    assert Bundle.open("b").manifest.name == "b"
    assert names(tmp_path) == ["b"]


@SMALL
@pytest.mark.parametrize("failure", [ExportError("graph step_01: no"), OSError(28, "No space left on device")])
def test_failed_export_is_one_line_and_leaves_nothing(
    failure: Exception, export_small: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("mlic.export.bundle_writer.verify", fail)
    assert export_small("-o", "b").error == f"mlic-export: {getattr(failure, 'strerror', None) or failure}"
    assert names(tmp_path) == []


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(small_model().state_dict(), tmp_path / "small.pth")
    return tmp_path / "small.pth"


def test_likely_mistakes_are_one_line(export: Command, checkpoint: Path, tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    torch.save(nn.Linear(2, 2).state_dict(), "other.pth")
    checkpoint.with_name("cut.pth").write_bytes(checkpoint.read_bytes()[:-5000])
    before = names(tmp_path)
    for arguments, problem in (
        (("no.pth", "-o", "b"), "no.pth: no such file"),
        (("photos", "-o", "b"), "photos: is a folder; expected a checkpoint file"),
        (("a.png", "-o", "b"), "a.png: is a PNG picture; expected a file of torch.save"),
        (("cut.pth", "-o", "b"), "cut.pth: is a damaged or cut archive; expected a file of torch.save"),
        (("other.pth", "-o", "b"), "other.pth: its keys are weight, bias; expected a checkpoint of MLIC++, STF, WACNN"),
        (("small.pth", "-o", "b", "--arch", "stf"), "small.pth: found a checkpoint of MLIC++; expected STF"),
        (("small.pth", "-o", "photos"), "photos exists; choose another name, or --force"),
        (("small.pth", "-o", "photos", "--force"), "photos exists; it is not a bundle"),
        (("small.pth", "-o", "small.pth", "--force"), "small.pth exists; it is not a bundle"),
        (("small.pth", "-o", "nowhere/b"), "nowhere: no such folder"),
        (("small.pth", "-o", "."), ". exists; choose another name, or --force"),
    ):
        assert export(*arguments).error == f"mlic-export: {problem}"
    assert names(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_one_line(export: Command, checkpoint: Path, tmp_path: Path):
    (tmp_path / "folder").mkdir(mode=0o555)
    assert export("small.pth", "-o", "folder/b").error.endswith("Permission denied")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("small.pth",),
        ("-o", "b"),
        ("small.pth", "-o", "b", "--arch", "vgg"),
        ("small.pth", "-o", "b", "--engine", "int3"),
        ("small.pth", "-o", "b", "--padding", "mirror"),
        ("small.pth", "-o", "b", "--threads", "0"),
        ("small.pth", "more.pth", "-o", "b"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], export: Command, tmp_path: Path):
    result = export(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Usage: " in result.err
    assert names(tmp_path) == []


def test_missing_extra_says_what_to_install_before_the_work(export: Command, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    error = export("no.pth", "-o", "b").error
    assert error.startswith("mlic-export: cannot load ONNX Runtime (")
    assert error.endswith("install it with: pip install 'mlic-deploy[cpu]'")
    monkeypatch.setitem(sys.modules, "mlic.export.bundle_writer", None)
    error = export("no.pth", "-o", "b").error
    assert error == "mlic-export: cannot import mlic.export.bundle_writer: pip install 'mlic-deploy[export,cpu]'"
    monkeypatch.setattr("mlic.tools.extras.find_spec", lambda name: None)
    error = export("no.pth", "-o", "b").error
    assert error.endswith(": pip install torch==2.13.0 && pip install 'mlic-deploy[export,cpu]'")


def test_help_names_every_option():
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0
    for option in (
        "--output",
        "--arch",
        "--engine",
        "--calibrate",
        "--max-psnr-loss",
        "--max-rate-increase",
        "--name",
        "--padding",
        "--force",
        "--threads",
        "--json",
        "--quiet",
    ):
        assert option in result.stdout


def test_interrupt_is_status_130_and_leaves_nothing(checkpoint: Path):
    process = subprocess.Popen(
        command("mlic-export", "small.pth", "-o", "b", "--threads", 1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=checkpoint.parent,
        env=environment(),
    )
    while process.poll() is None and not list(checkpoint.parent.glob(".b.*/onnx/*.onnx")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"mlic-export: interrupted\n")
    assert names(checkpoint.parent) == ["small.pth"]
