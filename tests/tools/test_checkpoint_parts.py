"""A checkpoint kept as what its bundle lacks comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mlic.tools.checkpoint_parts import app
from tests.small_model import SmallBundle
from tests.tiny_bundle import build_tiny_bundle

pytestmark = pytest.mark.xdist_group("small_bundle")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.stderr
    return result.stdout


def state(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def test_split_and_joined_checkpoint_has_the_same_values(small_bundle: SmallBundle, tmp_path: Path):
    rest, back = tmp_path / "rest.npz", tmp_path / "back.pth"
    assert "parameters lie in" in run("split", small_bundle.checkpoint, small_bundle.folder, "-o", rest)
    run("join", small_bundle.folder, rest, "-o", back)
    before, after = state(small_bundle.checkpoint), state(back)
    parameters = [key for key in before if "._" not in key or "_matrix" in key or "_bias" in key or "_factor" in key]
    assert len(parameters) > 100
    for key in parameters:
        if before[key].numel():
            assert torch.equal(after[key], before[key]), key
    assert rest.stat().st_size < small_bundle.checkpoint.stat().st_size / 3


def test_rest_of_another_bundle_is_one_line(small_bundle: SmallBundle, tmp_path: Path):
    run("split", small_bundle.checkpoint, small_bundle.folder, "-o", tmp_path / "rest.npz")
    other = build_tiny_bundle(tmp_path / "other")
    result = CliRunner().invoke(app, ["join", str(other), str(tmp_path / "rest.npz"), "-o", str(tmp_path / "x.pth")])
    assert result.exit_code == 1
    assert "does not belong to" in result.stderr
    assert not (tmp_path / "x.pth").exists()
