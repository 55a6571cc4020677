"""What is said where an extra is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

# First and by exact version: pip's other ways to it fetch gigabytes of CUDA libraries.
TORCH = "pip install torch==2.13.0"


def install_command(*extras: str) -> str:
    """Return what to type for ``extras``; ``export`` begins with PyTorch, where that is missing."""
    command = f"pip install 'mlic-deploy[{','.join(extras)}]'"
    return f"{TORCH} && {command}" if "export" in extras and find_spec("torch") is None else command


@contextmanager
def required(command: str, *extras: str) -> Iterator[None]:
    """End the process with one line and status 1 where what the block imports is missing.

    Args:
        command: that needs it.
        extras: of this package that bring it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise SystemExit(f"{command}: cannot import {error.name}: {install_command(*extras)}") from None
