"""What every command shares: one line for an error, results to stdout, the rest to stderr."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import typer

from mlic.runtime.errors import MlicError

PIPE = Path("-")
_ENDING = ("SIGTERM", "SIGHUP")  # what others end a process with; Ctrl-C is Python's own matter


class EndedError(BaseException):
    """A signal asked the process to end; like KeyboardInterrupt, nothing that handles errors takes it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def reported_errors(command: str, quiet: bool = False) -> Iterator[None]:
    """Turn what goes wrong inside into one line on stderr and an exit status.

    1 for errors of ours and of the file system, 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP. Warnings become lines
    too, unless ``quiet``.
    """
    open_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    try:
        with warnings.catch_warnings(), _ending_signals():
            warnings.showwarning = lambda message, *_args, **_kwargs: _show_warning(command, message, quiet)
            yield
            with named_stdout():
                sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output went away, and knows why
        _give_up_stdout()
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        raise typer.Exit(130) from None
    except EndedError as error:
        print(f"{command}: ended by {error}", file=sys.stderr)
        raise typer.Exit(128 + error.number) from None
    except (MlicError, OSError, MemoryError) as error:
        print(f"{command}: {error_text(error)}", file=sys.stderr)
        _give_up_stdout()
        raise typer.Exit(1) from None


@contextmanager
def named_stdout() -> Iterator[None]:
    """Let errors of writing to stdout, which know no name, say where it was."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


def open_streams() -> None:
    """Put something in the place of streams that the caller of this process closed.

    Python has None there, and the next file that is opened gets the free number: what a library prints would end up in
    it. Reading from what was closed, and writing to a closed stdout, fail with one line as for any other broken file;
    what is written to a closed stderr is lost.
    """
    for name, flags, mode in (("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)  # the lowest free number, which is the stream's own
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


@contextmanager
def _ending_signals() -> Iterator[None]:
    """Let the signals that end a process unwind it first, so that what is half made is cleared away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    changed = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores some
    try:
        for number in changed:
            signal.signal(number, _end)
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def _end(number: int, _frame: FrameType | None) -> None:
    raise EndedError(number)


def _give_up_stdout() -> None:
    """Write what is left, or, if that fails, nowhere: Python would try again at exit, with a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _show_warning(command: str, message: Warning | str, quiet: bool) -> None:
    if not quiet:
        print(f"{command}: warning: {message}", file=sys.stderr)


def error_text(error: BaseException) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def print_json(value: Any, file: TextIO | None = None) -> None:
    """Print one JSON object on one line to ``file``; default: stdout."""
    print(json.dumps(value), file=file)


def bytes_text(size: int) -> str:
    """Return a size with its unit: ``999 B``, ``12.3 kB``, ``4.5 MB``."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"
