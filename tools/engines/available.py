"""Which engines in other processes are set up here: the folders that ``install.py`` made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mlic.tools.engines.worker import WorkerBackend

FOLDER = Path("build/engines")  # in the current folder, as all that the Makefile makes
READY = ".ready"  # last file of an installation, which may have been interrupted
NATIVE, WEB = "onnxruntime-", "onnxruntime-web-"  # names of folders and engines, before the version

WORKERS = Path(__file__).resolve().parent


def foreign_engines(
    folder: Path = FOLDER, options: Mapping[str, Any] | None = None
) -> dict[str, Callable[[], WorkerBackend]]:
    """Return what starts each engine that is set up, by names such as ``onnxruntime-1.20.1``.

    Args:
        folder: where they are.
        options: for their graphs, as in ``worker.py``; default: one thread.
    """
    options = {"threads": 1} if options is None else options
    commands = {place: web_command(place) for place in _places(folder, WEB) if shutil.which("node")}
    commands |= {place: (native_command(place / "bin/python"), {}) for place in _places(folder, NATIVE)}
    return {
        place.name: partial(WorkerBackend, command, place.name, variables, options)
        for place, (command, variables) in sorted(commands.items())
    }


def native_command(python: Path | str) -> list[str]:
    """Return what serves the ``onnxruntime`` of a Python.

    Isolated: neither the environment's variables nor the files beside the script are to stand in for its packages.
    """
    return [str(python), "-I", str(WORKERS / "ort_worker.py")]


def web_command(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return what serves the ``onnxruntime-web`` in the ``node_modules`` of a folder, and its variables."""
    return ["node", str(WORKERS / "web_worker.mjs")], {"MLIC_WEB_ENGINE": str(folder)}


def _places(folder: Path, prefix: str) -> list[Path]:
    return [ready.parent for ready in folder.absolute().glob(f"{prefix}[0-9]*/{READY}")]
