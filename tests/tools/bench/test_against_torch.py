"""Both sides of the comparison run the same weights on the same picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mlic.tools.bench.against_torch import summary, text


def test_ratios_are_those_of_pairs():
    runs = {f"{side} {job}": [] for side in ("torch", "mlic") for job in ("encode", "decode", "chain")}
    for job in ("encode", "decode", "chain"):
        runs[f"torch {job}"] = [30.0, 100.0, 44.0]
        runs[f"mlic {job}"] = [20.0, 50.0, 40.0]
    rows = summary(runs)
    assert rows["ratio decode"] == {"median": 1.5, "min": 1.1, "max": 2.0}  # not 44 / 40 of the medians
    assert rows["torch chain"]["median"] == 44.0
    lines = text(rows).splitlines()
    assert lines[-1].split() == ["ratio", "chain", "1.50", "1.10", "2.00", "x"]


@pytest.mark.xdist_group("small_bundle")
def test_the_small_model_is_compared(small_bundle, make_photo, tmp_path: Path):
    Image.fromarray(make_photo(64, 128)).save(tmp_path / "p.png")
    command = [sys.executable, "-m", "mlic.tools.bench.against_torch", small_bundle.checkpoint, small_bundle.folder]
    options = [tmp_path / "p.png", "--threads", "1", "--repeat", "2", "--json"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    for job in ("encode", "decode", "chain"):
        assert rows[f"torch {job}"]["median"] > 0
        assert rows[f"mlic {job}"]["median"] > 0
        assert rows[f"ratio {job}"]["min"] <= rows[f"ratio {job}"]["median"] <= rows[f"ratio {job}"]["max"]
    for side in ("torch", "mlic"):
        assert rows[f"{side} chain"]["median"] < rows[f"{side} decode"]["median"]
    assert 0 < rows["mlic decode outside share"]["median"] < 100
