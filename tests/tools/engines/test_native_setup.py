"""ONNX Runtime's headers are fetched once, from a package that is unpacked and not installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlic.tools.engines import native
from mlic.tools.engines.debian import SetupError


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Packages that would have been fetched; what unpacks them leaves the header."""
    fetched: list[str] = []

    def download(folder: Path, suite: str, names: list[str]) -> list[Path]:
        fetched.extend(f"{name} of {suite}" for name in names)
        return [folder / f"{name}.deb" for name in names]

    def run(line: list[str]) -> str:
        header = Path(line[-1]) / native.HEADER
        header.parent.mkdir(parents=True)
        header.touch()
        return ""

    monkeypatch.setattr(shutil, "which", lambda tool: tool)
    monkeypatch.setattr(native, "download", download)
    monkeypatch.setattr(native, "run", run)
    return fetched


def test_headers_are_fetched_once(packages: list[str], tmp_path: Path):
    folder = tmp_path / "native/headers"
    assert not native.has_headers(folder)
    native.fetch_headers(folder)
    native.fetch_headers(folder)
    assert native.has_headers(folder)
    assert packages == ["libonnxruntime-dev of trixie"]


def test_package_without_the_header_is_reported(packages: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "run", lambda _: "")
    with pytest.raises(SetupError, match=r"^libonnxruntime-dev of trixie has no usr/include"):
        native.fetch_headers(tmp_path / "headers")
    assert not native.has_headers(tmp_path / "headers")


def test_machine_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "apt-get" else tool)
    with pytest.raises(SetupError, match="needs apt-get"):
        native.fetch_headers(tmp_path / "headers")


def test_library_is_the_wheels(tmp_path: Path):
    with pytest.raises(SetupError, match="not installed"):
        native.library(tmp_path)
    path = tmp_path / "onnxruntime/capi/libonnxruntime.so.1.31.1"
    path.parent.mkdir(parents=True)
    path.touch()
    assert native.library(tmp_path) == path
    assert native.library().is_file()


def test_failure_ends_the_command_in_one_line(monkeypatch: pytest.MonkeyPatch):
    def fail(_: Path) -> None:
        raise SetupError("the mirror is not reached")

    monkeypatch.setattr(native, "fetch_headers", fail)
    with pytest.raises(SystemExit, match=r"^native: the mirror is not reached$"):
        native.main()
