"""Progress on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def progress_bar(total: int, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Show a bar on stderr while the block runs, if stderr is a terminal.

    Args:
        total: number of stages.
        quiet: show nothing.

    Yields:
        A function to call with the name of each stage as it begins.
    """
    # Not console.is_terminal: FORCE_COLOR makes it true in the log of a build.
    shown = not quiet and sys.stderr.isatty()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not shown, transient=True) as progress:
        task = progress.add_task("", total=total)
        started = False

        def begin(stage: str) -> None:
            nonlocal started
            progress.update(task, description=stage, advance=1 if started else 0)
            started = True

        yield begin
