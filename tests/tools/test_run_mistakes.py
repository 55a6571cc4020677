"""``mlic-run`` where something is wrong: one line, the right status, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlic.runtime import Codec, shipped
from mlic.runtime.choices import BACKENDS
from mlic.runtime.device import probe
from mlic.runtime.errors import BackendError
from tests.commands import command, environment, names, run
from tests.tiny_bundle import build_tiny_bundle


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("encode", "no.png"), "encode: no.png: No such file or directory"),
        (("decode", "no.mlic"), "decode: no.mlic: No such file or directory"),
        (("info", "no.mlic"), "info: no.mlic: No such file or directory"),
        (("encode", "s.mlic", "t.mlic"), "encode: s.mlic: is a .mlic file already; decode it first to encode it anew"),
        (("decode", "a.png", "b.png"), "decode: this is a PNG picture, not a .mlic file (at byte 0)"),
        (("info", "a.png"), "info: this is a PNG picture, not a .mlic file (at byte 0)"),
        (("encode", "folder"), "encode: folder is a folder; name one for its results with -o FOLDER"),
        (("encode", "."), "encode: . is a folder; name one for its results with -o FOLDER"),
        (("encode", ""), "encode: . is a folder; name one for its results with -o FOLDER"),
        (("decode", "/"), "decode: / is a folder; name one for its results with -o FOLDER"),
        (("decode", "folder", "b.png"), "decode: folder is a folder; name one for its results with -o FOLDER"),
        (("info", "folder"), "info: folder: Is a directory"),
        (("encode", "a.png", "folder"), "encode: folder is a folder; name a file"),
        (("encode", "a.png", "nowhere/b.mlic"), "encode: nowhere: no such folder; make it first"),
        (("decode", "s.mlic", "nowhere/b.png"), "decode: nowhere: no such folder"),
        (("decode", "s.mlic", "b.gif"), "decode: b.gif: no format for suffix '.gif'; possible: .png, "),
        (("decode", "s.mlic", "b"), "decode: b: no format for suffix ''; possible: .png, "),
        (("encode", "a.png", "--max-pixels", "99"), "encode: a.png: 100 x 75 pixels; expected 1 to 99"),
        (("decode", "s.mlic", "--max-pixels", "99"), "decode: picture of 100 x 75 pixels; the limit is 99 "),
        (("decode", "s.mlic", "--region", "90,0,11,5"), "decode: region of 11 x 5 pixels at x 90, y 0; expected"),
        (("info", "s.mlic", "--max-pixels", "99"), "info: picture of 100 x 75 pixels; the limit is 99 "),
        (("verify", "nowhere"), "verify: bundle nowhere: there is no such folder; name one that mlic-export made"),
        (("verify", "folder"), "verify: bundle folder: there is no manifest.json in it; name a folder that "),
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
    assert "1 bytes follow the end" in mlic("decode", "s.mlic").error
    assert names(stream.parent) == ["s.mlic"]


def test_stream_of_another_model_is_refused_by_both_ids(mlic, stream: Path, tmp_path: Path, codec: Codec):
    other = build_tiny_bundle(tmp_path / "other", seed=5)
    ids = codec.bundle.manifest.model_id.hex(), Codec.load(other, threads=1).bundle.manifest.model_id.hex()
    assert mlic("decode", "s.mlic", model=other).error == (
        f"mlic-run decode: the file is of model {ids[0]}; bundle tiny-5 is model {ids[1]}; "
        "name the bundle that wrote it (at byte 8)"
    )


@pytest.mark.parametrize("arguments", [("encode", "a.png"), ("decode", "s.mlic")])
def test_wrong_model_option_is_one_line(arguments: tuple[str, ...], mlic, picture: Path, stream: Path, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    target = "t.mlic" if arguments[0] == "encode" else "t.png"
    for model, problem in (
        (tmp_path / "no", "there is no such folder"),
        (tmp_path / "folder", "there is no manifest.json in it"),
        (stream, "there is no such folder"),
    ):
        assert problem in mlic(*arguments, target, model=model).error
    assert not (tmp_path / target).exists()


def test_installation_without_a_model_says_so(mlic, picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    assert mlic("encode", "a.png", model=None).error == (
        f"mlic-run encode: this installation ships no model {shipped.MODEL}-medium; name a bundle"
    )


def test_unknown_quality_lists_the_known_ones_and_a_bundle_has_its_own(mlic, picture: Path):
    result = mlic("encode", "a.png", "--quality", "best", model=None)
    assert result.code == 2
    assert "'best' is unknown; possible: low, medium, high" in " ".join(result.err.replace("│", " ").split())
    assert "has its own" in mlic("encode", "a.png", "--quality", "low").error


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
        ("decode", "s.mlic", "--region", "0,0,5"),
        ("decode", "s.mlic", "--region", "-1,0,5,5"),
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("encod", "a.png"), "No such command 'encod'. Did you mean 'encode'"),
        (("encode", "a.png", "--qualty", "low"), "No such option: --qualty"),
        (("encode", "a.png", "--qualty", "low"), "--quality"),
        (("encode", "a.png", "--quality", "hgih"), "'hgih' is unknown; possible: low, medium, high"),
        (("encode", "a.png", "--backend", "onnx"), f"'onnx' is unknown; possible: {', '.join(BACKENDS)}"),
        (("bench", "--size", "768"), "'768' is no size; expected WIDTHxHEIGHT, such as 768x512"),
        (("decode", "s.mlic", "--region", "5,5"), "'5,5' is no region; expected X,Y,W,H, such as 0,0,640,480"),
    ],
)
def test_what_is_misspelt_is_told_what_is_possible(arguments: tuple[str, ...], said: str, mlic, picture: Path):
    result = mlic(*arguments, model=None)
    assert result.code == 2
    assert said in " ".join(result.err.replace("│", " ").split())


@pytest.mark.parametrize(("version", "todo"), [(0, ""), (2, "; install a newer mlic-deploy")])
def test_file_of_another_version_says_which_and_what_to_install(version: int, todo: str, mlic, stream: Path):
    data = bytearray(stream.read_bytes())
    data[4] = version
    stream.write_bytes(data)
    for name in ("decode", "info"):
        said = f"file version {version}; this reader knows version 1{todo} (at byte 4)"
        assert mlic(name, "s.mlic").error == f"mlic-run {name}: {said}"


def test_bundle_of_a_newer_format_says_what_to_install(mlic, broken: Path):
    manifest = json.loads((broken / "manifest.json").read_text())
    (broken / "manifest.json").write_text(json.dumps(manifest | {"format_version": 2}))
    assert mlic("verify", broken).error == (
        f"mlic-run verify: bundle {broken}: bundle format version 2; this reader knows 1 to 1; "
        "install a newer mlic-deploy"
    )


def test_file_that_pillow_does_not_know_is_told_what_it_knows(mlic, picture: Path):
    picture.with_name("a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert mlic("encode", "a.heic").error == (
        "mlic-run encode: a.heic: not a picture in a known format; expected one that Pillow reads, such as PNG, JPEG, "
        "WebP or TIFF"
    )


@pytest.mark.parametrize("backend", ["cuda", "tensorrt"])
def test_gpu_that_is_not_there_names_engines_that_need_none(
    backend: str, mlic, picture: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(probe, "_ask_once", lambda library: "no CUDA device: the NVIDIA driver is not installed")
    assert mlic("encode", "a.png", "--backend", backend).error == (
        "mlic-run encode: no CUDA device: the NVIDIA driver is not installed; "
        "the engines onnxruntime and openvino need none"
    )


@pytest.mark.parametrize(("arguments", "extra"), [(("encode", "a.png"), "cpu"), (("decode", "s.mlic"), "cpu")])
def test_missing_engine_is_told_as_the_extra_to_install(
    arguments: tuple[str, ...], extra: str, mlic, picture: Path, stream: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    error = mlic(*arguments).error
    assert error.startswith(f"mlic-run {arguments[0]}: cannot load ONNX Runtime (")
    assert error.endswith(f"install it with: pip install 'mlic-deploy[{extra}]'")
    assert names(picture.parent) == ["a.png", "s.mlic"]
    assert mlic("verify", "--engines", "all").error.endswith(
        "two at least, to read each other's files; none is installed: pip install 'mlic-deploy[cpu,openvino]'"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_disk_that_is_really_full_is_one_line(bundle_folder: Path, picture: Path):
    options = ("--model", bundle_folder, "--threads", 1)
    done = run("mlic-run", "encode", picture, "/dev/full", *options)
    assert (done.returncode, done.stderr) == (1, b"mlic-run encode: /dev/full: No space left on device\n")
    with Path("/dev/full").open("wb") as full:
        piped = subprocess.run(
            command("mlic-run", "encode", picture, "-", *options),
            stdout=full, stderr=subprocess.PIPE, env=environment(), check=False,
        )  # fmt: skip
    assert (piped.returncode, piped.stderr) == (1, b"mlic-run encode: standard output: No space left on device\n")
