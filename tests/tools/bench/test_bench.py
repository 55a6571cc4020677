"""``mlic-run bench``: stages that add up to the whole, on the picture that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec
from mlic.tools.bench.pictures import made_picture
from mlic.tools.bench.stages import StageClock, grouped


@pytest.fixture
def bench(mlic, bundle_folder: Path):
    def bench(*arguments: object):
        return mlic("bench", "--model", bundle_folder, "--threads", 1, "--repeat", 3, *arguments)

    return bench


def test_json_has_every_stage_of_both_directions_and_they_add_up(bench, codec: Codec):
    row = json.loads(bench("--size", "100x75", "--json").out)
    steps = [step.graph for step in codec.bundle.manifest.steps]
    assert list(row["encode"]["stages_ms"]) == ["image", "g_a", "h_a", "coder", "h_s", *steps, "container"]
    assert list(row["decode"]["stages_ms"]) == ["container", "coder", "h_s", *steps, "finish", "g_s", "image"]
    assert (row["width"], row["height"], row["runs"]) == (100, 75, 3)
    for job in (row["encode"], row["decode"]):
        for stage in job["stages_ms"].values():
            assert 0 <= stage["min"] <= stage["median"] <= stage["max"]
        assert sum(stage["min"] for stage in job["stages_ms"].values()) <= job["total_ms"]["median"]
        assert sum(stage["max"] for stage in job["stages_ms"].values()) >= 0.95 * job["total_ms"]["median"]
        assert 0 < job["outside_engine_percent"] < 100
        assert job["mpixel_per_s"] == pytest.approx(100 * 75 / 1e3 / job["total_ms"]["median"], rel=0.01)
        assert job["msymbol_per_s"] == pytest.approx(
            row["symbols"] / 1e3 / job["stages_ms"]["coder"]["median"], rel=0.01
        )
    assert row["peak_memory_mb"] > 20


def test_bytes_and_symbols_are_those_of_the_codec(bench, codec: Codec, tmp_path: Path, make_photo):
    Image.fromarray(make_photo(40, 70)).save(tmp_path / "p.png")
    row = json.loads(bench("--image", "p.png", "--json").out)
    pixels = make_photo(40, 70)
    trace = codec.trace(pixels)
    assert row["bytes"] == len(codec.encode(pixels))
    assert row["symbols"] == trace["y"].size + trace["z_symbols"].size


def test_text_names_model_engine_and_picture(bench):
    out = bench("--size", "70x40").out
    lines = out.splitlines()
    assert lines[0].startswith("tiny-0 on onnxruntime ")
    assert lines[1].startswith("70x40, ")
    assert "3 runs after one to warm up" in lines[1]
    assert "5 steps" in out
    assert "step_00" not in out
    assert all(f"step_0{i}" in bench("--size", "70x40", "--steps").out for i in range(5))


def test_image_is_cut_or_mirrored_to_size(bench, codec: Codec, tmp_path: Path, make_photo):
    pixels = make_photo(40, 70)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    cut = json.loads(bench("--image", "p.png", "--size", "50x30", "--json").out)
    assert cut["bytes"] == len(codec.encode(np.ascontiguousarray(pixels[:30, :50])))
    twice = np.concatenate([pixels, pixels[::-1]])
    mirrored = json.loads(bench("--image", "p.png", "--size", "70x80", "--json").out)
    assert mirrored["bytes"] == len(codec.encode(twice))


@pytest.mark.parametrize("size", ["768", "0x5", "axb", "100000x1", "99999x99999", "-5x5"])
def test_wrong_sizes_are_usage_errors(size: str, bench):
    result = bench("--size", size)
    assert result.code == 2
    assert result.out == ""


def test_missing_image_is_one_line(bench):
    assert bench("--image", "none.png").error == "mlic-run bench: none.png: No such file or directory"


def test_made_picture_is_always_the_same_and_looks_like_a_photo_to_a_codec():
    first, again = made_picture(64, 96), made_picture(64, 96)
    assert np.array_equal(first, again)
    assert first.shape == (64, 96, 3)
    neighbours = np.abs(np.diff(first.astype(int), axis=1)).mean()
    assert neighbours < 0.6 * first.std()  # noise has 1.1
    assert made_picture(1, 1).shape == (1, 1, 3)


def test_clock_adds_up_stages_that_come_again(monkeypatch: pytest.MonkeyPatch):
    times = iter([0.0, 1.0, 1.0, 4.0, 4.0, 9.0])
    monkeypatch.setattr("mlic.tools.bench.stages.time.perf_counter", lambda: next(times))
    clock = StageClock()
    clock("a")
    clock("b")
    clock("a")
    clock.stop()
    clock.stop()
    assert clock.seconds == {"a": 1.0 + 5.0, "b": 3.0}


def test_short_table_puts_all_steps_in_one_row():
    assert grouped(dict.fromkeys(["h_s", "step_00", "coder", "step_01"])) == {
        "h_s": ["h_s"],
        "steps": ["step_00", "step_01"],
        "coder": ["coder"],
    }
