"""``mlic-calibrate``: what it makes, what it says, and one line for each likely mistake."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec
from mlic.runtime.bundle import Bundle
from mlic.runtime.shipped import shipped_bundle
from mlic.tools.calibration_options import PSNR_LOSS, RATE_INCREASE
from tests.commands import run
from tests.conftest import photo

pytestmark = pytest.mark.xdist_group("calibrate_cli")  # one calibration

QUALITY = "low"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two sizes, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(Path(__file__).parents[1] / "photos/kodim03.png") as image:
        for number in range(3):
            image.convert("RGB").crop((200 * number, 100, 200 * number + 130, 230)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def calibrated(
    photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
    """A bundle made by the command, with a plot beside it, and what the command said."""
    folder = tmp_path_factory.mktemp("calibrated")
    arguments = ("--pictures", 2, "--crop", 64, "--threads", 1, "--plot", folder / "layers.svg", "--json")
    result = run("mlic-calibrate", shipped_bundle(QUALITY), photos, "-o", folder / "int8", *arguments)
    assert result.returncode == 0, result.stderr
    return folder / "int8", result


def test_json_says_what_runs_in_int8_and_what_that_costs(calibrated):
    folder, result = calibrated
    assert result.stdout.count(b"\n") == 1
    row = json.loads(result.stdout)
    bundle = Bundle.open(folder)
    assert row["bundle"] == str(folder)
    assert row["model_id"] == Bundle.open(shipped_bundle(QUALITY)).manifest.model_id.hex()
    assert (row["engine"], bundle.manifest.engine, bundle.manifest.name) == ("int8", "int8", "int8")
    assert row["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    for form in ("unsigned", "symmetric"):
        assert row["effects"][form]["psnr_loss_db"] <= PSNR_LOSS
        assert row["effects"][form]["rate_percent"] <= RATE_INCREASE
        assert min(row["int8_percent"][form].values()) > 30
    layers = [layer for layer in row["layers"] if layer["form"] == "unsigned" and layer["graph"] == "g_s"]
    assert sum(layer["share_percent"] for layer in layers) == pytest.approx(100, abs=0.2)
    in_int8 = sum(layer["share_percent"] for layer in layers if layer["int8"])
    assert in_int8 == pytest.approx(row["int8_percent"]["unsigned"]["g_s"], abs=0.2)


def test_plot_shows_every_layer(calibrated):
    folder, result = calibrated
    drawn = (folder.parent / "layers.svg").read_text()
    for layer in json.loads(result.stdout)["layers"]:
        assert f"<!-- {layer['layer']} (" in drawn


def test_both_bundles_read_each_others_files(calibrated):
    ours, theirs = (Codec.load(path, "onnxruntime", threads=1) for path in (calibrated[0], shipped_bundle(QUALITY)))
    pixels = photo(70, 90)
    for writer, reader in ((ours, theirs), (theirs, ours)):
        data = writer.encode(pixels)
        expected = writer.decode(data).astype(float)
        assert np.mean((reader.decode(data) - expected) ** 2) < 2  # of 255²: less than coding costs by far


def test_verify_says_which_graphs_are_in_int8(calibrated):
    result = run("mlic-run", "verify", calibrated[0])
    assert result.returncode == 0, result.stderr
    precisions = dict(line.split()[:2] for line in result.stdout.decode().splitlines() if line.endswith("ok"))
    assert (precisions["g_a"], precisions["h_a"], precisions["g_s"]) == ("int8", "fp32", "int8")


def test_table_has_a_line_for_each_layer_and_form_and_the_bundle(photos: Path, tmp_path: Path):
    arguments = ("--all-layers", "--pictures", 1, "--crop", 64, "--threads", 1)
    result = run("mlic-calibrate", shipped_bundle(QUALITY), photos, "-o", "out", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, b"")
    lines = result.stdout.decode().splitlines()
    assert lines[0].split() == ["unsigned", "form", "symmetric", "form"]
    layers = [line for line in lines if line.startswith(("g_a ", "g_s "))]
    assert all(line.endswith(("int8 int8", "fp32 fp32")) or line.split()[-1] in ("int8", "fp32") for line in layers)
    assert (
        sum(line.split()[-1] == "fp32" for line in layers) == 5
    )  # first, its skip and last of g_a, first and last of g_s
    assert lines[-3].startswith("unsigned form, products in int8: g_a ")
    assert lines[-1].startswith("out: model 3b6ec8d7eb62f144, ")
    again = run("mlic-calibrate", shipped_bundle(QUALITY), photos, "-o", "out", *arguments, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (
        1,
        b"mlic-calibrate: out exists; choose another name, or --force\n",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none", "PHOTOS"), b"bundle none: there is no such folder"),
        (("BUNDLE", "none"), b"none: no such file or folder"),
        (("BUNDLE", "EMPTY"), b"no picture in "),
        (("BUNDLE", "PHOTOS/notes.txt"), b"notes.txt"),
        (("BUNDLE", "PHOTOS", "--all-layers", "--plot", "a.svg"), b"--plot shows what layers cost"),
    ],
)
def test_likely_mistakes_are_one_line(arguments: tuple[str, ...], said: bytes, photos: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    names = {"BUNDLE": str(shipped_bundle(QUALITY)), "PHOTOS": str(photos), "EMPTY": str(tmp_path / "empty")}
    words = [names.get(word, word.replace("PHOTOS/", f"{photos}/")) for word in arguments]
    result = run("mlic-calibrate", *words, "-o", "out", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.startswith(b"mlic-calibrate: ")
    assert said in result.stderr
    assert result.stderr.count(b"\n") == 1
    assert not (tmp_path / "out").exists()


def test_bundle_that_is_quantised_already_is_refused(calibrated, photos: Path, tmp_path: Path):
    result = run("mlic-calibrate", calibrated[0], photos, "-o", "out", cwd=tmp_path)
    assert result.returncode == 1
    assert b"graph g_a is int8; calibrate the fp32 bundle" in result.stderr
