"""Engines are set up once, and what cannot be set up is named."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mlic.tools.engines import install
from mlic.tools.engines.available import READY, foreign_engines


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Commands that would have been run; installations end well and leave no packages."""
    commands: list[Sequence[str]] = []

    def keep(command: Sequence[str]) -> None:
        commands.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)

    monkeypatch.setattr(install, "_run", keep)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    return commands


def run(folder: Path, *names: str) -> Result:
    app = typer.Typer()
    app.command()(install.main)
    return CliRunner().invoke(app, [*names, "--folder", str(folder)])


def test_engines_are_installed_once(commands: list[Sequence[str]], tmp_path: Path):
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    packages = [command[-1] for command in commands if "venv" not in command]
    assert packages == ["onnxruntime==1.20.1", "onnxruntime==1.26.0", "onnxruntime-web@1.30.0"]
    assert result.stdout.count(": installed in") == 3
    result = run(tmp_path)
    assert (result.exit_code, result.stdout.count(": is in"), len(commands)) == (0, 3, 5)
    assert list(foreign_engines(tmp_path)) == sorted(install.ENGINES)


def test_interrupted_installation_is_no_engine_and_begins_anew(commands: list[Sequence[str]], tmp_path: Path):
    half = tmp_path / "onnxruntime-1.20.1"
    half.mkdir()
    (half / "rest").touch()
    assert foreign_engines(tmp_path) == {}
    assert run(tmp_path, half.name).exit_code == 0
    assert [path.name for path in half.iterdir()] == [READY]
    assert list(foreign_engines(tmp_path)) == [half.name]


def test_engine_without_node_is_left_out(
    commands: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert run(tmp_path, "onnxruntime-web-1.30.0").exit_code == 0
    assert list(foreign_engines(tmp_path)) == ["onnxruntime-web-1.30.0"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert foreign_engines(tmp_path) == {}
    result = run(tmp_path, "onnxruntime-web-1.29.0", "onnxruntime-1.26.0")
    assert (result.exit_code, result.stdout.count("installed in")) == (0, 1)
    assert "onnxruntime-web-1.29.0: left out, since it needs node and npm" in result.stdout


def test_failed_installation_is_named_and_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\nprintf 'notice\\nERROR: no wheel\\nbye\\n' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    result = run(tmp_path, "onnxruntime-0.1", "tensorflow-2", "onnxruntime-0.2")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "onnxruntime-0.1: python failed: ERROR: no wheel",
        "tensorflow-2: unknown; expected onnxruntime-VERSION or onnxruntime-web-VERSION",
        "onnxruntime-0.2: python failed: ERROR: no wheel",
    ]
    assert foreign_engines(tmp_path) == {}
