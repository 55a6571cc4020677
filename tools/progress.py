"""Progress on a terminal, silence elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress_bar(total: int, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Show a bar on stderr while the block runs, if stderr is a terminal.

    Args:
        total: number of stages.
        quiet: show nothing.

    Yields:
        A function to call with the name of each stage as it begins.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not _is_shown(quiet), transient=True) as progress:
        task = progress.add_task("", total=total)
        started = False

        def begin(stage: str) -> None:
            nonlocal started
            progress.update(task, description=stage, advance=1 if started else 0)
            started = True

        yield begin


@contextmanager
def files_bar(total: int, quiet: bool = False) -> Iterator[Callable[[str, int], None]]:
    """Show how many files are done on stderr while the block runs, if stderr is a terminal.

    Args:
        total: number of files.
        quiet: show nothing.

    Yields:
        A function to call when a file is done, with its name and how many have failed so far.
    """
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}{task.description}", markup=False),
    )
    # Not stdout: rich would send to stderr what is meant for a pipe.
    with Progress(
        *columns, console=Console(stderr=True), disable=not _is_shown(quiet), transient=True, redirect_stdout=False
    ) as progress:
        task = progress.add_task("", total=total, failed="")

        def advance(name: str, failed: int) -> None:
            progress.update(task, description=name, advance=1, failed=f"{failed} failed  " if failed else "")

        yield advance


@contextmanager
def training_bar(quiet: bool = False) -> Iterator[Callable[[float, dict[str, float]], None]]:
    """Show how far a training run is on stderr while the block runs, if stderr is a terminal.

    Args:
        quiet: show nothing.

    Yields:
        A function to call after each step with the share done, 0..1, and with ``step``, ``loss``, ``bpp`` and
        ``psnr`` as far as known.
    """
    columns = (
        TextColumn("step {task.fields[step]:.0f}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[bpp]:.3f} bpp  {task.fields[psnr]:.2f} dB"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not _is_shown(quiet)) as progress:
        task = progress.add_task("", total=1.0, step=0, loss=math.nan, bpp=math.nan, psnr=math.nan)

        def show(share: float, values: dict[str, float]) -> None:
            fields: dict[str, Any] = dict(values)
            progress.update(task, completed=share, **fields)

        yield show


def _is_shown(quiet: bool) -> bool:
    # Not console.is_terminal: FORCE_COLOR makes it true in the log of a build.
    return not quiet and sys.stderr.isatty()
