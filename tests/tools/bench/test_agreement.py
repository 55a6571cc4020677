"""The table of what engines disagree on."""

import json

import numpy as np
from typer.testing import CliRunner

from mlic.tools.bench.agreement import app, as_markdown, native_engines, report


def test_equal_engines_are_one_and_pairs_are_counted(codec, rng):
    scales = np.exp(rng.uniform(-2, 3, (1, 1, 50, 50))).astype(np.float32)
    found = {"a": [[scales]], "b": [[scales.copy()]], "c": [[scales + np.float32(1e-2)]]}
    row = report(codec.bundle, found)
    assert row["equal"] == [["a", "b"], ["c"]]
    assert [pair["engines"] for pair in row["pairs"]] == [["a", "c"]]
    flips = np.count_nonzero(
        codec.bundle.entropy.build_indexes(scales) != codec.bundle.entropy.build_indexes(scales + np.float32(1e-2))
    )
    assert row["pairs"][0]["flips"] == flips > 0
    text = as_markdown(row | {"bundle": "tiny", "photos": ["x"]})
    assert "Equal to the last bit: a, b." in text
    assert f"| 1 a |  | {flips / 2500 * 1e6:.1f} |" in text


def test_the_command_compares_engines_on_photos(bundle_folder, tmp_path, picture):
    result = CliRunner().invoke(
        app, [str(bundle_folder), str(picture), "--json", str(tmp_path / "a.json"), "--only", "onnxruntime all"]
    )
    assert result.exit_code == 0, result.output
    row = json.loads((tmp_path / "a.json").read_text())
    assert sorted(name for group in row["equal"] for name in group) == sorted(
        f"onnxruntime all, {count} threads" for count in (1, 2, 4)
    )


def test_engines_are_those_of_every_level_and_of_several_threads():
    assert list(native_engines()) == [
        *(f"onnxruntime all, {count} threads" for count in (2, 1, 4)),
        *(f"onnxruntime {level}" for level in ("extended", "basic", "none")),
        *(f"openvino, {count} threads" for count in (1, 2)),
    ]
