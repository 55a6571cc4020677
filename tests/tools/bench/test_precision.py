"""The table of precisions: sizes, PSNR, rate and times of bundles beside the first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mlic.runtime.errors import MlicError
from mlic.tools.bench import precision
from mlic.tools.bench.precision import row_from
from tests.conftest import photo
from tests.tiny_bundle import build_tiny_bundle

app = precision.app


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(photo(70, 90, seed)).save(folder / f"{seed}.png")
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_row_names_engine_and_bundles():
    row = row_from("int8, here=onnxruntime:a,b/c")
    assert (row.title, row.engine, row.bundles) == ("int8, here", "onnxruntime", [Path("a"), Path("b/c")])


@pytest.mark.parametrize("text", ["", "a", "a=b", "a=b:", "=b:c", "a=:c"])
def test_row_of_another_form_is_refused(text: str):
    with pytest.raises(MlicError, match="expected TITLE=ENGINE:BUNDLE"):
        row_from(text)


def test_first_row_is_what_the_others_are_compared_with(photos: Path, bundle_folder: Path, tmp_path: Path):
    other = build_tiny_bundle(tmp_path / "other", seed=1)
    rows = ("--row", f"one=onnxruntime:{bundle_folder}", "--row", f"two=onnxruntime:{other}")
    found = json.loads(run(photos, *rows, "--threads", 1, "--repeats", 2, "--json"))["rows"]
    assert [row["title"] for row in found] == ["one", "two"]
    first, second = found
    assert (first["psnr_change_db"], first["rate_change_percent"]) == ([0.0], [0.0])
    assert second["rate_change_percent"] != [0.0]  # another seed: another entropy path
    assert first["bd_rate_percent"] is None  # one quality is no curve
    assert first["transform_bytes"] == sum((bundle_folder / f"onnx/{g}.onnx").stat().st_size for g in ("g_a", "g_s"))
    assert set(first["ratio"].values()) == {1.0}
    assert all(second["median_ms"][stage] > 0 for stage in ("g_a", "g_s", "encode", "decode"))


def test_table_has_a_row_for_each(photos: Path, bundle_folder: Path):
    text = run(photos, "--row", f"one=onnxruntime:{bundle_folder}", "--threads", 1, "--repeats", 0)
    lines = text.splitlines()
    assert len(lines) == 3
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert len(cells) == lines[0].count("|") - 1
    assert (cells[0], cells[7], cells[8], cells[9]) == ("one", "+0.000", "+0.00 %", "")
    assert np.isclose(float(cells[1]), 0.0, atol=0.1)
