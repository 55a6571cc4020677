"""The files of a bundle: where they may lie, how large they may be, and what they may refer to.

A bundle may come from anybody. What is checked here is that reading it touches nothing outside its folder and needs
no more memory than it holds itself.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mlic.runtime.errors import BundleError, listed

MAX_GRAPH_BYTES = (1 << 31) - 1  # what protobuf, hence ONNX, can hold
MAX_ALL_BYTES = 1 << 33  # of all graphs together; full-size models have 0.4 GB

_BLOCK = 1 << 20
# An initialiser outside the file has an entry whose key, field 1 of 8 bytes, is `location`. Both numbers may be written
# in more bytes than they need. ONNX Runtime before 1.24 opens any path that it is given there.
_LOCATION = b"location"
_EXTERNAL = re.compile(
    rb"(?:\x0a|\x8a[\x80-\xff]{0,8}[\x00-\x7f])(?:\x08|\x88[\x80-\xff]{0,8}[\x00-\x7f])" + _LOCATION, re.DOTALL
)
_OVERLAP = 32  # bytes that the end of a block shares with the next, more than the expression matches


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; unlike ``open``, never wait for a pipe, and refuse devices.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file", os.fspath(path))
    return os.fdopen(descriptor, "rb")


def read_limited(where: str, folder: Path, path: str, limit: int) -> bytes:
    """Return the contents of a file of a bundle.

    Args:
        where: the bundle's name, for errors.
        folder: of the bundle.
        path: of the file in it.
        limit: largest size in bytes.

    Raises:
        BundleError: the path leads out of the folder, or the file is missing, no regular file, or larger.
    """
    require_inside(where, folder, [path])
    try:
        with open_regular(folder / path) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{where}: cannot read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise BundleError(f"{where}: {path} is larger than {limit} bytes")
    return data


def require_inside(where: str, folder: Path, paths: Iterable[str]) -> None:
    """Check that paths from a manifest stay in the folder, symbolic links included.

    Raises:
        BundleError: some do not; all of them in one text.
    """
    if outside := [path for path in paths if not _is_inside(folder, path)]:
        raise BundleError(f"{where}: paths lead out of the folder: {listed(outside, ', ')}")


def check_graph_files(where: str, folder: Path, files: Sequence[tuple[str, str]], every_byte: bool) -> None:
    """Check that all graphs are there, within limits, unchanged, and complete in themselves.

    Args:
        where: the bundle's name, for errors.
        folder: of the bundle.
        files: path and SHA-256 of each.
        every_byte: read them: compare hashes, and look for data outside the file.

    Raises:
        BundleError: problems of one kind are listed together.
    """
    paths = list(dict.fromkeys(path for path, _ in files))  # each file is read once, however often it is named
    require_inside(where, folder, paths)
    if other := [path for path in paths if not path.endswith(".onnx")]:
        # Engines take the suffix for the format; others than ONNX are not what this file has checked.
        raise BundleError(f"{where}: graphs have to be files .onnx: {listed(other, ', ')}")
    sizes = {path: _size_of(folder / path) for path in paths}
    if missing := [path for path, size in sizes.items() if size is None]:
        raise BundleError(f"{where}: missing {listed(missing, ', ')}")
    known = [size for size in sizes.values() if size is not None]
    if max(known) > MAX_GRAPH_BYTES or sum(known) > MAX_ALL_BYTES:
        raise BundleError(
            f"{where}: graphs of {max(known)} bytes, {sum(known)} in all; the limits are {MAX_GRAPH_BYTES} and "
            f"{MAX_ALL_BYTES}"
        )
    if not every_byte:
        return
    try:
        found = {path: _digest(folder / path) for path in paths}
    except OSError as error:
        raise BundleError(f"{where}: cannot read {error.filename}: {error.strerror}") from error
    if changed := [path for path, sha256 in files if found[path][0] != sha256]:
        raise BundleError(f"{where}: SHA-256 differs from the manifest's: {listed(changed, ', ')}")
    if referring := [path for path, (_, external) in found.items() if external]:
        raise BundleError(f"{where}: graphs keep weights in other files: {listed(referring, ', ')}")


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as lower-case hex.

    Raises:
        OSError: it cannot be read.
    """
    return _digest(path)[0]


def _digest(path: Path) -> tuple[str, bool]:
    """Return a file's SHA-256, and whether it may be an ONNX file that keeps data elsewhere."""
    digest, external, tail = hashlib.sha256(), False, b""
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            window = tail + block
            external = external or (_LOCATION in window and _EXTERNAL.search(window) is not None)
            tail = window[-_OVERLAP:]
    return digest.hexdigest(), external


def _is_inside(folder: Path, path: str) -> bool:
    pure = PurePosixPath(path)
    if not path or "\0" in path or "\\" in path or pure.is_absolute() or ".." in pure.parts:
        return False
    try:
        return (folder / path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, names that are too long or no text
        return False


def _size_of(path: Path) -> int | None:
    """Return a regular file's size, or None if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
