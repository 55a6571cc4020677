"""A report on two photos, made once a worker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from mlic.tools.run_cli import app
from tests.tiny_bundle import build_tiny_bundle


@dataclass(frozen=True)
class Report:
    """Where it lies, the photos it is on, the models, and what the command printed as JSON."""

    folder: Path
    photos: Path
    models: tuple[Path, Path]
    printed: dict[str, Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, make_photo) -> Report:
    root = tmp_path_factory.mktemp("compare")
    (root / "in").mkdir()
    for name, seed in (("a", 1), ("b #1", 2)):
        Image.fromarray(make_photo(170, 200, seed=seed)).save(root / "in" / f"{name}.png")
    (root / "in" / "notes.txt").write_text("no picture")
    models = build_tiny_bundle(root / "one"), build_tiny_bundle(root / "two", seed=5)
    options = [x for model in models for x in ("--model", str(model))]
    arguments = ["compare", str(root / "in"), "-o", str(root / "out"), "--against", "jpeg,webp", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, *options, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return Report(root / "out", root / "in", models, json.loads(result.stdout))
