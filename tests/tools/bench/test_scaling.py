"""Time and memory by size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("matplotlib")

from mlic.tools.bench.scaling import app, spread


def test_sizes_are_measured_in_order_and_drawn(bundle_folder: Path, tmp_path: Path):
    output = tmp_path / "scaling.svg"
    options = ["--model", str(bundle_folder), "--threads", "1", "--repeat", "2"]
    result = CliRunner().invoke(app, ["-o", str(output), "--size", "128x96", "--size", "64x64", *options])
    assert result.exit_code == 0, result.output
    assert "128x96" in result.output
    assert "most over least time per megapixel: encode " in result.output
    rows = json.loads((tmp_path / "scaling.json").read_text())
    assert [(row["width"], row["height"], row["runs"]) for row in rows] == [(64, 64, 2), (128, 96, 2)]
    drawing = output.read_text()
    assert "megapixels" in drawing
    assert "peak memory" in drawing


def test_failed_measurement_says_why(tmp_path: Path):
    result = CliRunner().invoke(app, ["-o", str(tmp_path / "s.svg"), "--model", str(tmp_path / "none")])
    assert result.exit_code == 1
    assert "256x192: " in result.output
    assert "none" in result.output
    assert not (tmp_path / "s.svg").exists()


def test_spread_is_one_where_time_is_linear():
    rows = [
        {"width": w, "height": 1000, "encode": {"total_ms": {"median": w * share}}}
        for w, share in ((100, 2), (400, 2), (800, 3))
    ]
    assert spread(rows[:2], "encode") == pytest.approx(1)
    assert spread(rows, "encode") == pytest.approx(1.5)
