"""The emulated machine is made once, from the mirrors that this machine uses, and what fails is said in one line."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlic.tools.engines import aarch64, debian
from mlic.tools.engines.debian import RECIPE, SetupError


def test_machine_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "apt-get" else tool)
    with pytest.raises(SetupError, match="needs apt-get"):
        aarch64.set_up(tmp_path / "machine")


def test_failure_ends_the_command_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def fail(_: Path) -> None:
        raise SetupError("the mirror is not reached")

    monkeypatch.setattr(aarch64, "set_up", fail)
    with pytest.raises(SystemExit, match=r"^aarch64: the mirror is not reached$"):
        aarch64.main()
    assert capsys.readouterr().out == ""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Commands that would have been run; apt leaves as many packages as it is asked for."""
    commands: list[Sequence[str]] = []

    def run(line: Sequence[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(line)
        if "download" in line:
            for name in line[line.index("download") + 1 :]:
                (Path(str(options["cwd"])) / f"{name}.deb").touch()
        return subprocess.CompletedProcess(line, 0, b"", b"")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda tool: tool)
    monkeypatch.setattr(debian, "find_mirror", lambda _: "deb http://mirror.example/debian")
    return commands


def test_parts_are_made_once_and_again_when_their_recipe_changes(
    commands: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "machine"
    assert not aarch64.is_available(folder)
    aarch64.set_up(folder)
    assert aarch64.is_available(folder)
    assert sorted(path.name for path in folder.iterdir()) == [aarch64.READY, "packages", "qemu", "root", "site"]
    assert [path.name for path in (folder / "root").iterdir()] == [RECIPE]  # nothing of apt's stays

    commands.clear()
    aarch64.set_up(folder)
    assert len(commands) == 1  # the machine is tried
    assert commands[0][: len(aarch64.command(folder=folder)[0])] == aarch64.command(folder=folder)[0]

    commands.clear()
    monkeypatch.setattr(aarch64, "requirements", lambda: ["onnxruntime==0.1"])
    aarch64.set_up(folder)
    assert [line[-1] for line in commands[:-1]] == ["onnxruntime==0.1"]


def test_interrupted_part_is_made_anew(commands: list[Sequence[str]], tmp_path: Path):
    aarch64.set_up(tmp_path)
    (tmp_path / "site" / RECIPE).unlink()
    (tmp_path / "site/rest").touch()
    aarch64.set_up(tmp_path)
    assert not (tmp_path / "site/rest").exists()


def test_machine_that_does_not_run_is_not_available(
    commands: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    aarch64.set_up(tmp_path)

    def crash(line: Sequence[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(line, -11, b"", b"")

    monkeypatch.setattr(subprocess, "run", crash)
    with pytest.raises(SetupError, match="qemu-aarch64 failed: status -11"):
        aarch64.set_up(tmp_path)
    assert not aarch64.is_available(tmp_path)


def test_emulated_python_sees_only_its_own_packages(tmp_path: Path):
    line, variables = aarch64.command("max", tmp_path)
    assert line[line.index("-cpu") + 1] == "max"
    assert line[-2:] == ["-s", "-P"]
    assert all(Path(entry).is_relative_to(tmp_path) for entry in variables["PYTHONPATH"].split(":"))
