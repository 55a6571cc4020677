"""The emulated machine is made once, from the mirrors that this machine uses, and what fails is said in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlic.tools.engines import aarch64
from mlic.tools.engines.aarch64 import RECIPE, SetupError, find_mirror

LINES = """
# deb http://commented.example/debian bookworm main
deb-src http://sources.example/debian bookworm main
deb http://security.example/debian bookworm-security main
deb http://other.example/packages stable tools
deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.example/debian bookworm main contrib
"""

PARAGRAPHS = """Types: deb
URIs: http://other.example/packages
Suites: stable
Components: tools

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

# the archive
Types: deb deb-src
URIs: http://mirror.example/debian http://second.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://security.example/debian
Suites: trixie-security
Components: main
"""

EXPECTED = "deb [signed-by=/keys/debian.gpg] http://mirror.example/debian"


@pytest.mark.parametrize("text", [LINES, PARAGRAPHS])
def test_mirror_is_the_one_that_apt_uses_for_releases(text: str):
    assert find_mirror(["", text]) == EXPECTED


def test_mirror_without_options_has_none():
    assert find_mirror(["deb [arch=amd64] http://a.example/debian trixie main"]) == "deb http://a.example/debian"
    assert find_mirror([PARAGRAPHS.replace("Signed-By", "X-Key")]) == "deb http://mirror.example/debian"


def test_machine_without_a_mirror_of_debian_is_told_so():
    with pytest.raises(SetupError, match="no mirror of Debian"):
        find_mirror([LINES.replace(" bookworm main contrib", " jammy main")])


def test_machine_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "apt-get" else tool)
    with pytest.raises(SetupError, match="needs apt-get"):
        aarch64.set_up(tmp_path / "machine")


def test_command_that_fails_says_why_in_one_line(tmp_path: Path):
    script = "import sys; sys.exit('W: a warning\\nE: not to be reached\\nE: and more')"
    with pytest.raises(SetupError) as caught:
        aarch64._run([sys.executable, "-c", script], folder=tmp_path)
    assert str(caught.value) == f"{Path(sys.executable).name} failed: E: not to be reached"


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
    monkeypatch.setattr(aarch64, "find_mirror", lambda _: EXPECTED)
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
