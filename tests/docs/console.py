"""Console blocks: the commands in them, what they are shown to print, and running them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.commands import MODULES, environment
from tests.docs.pages import Block

PROMPT = "$ "
SECONDS = 120

_ID = re.compile(r"\b[0-9a-f]{16}\b")
_NUMBER = re.compile(r"[-+\u2212]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
_UNIT = re.compile(r"(?<=# )[kMG]?B\b")


class Step(NamedTuple):
    """A command, and the lines that it is shown to print; none if its output is not shown."""

    command: str
    shown: list[str]


def steps_of(block: Block) -> list[Step]:
    """Return the commands of a block; a line that ends with a backslash goes on in the next."""
    steps: list[Step] = []
    for line in block.text.replace("\\\n", "").splitlines():
        if line.startswith(PROMPT):
            steps.append(Step(line.removeprefix(PROMPT), []))
        else:
            assert steps, f"{block.place}: a console block begins with `$ `"
            steps[-1].shown.append(line)
    return steps


def shape(line: str) -> str:
    """Return a line without what differs from run to run: numbers, ids and the width of columns."""
    line = _NUMBER.sub("#", _ID.sub("#", line))
    return re.sub(r"\s+", " ", _UNIT.sub("B", line)).strip()


def is_shown(shown: list[str], printed: list[str]) -> bool:
    """Tell whether lines have the shapes of those that a document shows; there, … stands for anything.

    A line that is … alone stands for any number of lines.
    """
    parts = []
    for line in shown:
        if line.strip() == "…":
            parts.append(r"(?:[^\n]*\n)*")
        else:
            parts.append(".*".join(re.escape(part) for part in shape(line).split("…")) + r"\n")
    text = "".join(shape(line) + "\n" for line in printed)
    return re.fullmatch("".join(parts), text) is not None


def run_block(block: Block, folder: Path) -> None:
    """Run a block's commands in a folder; each has to end well, the last with the block's status."""
    steps = steps_of(block)
    for number, step in enumerate(steps, 1):
        done = subprocess.run(
            ["bash", "-c", step.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment({"PATH": f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}"}),
            timeout=SECONDS,
            check=False,
        )
        status = block.status if number == len(steps) else 0
        assert done.returncode == status, f"{block.place}: {step.command}: status {done.returncode}\n{done.stdout}"
        if step.shown:
            printed = done.stdout.splitlines()
            assert is_shown(step.shown, printed), f"{block.place}: {step.command} printed\n{done.stdout}"


def make_programs(folder: Path) -> None:
    """Put ``python`` and the commands of the package into a folder, as they are installed elsewhere."""
    folder.mkdir()
    python = shlex.quote(sys.executable)
    programs = {"python": f'exec {python} "$@"\n'}
    for name, module in MODULES.items():
        code = f"import sys; from {module} import main; sys.argv[0] = {name!r}; main()"
        programs[name] = f'exec {python} -c {shlex.quote(code)} "$@"\n'
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}")
        (folder / name).chmod(0o755)
