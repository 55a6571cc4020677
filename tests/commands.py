"""Runs the commands as their users do: as processes with streams of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODULES = {"mlic-export": "mlic.tools.export_cli", "mlic-run": "mlic.tools.run_cli"}


def command(name: str, *arguments: object) -> list[str]:
    """Return the command line of a command, without its script having to be installed."""
    code = f"import sys; from {MODULES[name]} import main; sys.argv[0] = {name!r}; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def run(
    name: str,
    *arguments: object,
    stdin: bytes = b"",
    cwd: Path | None = None,
    variables: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end; never raises for its exit status."""
    return subprocess.run(
        command(name, *arguments),
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=environment(variables),
        timeout=300,
        check=False,
    )


def environment(variables: dict[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with one thread, a plain terminal of 100 columns, and ``variables``."""
    fixed = {"OMP_NUM_THREADS": "1", "COLUMNS": "100", "TERM": "xterm", "NO_COLOR": "1"}
    return {**os.environ, **fixed, **(variables or {})}
