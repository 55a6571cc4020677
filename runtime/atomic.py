"""Files and folders that are complete or not there: made under a temporary name in the same folder, then renamed.

A process that is killed outright leaves the temporary name, ``.NAME.….tmp``, which nothing reads and which may be
deleted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
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
        OSError: the folder is missing or not writable, the disk is full, and the like; it names ``path``.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        try:
            with target.open("wb") as file:
                yield file
        except OSError as error:
            error.filename = error.filename or os.fspath(path)
            raise
        return
    # Not tempfile: its files are private to the user, these shall have the permissions of any new file.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
            _reach_the_disk(file)
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    except BaseException as error:  # KeyboardInterrupt too
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, os.fspath(temporary)):
            error.filename = os.fspath(path)  # the name that the user knows
        raise


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as a whole or not at all.

    Raises:
        OSError: as ``atomic_file``.
    """
    with atomic_file(path) as file:
        file.write(data)


def replace_folder(target: Path, work: Path) -> None:
    """Give the folder ``work`` the name ``target``; a folder of that name goes only when the new one is in its place.

    Killed between the two renames, a process leaves the old one under ``work``'s name with ``.before`` behind it.

    Raises:
        OSError: it cannot be renamed; ``target`` is as it was.
    """
    before = work.with_name(f"{work.name}.before")
    try:
        if target.exists():
            target.rename(before)
        work.rename(target)
    except BaseException:
        if before.exists() and not target.exists():
            before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _reach_the_disk(file: BinaryIO) -> None:
    """Wait until a file's contents are on the disk.

    File systems may write the new name before the contents. After a loss of power the file would be there, empty, and
    its original perhaps deleted because it was there. The folder is not waited for: an entry that did not reach the
    disk is a file that is not there, which is allowed.
    """
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):  # the file system has no such thing
            raise
