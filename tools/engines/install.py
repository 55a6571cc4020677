"""Set up engines to compare with, each in a folder of its own: ``python -m mlic.tools.engines.install``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mlic.tools.engines.available import FOLDER, NATIVE, READY, WEB

# The oldest that the package permits, one half way to today's, and another compilation of the same kernels.
ENGINES = ("onnxruntime-1.20.1", "onnxruntime-1.26.0", "onnxruntime-web-1.30.0")


class InstallError(Exception):
    """An engine cannot be set up; the text is one line."""


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Default: {' '.join(ENGINES)}")] = None,
    folder: Annotated[Path, typer.Option(help="Where they go.")] = FOLDER,
) -> None:
    """Set up the engines NAMES, unless they are."""
    failed = False
    for name in names or ENGINES:
        if not name.startswith(NATIVE):
            print(f"{name}: unknown; expected {NATIVE}VERSION or {WEB}VERSION", file=sys.stderr)
            failed = True
        elif (folder / name / READY).is_file():
            print(f"{name}: is in {folder / name}")
        elif name.startswith(WEB) and not (shutil.which("node") and shutil.which("npm")):
            print(f"{name}: left out, since it needs node and npm")
        else:
            try:
                install(name, folder)
                print(f"{name}: installed in {folder / name}")
            except InstallError as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed = True
    raise typer.Exit(failed)


def install(name: str, folder: Path) -> None:
    """Set up one engine, from scratch.

    Args:
        name: ``onnxruntime-VERSION`` or ``onnxruntime-web-VERSION``.
        folder: its folder goes there.

    Raises:
        InstallError: venv, pip or npm failed.
    """
    place = folder / name
    if place.exists():
        shutil.rmtree(place)  # left by an installation that did not end
    if name.startswith(WEB):
        place.mkdir(parents=True)
        options = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts"]
        package = f"onnxruntime-web@{name.removeprefix(WEB)}"
        _run(["npm", "install", "--prefix", str(place), *options, package])
    else:
        package = f"onnxruntime=={name.removeprefix(NATIVE)}"
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", package])
    (place / READY).touch()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours, above
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        blamed = next((line for line in lines if "error" in line.lower()), lines[-1])  # npm ends with other news
        raise InstallError(f"{Path(command[0]).name} failed: {blamed.strip()}")


if __name__ == "__main__":
    typer.run(main)
