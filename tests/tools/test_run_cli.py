"""``mlic-run`` in one process: options, results, JSON, and one line for each likely mistake."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mlic.runtime import Codec
from mlic.runtime import codec as codec_module
from mlic.runtime.errors import BackendError
from mlic.runtime.version import VERSION
from mlic.tools.run_cli import app
from tests.tiny_bundle import build_tiny_bundle

WIDTH, HEIGHT = 100, 75


class Result:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def error(self) -> str:
        """The one line of a failure."""
        assert self.code == 1, (self.code, self.out, self.err)
        assert self.out == ""
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.rstrip("\n")


@pytest.fixture
def mlic(bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in a folder of its own, on the miniature bundle with one thread."""
    monkeypatch.chdir(tmp_path)

    def mlic(name: str, *arguments: object, model: Path | None = bundle_folder) -> Result:
        extra = ["--model", str(model), "--threads", "1"] if name in ("encode", "decode") and model else []
        result = CliRunner().invoke(app, [name, *extra, *map(str, arguments)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return mlic


@pytest.fixture
def picture(tmp_path: Path, make_photo) -> Path:
    Image.fromarray(make_photo(HEIGHT, WIDTH)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def stream(codec: Codec, tmp_path: Path, make_photo) -> Path:
    (tmp_path / "s.mlic").write_bytes(codec.encode(make_photo(HEIGHT, WIDTH)))
    return tmp_path / "s.mlic"


@pytest.fixture
def broken(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "broken")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
    parts = {key: row.pop(key) for key in ("latent_bytes", "escape_bytes", "syndrome_bytes", "icc_bytes")}
    assert row == {
        "width": WIDTH,
        "height": HEIGHT,
        "model_id": codec.bundle.manifest.model_id.hex(),
        "arithmetic": "float32-syndrome",
        "bytes": size,
        "bpp": round(8 * size / (WIDTH * HEIGHT), 4),
    }
    assert all(isinstance(value, int) for value in parts.values())
    assert size - 64 <= sum(parts.values()) < size


def test_info_prints_a_line_for_each_value(mlic, stream: Path):
    lines = mlic("info", "s.mlic").out.splitlines()
    assert [line.split()[0] for line in lines] == list(json.loads(mlic("info", "s.mlic", "--json").out))
    assert re.fullmatch(r"width {10,}100", lines[0])


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
    assert re.search(r"^step_04 +fp32 +\d+ B +\d+ ms  ok$", result.out, re.M)
    assert "150x100: " in result.out


@pytest.mark.parametrize("arguments", [("encode", "a.png"), ("decode", "s.mlic", "c.png")])
def test_quiet_prints_nothing(arguments: tuple[str, ...], mlic, picture: Path, stream: Path):
    for option in ("--quiet", "-q"):
        result = mlic(*arguments, option, "--force")
        assert (result.code, result.out, result.err) == (0, "", "")


def test_quiet_verify_prints_nothing(mlic, bundle_folder: Path):
    result = mlic("verify", bundle_folder, "-q", "--threads", 1)
    assert (result.code, result.out, result.err) == (0, "", "")


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


def test_profile_travels_with_the_picture(mlic, tmp_path: Path, make_photo):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(make_photo(64, 64)).save(tmp_path / "p.png", icc_profile=profile)
    assert mlic("encode", "p.png").code == 0
    assert json.loads(mlic("info", "p.mlic", "--json").out)["icc_bytes"] == len(profile)
    assert mlic("decode", "p.mlic", "q.png").code == 0
    with Image.open("q.png") as image:
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("encode", "no.png"), "encode: no.png: No such file or directory"),
        (("decode", "no.mlic"), "decode: no.mlic: No such file or directory"),
        (("info", "no.mlic"), "info: no.mlic: No such file or directory"),
        (("encode", "s.mlic", "t.mlic"), "encode: s.mlic: not a picture in a known format"),
        (("decode", "a.png", "b.png"), "decode: this is a PNG picture, not a .mlic file (at byte 0)"),
        (("info", "a.png"), "info: this is a PNG picture, not a .mlic file (at byte 0)"),
        (("encode", "folder"), "encode: folder is a folder; name a file"),
        (("encode", "."), "encode: . is a folder; name a file"),
        (("encode", ""), "encode: . is a folder; name a file"),
        (("decode", "/"), "decode: / is a folder; name a file"),
        (("decode", "folder", "b.png"), "decode: folder: Is a directory"),
        (("info", "folder"), "info: folder: Is a directory"),
        (("encode", "a.png", "folder"), "encode: folder is a folder; name a file"),
        (("encode", "a.png", "nowhere/b.mlic"), "encode: nowhere: no such folder"),
        (("decode", "s.mlic", "nowhere/b.png"), "decode: nowhere: no such folder"),
        (("decode", "s.mlic", "b.gif"), "decode: b.gif: no format for suffix '.gif'; possible: .png, "),
        (("decode", "s.mlic", "b"), "decode: b: no format for suffix ''; possible: .png, "),
        (("encode", "a.png", "--max-pixels", "99"), "encode: a.png: 100 x 75 pixels; expected 1 to 99"),
        (("decode", "s.mlic", "--max-pixels", "99"), "decode: picture of 100 x 75 pixels; the limit is 99 "),
        (("info", "s.mlic", "--max-pixels", "99"), "info: picture of 100 x 75 pixels; the limit is 99 "),
        (("verify", "nowhere"), "verify: bundle nowhere: there is no such folder"),
        (("verify", "folder"), "verify: bundle folder: cannot read manifest.json: No such file or directory"),
        (("verify", "a.png"), "verify: bundle a.png: there is no such folder"),
    ],
)  # fmt: skip
def test_likely_mistake_is_one_line(arguments: tuple[str, ...], problem: str, mlic, picture: Path, stream: Path):
    picture.with_name("folder").mkdir()
    before = names(picture.parent)
    assert mlic(*arguments).error.startswith(f"mlic-run {problem}")
    assert names(picture.parent) == before


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"not a picture\n" * 9])
def test_file_that_is_no_picture_is_refused(data: bytes, mlic, tmp_path: Path):
    (tmp_path / "x.png").write_bytes(data)
    assert mlic("encode", "x.png").error.startswith("mlic-run encode: x.png: ")
    assert names(tmp_path) == ["x.png"]


def test_cut_picture_is_refused(mlic, picture: Path):
    picture.write_bytes(picture.read_bytes()[:-4000])
    assert mlic("encode", "a.png").error.startswith("mlic-run encode: a.png: cannot be decoded: ")


def test_cut_and_flipped_files_are_refused_and_leave_nothing(mlic, stream: Path, rng: np.random.Generator):
    data = stream.read_bytes()
    for cut in (0, 3, 20, len(data) // 2, len(data) - 1):
        stream.write_bytes(data[:cut])
        assert mlic("decode", "s.mlic").error.startswith("mlic-run decode: ")
        assert mlic("info", "s.mlic").code == 1
    for place in rng.integers(0, len(data), 12):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        stream.write_bytes(flipped)
        assert mlic("decode", "s.mlic").error.startswith("mlic-run decode: ")
        assert mlic("info", "s.mlic").code == 1
    stream.write_bytes(data + b"\0")
    assert "after" in mlic("decode", "s.mlic").error
    assert names(stream.parent) == ["s.mlic"]


def test_stream_of_another_model_is_refused_by_both_ids(mlic, stream: Path, tmp_path: Path, codec: Codec):
    other = build_tiny_bundle(tmp_path / "other", seed=5)
    ids = codec.bundle.manifest.model_id.hex(), Codec.load(other, threads=1).bundle.manifest.model_id.hex()
    assert mlic("decode", "s.mlic", model=other).error == (
        f"mlic-run decode: the file is of model {ids[0]}; bundle tiny-5 is model {ids[1]} (at byte 8)"
    )


@pytest.mark.parametrize("arguments", [("encode", "a.png"), ("decode", "s.mlic")])
def test_wrong_model_option_is_one_line(arguments: tuple[str, ...], mlic, picture: Path, stream: Path, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    target = "t.mlic" if arguments[0] == "encode" else "t.png"
    for model, problem in (
        (tmp_path / "no", "there is no such folder"),
        (tmp_path / "folder", "cannot read manifest.json"),
        (stream, "there is no such folder"),
    ):
        assert problem in mlic(*arguments, target, model=model).error
    assert not (tmp_path / target).exists()


def test_installation_without_a_model_says_so(mlic, picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(codec_module, "MODELS", tmp_path)
    assert mlic("encode", "a.png", model=None).error == (
        f"mlic-run encode: this installation ships no model {codec_module.DEFAULT_MODEL}; name a bundle"
    )


def test_failing_engine_is_one_line_and_leaves_nothing(
    mlic, picture: Path, stream: Path, monkeypatch: pytest.MonkeyPatch
):
    from mlic.runtime.backends import LazyGraph

    def fail(*_: object) -> None:
        raise BackendError("graph step_01: out of\n  memory")

    monkeypatch.setattr(LazyGraph, "run", fail)
    for arguments in (("encode", "a.png", "b.mlic"), ("decode", "s.mlic", "b.png")):
        assert mlic(*arguments).error == f"mlic-run {arguments[0]}: graph step_01: out of memory"
    assert names(picture.parent) == ["a.png", "s.mlic"]


def test_full_disk_is_one_line_and_leaves_nothing(mlic, picture: Path, stream: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    for arguments in (("encode", "a.png", "b.mlic"), ("decode", "s.mlic", "b.png")):
        assert mlic(*arguments).error.endswith("No space left on device")
    assert names(picture.parent) == ["a.png", "s.mlic"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_one_line(mlic, picture: Path):
    folder = picture.with_name("folder")
    folder.mkdir(mode=0o555)
    assert mlic("encode", "a.png", "folder/b.mlic").error.endswith("Permission denied")


def test_missing_and_damaged_graphs_fail_verification(mlic, broken: Path):
    graph = broken / "onnx" / "step_02.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    assert mlic("verify", broken).error == (
        "mlic-run verify: bundle tiny-0: SHA-256 differs from the manifest's: onnx/step_02.onnx"
    )
    graph.unlink()
    (broken / "onnx" / "finish.onnx").unlink()
    expected = "mlic-run verify: bundle tiny-0: missing onnx/step_02.onnx, onnx/finish.onnx"
    assert mlic("verify", broken).error == expected
    assert mlic("verify", broken, "--json").error == expected


@pytest.mark.parametrize("name", ["tables.npz", "manifest.json"])
def test_damaged_tables_and_manifest_fail_verification(name: str, mlic, broken: Path):
    data = bytearray((broken / name).read_bytes())
    data[0] ^= 1
    (broken / name).write_bytes(data)
    assert name in mlic("verify", broken).error


def test_graph_that_does_not_load_is_in_the_report_and_fails_verification(mlic, broken: Path):
    import hashlib

    manifest = json.loads((broken / "manifest.json").read_text())
    entry = next(graph for graph in manifest["graphs"] if graph["name"] == "step_02")
    (broken / entry["path"]).write_bytes(b"no graph")
    entry["sha256"] = hashlib.sha256(b"no graph").hexdigest()
    (broken / "manifest.json").write_text(json.dumps(manifest))
    result = mlic("verify", broken, "--json", "--threads", 1)
    assert result.code == 1
    assert result.err.startswith("mlic-run verify: bundle tiny-0: graph step_02: ")
    assert result.err.count("\n") == 1
    row = json.loads(result.out)
    assert row["passed"] is False
    assert [graph["name"] for graph in row["graphs"] if graph["problem"]] == ["step_02"]
    assert row["round_trips"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("encode",),
        ("encode", "a.png", "b.mlic", "c.mlic"),
        ("encode", "a.png", "--threads", "0"),
        ("encode", "a.png", "--threads", "many"),
        ("encode", "a.png", "--max-pixels", "0"),
        ("encode", "a.png", "--backend", "abacus"),
        ("decode", "s.mlic", "--quality", "3"),
        ("info",),
        ("verify", "a", "b"),
        ("improve", "a.png"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], mlic, picture: Path, stream: Path):
    result = mlic(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Usage: " in result.err
    assert names(picture.parent) == ["a.png", "s.mlic"]


def test_unknown_engine_is_told_the_known_ones(mlic, picture: Path):
    assert "onnxruntime" in mlic("encode", "a.png", "--backend", "abacus").err


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_engine_can_be_named(engine: str, mlic, picture: Path):
    assert mlic("encode", "a.png", "--backend", engine).code == 0


def test_version_and_help():
    runner = CliRunner()
    common = ["--backend", "--threads", "--json", "--quiet"]
    assert runner.invoke(app, ["--version"]).stdout == f"mlic {VERSION}\n"
    for arguments, words in (
        ([], ["encode", "decode", "info", "verify"]),
        (["encode"], [*common, "--model", "--max-pixels", "--force", "IN", "[OUT]"]),
        (["decode"], [*common, "--model", "--max-pixels", "--force", "IN", "[OUT]"]),
        (["info"], ["--max-pixels", "--json", "FILE"]),
        (["verify"], [*common, "[BUNDLE]"]),
    ):
        result = runner.invoke(app, [*arguments, "--help"], env={"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"})
        assert result.exit_code == 0
        assert all(word in result.stdout for word in words), result.stdout
