"""The files of a bundle: where they may lie, how large they may be, and what they may refer to.

A bundle may come from anybody. What is checked here is that reading it touches nothing outside its folder and needs
no more memory than it holds itself.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mlic.runtime.errors import BundleError, listed
from mlic.runtime.external_data import ExternalData
from mlic.runtime.gzip_file import FREE_BYTES, MAX_RATIO, most_unpacked, unpacked_size

MAX_GRAPH_BYTES = (1 << 31) - 1  # what protobuf, hence ONNX, can hold
MAX_ALL_BYTES = 1 << 33  # of all graphs together; full-size models have 0.4 GB
# Both hold for plain files, for compressed ones, and for what those unpack to.

SUFFIX, PACKED_SUFFIX = ".onnx", ".onnx.gz"

_BLOCK = 1 << 20


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

    Nothing is unpacked: what compressed graphs unpack to is bounded by what they name. They are looked at when they are
    opened (``graph_bytes.py``).

    Args:
        where: the bundle's name, for errors.
        folder: of the bundle.
        files: path and SHA-256 of each.
        every_byte: read them: compare hashes, and look for data outside plain files.

    Raises:
        BundleError: problems of one kind are listed together.
    """
    paths = list(dict.fromkeys(path for path, _ in files))  # each file is read once, however often it is named
    require_inside(where, folder, paths)
    if other := [path for path in paths if not path.endswith((SUFFIX, PACKED_SUFFIX))]:
        # Engines take the suffix for the format; others than ONNX are not what this file has checked.
        raise BundleError(f"{where}: graphs have to be files {SUFFIX} or {PACKED_SUFFIX}: {listed(other, ', ')}")
    sizes = {path: _size_of(folder / path) for path in paths}
    if missing := [path for path, size in sizes.items() if size is None]:
        raise BundleError(f"{where}: missing {listed(missing, ', ')}")
    found = {path: size for path, size in sizes.items() if size is not None}
    _require_small(where, found)
    try:
        if every_byte:
            _require_sound(where, folder, files, found)
        _require_small_unpacked(where, folder, found)
    except OSError as error:
        raise BundleError(f"{where}: cannot read {error.filename}: {error.strerror}") from error


def _require_small(where: str, sizes: Mapping[str, int]) -> None:
    largest, total = max(sizes.values()), sum(sizes.values())
    if largest > MAX_GRAPH_BYTES or total > MAX_ALL_BYTES:
        raise BundleError(
            f"{where}: graphs of {largest} bytes, {total} in all; the limits are {MAX_GRAPH_BYTES} and {MAX_ALL_BYTES}"
        )


def _require_sound(where: str, folder: Path, files: Sequence[tuple[str, str]], paths: Iterable[str]) -> None:
    external = {path: ExternalData() if path.endswith(SUFFIX) else None for path in paths}
    found = {path: _digest(folder / path, looking) for path, looking in external.items()}
    if changed := [path for path, sha256 in files if found[path] != sha256]:
        raise BundleError(f"{where}: SHA-256 differs from the manifest's: {listed(changed, ', ')}")
    if referring := [path for path, looking in external.items() if looking and looking.found]:
        raise BundleError(f"{where}: graphs keep weights in other files: {listed(referring, ', ')}")


def _require_small_unpacked(where: str, folder: Path, sizes: Mapping[str, int]) -> None:
    """Check what compressed graphs say that they unpack to, one by one and all together."""
    packed = [path for path in sizes if path.endswith(PACKED_SUFFIX)]
    if not packed:
        return
    named: dict[str, int | None] = {}
    for path in packed:
        with open_regular(folder / path) as file:
            named[path] = unpacked_size(file)
    if other := [path for path, size in named.items() if size is None]:
        raise BundleError(f"{where}: no gzip files: {listed(other, ', ')}")
    unpacked = {path: size for path, size in named.items() if size is not None}
    _require_small(where, {**sizes, **unpacked})
    large = [path for path, size in unpacked.items() if size > most_unpacked(sizes[path])]
    if not large and sum(unpacked.values()) > most_unpacked(sum(sizes[path] for path in packed)):
        large = packed
    if large:
        raise BundleError(
            f"{where}: graphs unpack to more than {FREE_BYTES} bytes + {MAX_RATIO} times their own: "
            f"{listed(large, ', ')}"
        )


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as lower-case hex.

    Raises:
        OSError: it cannot be read.
    """
    return _digest(path)


def _digest(path: Path, external: ExternalData | None = None) -> str:
    """Return a file's SHA-256, and give ``external`` its blocks."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if external is not None:
                external.add(block)
    return digest.hexdigest()


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
