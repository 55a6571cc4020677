"""What every command shares: one line for an error, results to stdout, the rest to stderr."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import typer

from mlic.runtime.errors import MlicError


@contextmanager
def reported_errors(command: str, quiet: bool = False) -> Iterator[None]:
    """Turn what goes wrong inside into one line on stderr and an exit status.

    1 for errors of ours and of the file system, 130 for Ctrl-C. Warnings become lines too, unless ``quiet``.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_args, **_kwargs: _show_warning(command, message, quiet)
            yield
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output went away, and knows why
        _give_up_stdout()
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        raise typer.Exit(130) from None
    except (MlicError, OSError, MemoryError) as error:
        print(f"{command}: {_text(error)}", file=sys.stderr)
        _give_up_stdout()
        raise typer.Exit(1) from None


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


def _text(error: BaseException) -> str:
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
