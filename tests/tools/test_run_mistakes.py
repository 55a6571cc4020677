"""``mlic-run`` where something is wrong: one line, the right status, and nothing left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mlic.runtime import Codec, shipped
from mlic.runtime.errors import BackendError
from tests.commands import names
from tests.tiny_bundle import build_tiny_bundle


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
        (("decode", "s.mlic", "--region", "90,0,11,5"), "decode: region of 11 x 5 pixels at x 90, y 0; expected"),
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
    assert "1 bytes follow the end" in mlic("decode", "s.mlic").error
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


def test_unknown_engine_is_told_the_known_ones(mlic, picture: Path):
    assert "onnxruntime" in mlic("encode", "a.png", "--backend", "abacus").err
