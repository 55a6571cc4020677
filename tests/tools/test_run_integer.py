"""``mlic-run`` and other tools on bundles in integers: which is meant, what is said of them, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mlic.runtime import Codec, shipped
from mlic.runtime.bundle_files import sha256_of
from mlic.runtime.certificate import write_certificate
from mlic.tools.agreement import known, margin, overall, scales_of
from mlic.tools.bench.noise import app as noise
from mlic.tools.bench.repair_rate import app as repair_rate
from tests.integer_bundle import build_integer_bundle
from tests.tiny_bundle import build_tiny_bundle


def test_integer_chooses_the_integer_bundle_that_ships(
    mlic, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "models")
    build_tiny_bundle(tmp_path / "models" / f"{shipped.MODEL}-medium", seed=30)
    result = mlic("encode", "a.png", "x.mlic", model="integer")
    assert result.code == 2
    text = " ".join(result.err.replace("│", " ").split())
    assert "ships no integer model; name a bundle that mlic-calibrate --chain integer made, or ./integer for" in text
    folder = build_integer_bundle(tmp_path / "models" / f"{shipped.MODEL}-medium-integer", seed=31)
    assert mlic("encode", "a.png", "i.mlic", model="integer").code == 0
    row = json.loads(mlic("info", "i.mlic", "--json").out)
    assert (row["arithmetic"], row["quality"], row["bundle"]) == ("integer", "medium", folder.name)
    assert row["check_bytes"] == 4
    assert "syndrome_bytes" not in row
    assert mlic("decode", "i.mlic", "i.png", model=None).code == 0
    codec = Codec.load(folder, threads=1)
    with Image.open("i.png") as image:
        assert np.array_equal(np.asarray(image), codec.decode(Path("i.mlic").read_bytes()))
    assert mlic("decode", "i.mlic", "j.png", model="integer").code == 0
    build_tiny_bundle(tmp_path / "integer", seed=32)
    assert mlic("encode", "a.png", "f.mlic", model="./integer").code == 0
    assert json.loads(mlic("info", "f.mlic", "--json").out)["arithmetic"] == "float32-syndrome"
    assert mlic("decode", "i.mlic", "k.png", model="./integer").error == (
        f"mlic-run decode: the file is of model {row['model_id']}, arithmetic integer; bundle tiny-32 is model "
        f"{Codec.load('./integer').bundle.manifest.model_id.hex()}, arithmetic float32-syndrome; name the bundle that "
        "wrote it (at byte 8)"
    )
    many = mlic("encode", "a.png", "-o", "coded", "-j", 1, "--keep-suffix", "--recursive", model="integer")
    assert many.code == 0, many.err


def test_verify_runs_the_certificate_and_says_so(mlic, integer_folder: Path, tmp_path: Path):
    row = json.loads(mlic("verify", integer_folder, "--threads", 1, "--json").out)
    assert row["passed"] is True
    assert (row["proof"]["cases"], row["proof"]["problem"]) == (3, None)
    assert "certificate, 3 cases:" in mlic("verify", integer_folder, "--threads", 1).out
    result = mlic("verify", integer_folder, "--threads", 1, "--engines", "onnxruntime,openvino,onnxruntime-none")
    assert result.code == 0, result.err
    assert result.out.count("  equal  ok") == 6
    forged = shutil.copytree(integer_folder, tmp_path / "forged")
    text = (forged / "certificate.json").read_text()
    value = json.loads(text)
    value["cases"][1]["sha256"]["step_03"] = "0" * 64
    write_certificate(forged, value)
    manifest = json.loads((forged / "manifest.json").read_text())
    manifest["certificate"]["sha256"] = sha256_of(forged / "certificate.json")
    (forged / "manifest.json").write_text(json.dumps(manifest))
    result = mlic("verify", forged, "--threads", 1)
    assert result.code == 1
    assert "certificate: graph step_03: engine onnxruntime" in result.err
    assert "does not compute the integers" in result.out
    assert "64x64:" not in result.out


def test_bench_measures_an_integer_bundle(mlic, integer_folder: Path):
    result = mlic("bench", "--model", integer_folder, "--threads", 1, "--repeat", 1, "--size", "64x64", "--steps")
    assert result.code == 0, result.err
    assert "step_04" in result.out


def test_tools_about_rounding_refuse_integers(integer_folder: Path, picture: Path, tmp_path: Path):
    for app, what, extra in (
        (noise, "noise", []),
        (repair_rate, "the rate of repairs", ["-o", str(tmp_path / "r.svg")]),
    ):
        result = CliRunner().invoke(app, [str(integer_folder), str(picture), *extra])
        assert result.exit_code == 1
        assert f"arithmetic integer, in which engines do not differ; {what} is about" in result.stderr


def test_indexes_that_differ_are_counted_and_have_no_margin(integer_codec: Codec, make_photo):
    pictures = [known(integer_codec, make_photo(64, 64))]
    ours = scales_of(integer_codec, pictures)
    theirs = [[step.copy() for step in picture] for picture in ours]
    assert overall(integer_codec.bundle.entropy, ours, theirs).flips == 0
    assert margin(integer_codec.bundle.entropy, ours, theirs) == float("inf")
    theirs[0][2].flat[3] ^= 1
    theirs[0][4].flat[0] ^= 2
    assert overall(integer_codec.bundle.entropy, ours, theirs).flips == 2
    assert margin(integer_codec.bundle.entropy, ours, theirs) == 0
    # As scales, 14 and 15 would have one index.
    ours, theirs = ([[np.full((1, 1, 2, 2), index, np.uint8)]] for index in (14, 15))
    assert margin(integer_codec.bundle.entropy, ours, theirs) == 0
