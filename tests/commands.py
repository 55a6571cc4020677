"""Runs the commands as their users do: as processes with streams of their own."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

HEIGHT, WIDTH = 75, 100  # of the picture that commands are tried on

MODULES = {
    "mlic-calibrate": "mlic.tools.calibrate_cli",
    "mlic-export": "mlic.tools.export_cli",
    "mlic-run": "mlic.tools.run_cli",
}


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


def on_terminal(arguments: list[str], stdout: int | None, cwd: Path) -> tuple[int, str, bytes]:
    """Run a command whose stderr, and stdout unless given, is a terminal; return status, terminal and pipe."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        cwd=cwd,
        env=environment(),
    ) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # how Linux says that the last writer closed
            while part := os.read(ours, 4096):
                seen += part
        os.close(ours)
        piped = process.stdout.read() if process.stdout else b""
    return process.returncode, seen.decode(), piped


class Result:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def error(self) -> str:
        """The one line of a failure."""
        assert self.code == 1, (self.code, self.out, self.err)
        assert self.out == ""
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.rstrip("\n")


def names(folder: Path) -> list[str]:
    """Return what lies in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
