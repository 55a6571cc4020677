"""``mlic-run`` in one process: its options, its results and their JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mlic.runtime import Codec, shipped
from mlic.runtime.version import VERSION
from mlic.tools.run_cli import app
from tests.commands import HEIGHT, WIDTH, names
from tests.tiny_bundle import build_tiny_bundle


def test_encoded_file_is_the_codecs_and_decodes_to_its_picture(mlic, picture: Path, codec: Codec, make_photo):
    assert mlic("encode", "a.png", "b.mlic").code == 0
    data = picture.with_name("b.mlic").read_bytes()
    assert data == codec.encode(make_photo(HEIGHT, WIDTH))
    assert mlic("decode", "b.mlic", "c.png").code == 0
    with Image.open("c.png") as image:
        assert np.array_equal(np.asarray(image), codec.decode(data))
    assert names(picture.parent) == ["a.png", "b.mlic", "c.png"]


def test_output_is_named_after_the_input(mlic, picture: Path):
    assert mlic("encode", "a.png").out.startswith("a.mlic: 100x75, ")
    picture.unlink()
    assert mlic("decode", "a.mlic").out.startswith("a.png: 100x75, ")
    assert names(picture.parent) == ["a.mlic", "a.png"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "JPG", "webp", "tif", "tiff", "bmp", "ppm"])
def test_suffix_names_the_format(suffix: str, mlic, stream: Path):
    assert mlic("decode", "s.mlic", f"c.{suffix}").code == 0
    with Image.open(f"c.{suffix}") as image:
        assert image.size == (WIDTH, HEIGHT)


def test_result_of_encode_says_size_and_rate(mlic, picture: Path):
    out = mlic("encode", "a.png").out
    size = picture.with_suffix(".mlic").stat().st_size
    bpp, ratio = 8 * size / (WIDTH * HEIGHT), 3 * WIDTH * HEIGHT / size
    assert out.startswith(f"a.mlic: 100x75, {size} B, {bpp:.4f} bpp, {ratio:.1f}:1 of 24-bit pixels, ")


def test_json_of_encode(mlic, picture: Path, codec: Codec):
    result = mlic("encode", "a.png", "--json")
    row = json.loads(result.out)
    size = picture.with_suffix(".mlic").stat().st_size
    assert isinstance(row.pop("seconds"), float)
    assert row == {
        "output": "a.mlic",
        "width": WIDTH,
        "height": HEIGHT,
        "bytes": size,
        "bpp": round(8 * size / (WIDTH * HEIGHT), 4),
        "ratio": round(3 * WIDTH * HEIGHT / size, 2),
        "source_bytes": picture.stat().st_size,
        "model_id": codec.bundle.manifest.model_id.hex(),
    }
    assert result.out.count("\n") == 1
    assert result.err == ""


def test_json_of_decode(mlic, stream: Path):
    row = json.loads(mlic("decode", "s.mlic", "c.png", "--json").out)
    assert isinstance(row.pop("seconds"), float)
    assert row == {"output": "c.png", "width": WIDTH, "height": HEIGHT}


def test_json_of_info(mlic, stream: Path, codec: Codec):
    row = json.loads(mlic("info", "s.mlic", "--json").out)
    size = stream.stat().st_size
    parts = {key: row.pop(key) for key in ("latent_bytes", "escape_bytes", "syndrome_bytes")}
    assert row == {
        "width": WIDTH,
        "height": HEIGHT,
        "model_id": codec.bundle.manifest.model_id.hex(),
        "quality": None,
        "bundle": None,
        "arithmetic": "float32-syndrome",
        "bytes": size,
        "icc_bytes": 0,
        "icc_description": None,
        "exif_bytes": 0,
        "camera": None,
        "taken": None,
        "xmp_bytes": 0,
        "grey": False,
        "source_had_transparency": False,
        "source_had_more_than_8_bits": False,
        "bpp": round(8 * size / (WIDTH * HEIGHT), 4),
    }
    assert all(isinstance(value, int) for value in parts.values())
    assert size - 64 <= sum(parts.values()) < size


def test_quality_chooses_the_model_and_the_file_says_which_to_decode_with(
    mlic, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for seed, quality in enumerate(shipped.QUALITIES):
        build_tiny_bundle(tmp_path / "models" / f"{shipped.MODEL}-{quality}", seed=seed + 20)
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "models")
    for quality in ("medium", "low", "high"):
        assert mlic("encode", "a.png", f"{quality}.mlic", "--quality", quality, model=None).code == 0
        assert json.loads(mlic("info", f"{quality}.mlic", "--json").out)["quality"] == quality
        assert mlic("decode", f"{quality}.mlic", f"{quality}.png", model=None).code == 0
        codec = Codec.load(quality=quality, threads=1)
        with Image.open(f"{quality}.png") as image:
            assert np.array_equal(np.asarray(image), codec.decode(Path(f"{quality}.mlic").read_bytes()))
    assert mlic("encode", "a.png", "default.mlic", model=None).code == 0
    assert Path("default.mlic").read_bytes() == Path("medium.mlic").read_bytes()
    assert mlic("verify", "--quality", "high", "--threads", "1").code == 0


def test_info_prints_a_line_for_each_value(mlic, stream: Path):
    lines = mlic("info", "s.mlic").out.splitlines()
    assert [line.split()[0] for line in lines] == list(json.loads(mlic("info", "s.mlic", "--json").out))
    assert re.fullmatch(r"width {10,}100", lines[0])
    assert re.search(r"^grey +no$", "\n".join(lines), re.M)


def test_json_of_verify(mlic, bundle_folder: Path, codec: Codec):
    row = json.loads(mlic("verify", bundle_folder, "--threads", 1, "--json").out)
    assert row["passed"] is True
    assert row["model"]["model_id"] == codec.bundle.manifest.model_id.hex()
    assert [graph["name"] for graph in row["graphs"]] == list(codec.bundle.manifest.graphs)
    assert set(row["graphs"][0]) == {"name", "precision", "file_bytes", "load_ms", "problem"}
    assert [(trip["height"], trip["width"]) for trip in row["round_trips"]] == [
        (1, 1), (64, 64), (100, 150), (256, 192)
    ]  # fmt: skip
    assert {entry["problem"] for entry in row["graphs"] + row["round_trips"]} == {None}


def test_verify_prints_a_table(mlic, bundle_folder: Path):
    result = mlic("verify", bundle_folder, "--threads", 1)
    assert result.code == 0
    assert re.search(r"^step_04 +fp32 +\S+ k?B +\d+ ms  ok$", result.out, re.M)
    assert "150x100: " in result.out


@pytest.mark.parametrize("arguments", [("encode", "a.png"), ("decode", "s.mlic", "c.png")])
def test_quiet_prints_nothing(arguments: tuple[str, ...], mlic, picture: Path, stream: Path):
    for option in ("--quiet", "-q"):
        result = mlic(*arguments, option, "--force")
        assert (result.code, result.out, result.err) == (0, "", "")


def test_quiet_verify_prints_nothing(mlic, bundle_folder: Path):
    result = mlic("verify", bundle_folder, "-q", "--threads", 1)
    assert (result.code, result.out, result.err) == (0, "", "")


@pytest.mark.filterwarnings("default")
def test_loss_on_reading_is_one_warning_and_quiet_silences_it(mlic, tmp_path: Path):
    Image.new("RGBA", (70, 70), (10, 20, 30, 40)).save(tmp_path / "t.png")
    result = mlic("encode", "t.png")
    assert result.code == 0
    assert result.err == "mlic-run encode: warning: the picture: transparency was composited on white\n"
    assert mlic("encode", "t.png", "--quiet", "--force").err == ""


@pytest.mark.parametrize("force", ["--force", "-f"])
def test_existing_output_is_replaced_only_when_asked(force: str, mlic, picture: Path, stream: Path):
    for arguments in (("encode", "a.png", "out.mlic"), ("decode", "s.mlic", "out.png")):
        target = picture.with_name(arguments[2])
        target.write_bytes(b"precious")
        expected = f"mlic-run {arguments[0]}: {arguments[2]} exists; name another file, or --force"
        assert mlic(*arguments).error == expected
        assert target.read_bytes() == b"precious"
        assert mlic(*arguments, force).code == 0
        assert target.read_bytes() != b"precious"


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_engine_can_be_named(engine: str, mlic, picture: Path):
    assert mlic("encode", "a.png", "--backend", engine).code == 0


def test_version_and_help():
    runner = CliRunner()
    common = ["--backend", "--threads", "--json", "--quiet"]
    assert runner.invoke(app, ["--version"]).stdout == f"mlic {VERSION}\n"
    for arguments, words in (
        ([], ["encode", "decode", "info", "verify"]),
        (["encode"], [*common, "--model", "--max-pixels", "--strip", "--force", "IN", "[OUT]"]),
        (["decode"], [*common, "--model", "--region", "--max-pixels", "--strip", "--force", "IN", "[OUT]"]),
        (["info"], ["--max-pixels", "--json", "FILE"]),
        (["verify"], [*common, "[BUNDLE]"]),
    ):
        result = runner.invoke(app, [*arguments, "--help"], env={"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"})
        assert result.exit_code == 0
        assert all(word in result.stdout for word in words), result.stdout


def test_a_region_is_the_crop_of_the_picture(mlic, stream: Path, codec: Codec):
    row = json.loads(mlic("decode", "s.mlic", "c.png", "--region", "7,5,30,20", "--json").out)
    assert (row["width"], row["height"]) == (30, 20)
    with Image.open("c.png") as image:
        assert np.array_equal(np.asarray(image), codec.decode(stream.read_bytes())[5:25, 7:37])


def test_info_shows_the_grid(mlic, bundle_folder: Path, tmp_path: Path, make_photo):
    codec = Codec.load(bundle_folder, threads=1, latent_pixels=4096)
    (tmp_path / "g.mlic").write_bytes(codec.encode(make_photo(HEIGHT, WIDTH)))
    row = json.loads(mlic("info", "g.mlic", "--json").out)
    assert (row["width"], row["height"]) == (WIDTH, HEIGHT)
    assert (row["cells"], row["cell_width"], row["cell_height"]) == (4, 64, 64)
    parts = sum(row[key] for key in ("latent_bytes", "escape_bytes", "syndrome_bytes"))
    assert 0 < row["latent_bytes"] < parts < row["bytes"]
    assert re.search("^cells +4$", mlic("info", "g.mlic").out, re.MULTILINE)
    assert mlic("decode", "g.mlic", "g.png").code == 0
