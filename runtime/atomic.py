"""Files that are complete or not there: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when the block ends without an exception.

    An existing file keeps its contents until then. A symbolic link keeps pointing where it points. A device
    or a pipe is written directly.

    Args:
        path: where the file is to be.

    Yields:
        A binary file, readable and writable.

    Raises:
        OSError: the folder is missing or not writable, the disk is full, and the like.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    # Not tempfile: its files are private to the user, these shall have the permissions of any new file.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    except BaseException:  # KeyboardInterrupt too
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as a whole or not at all.

    Raises:
        OSError: as ``atomic_file``.
    """
    with atomic_file(path) as file:
        file.write(data)
