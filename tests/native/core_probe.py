"""Asks ``runtime/native/tests/core_probe.cpp`` what the parts below the codec do."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mlic.runtime.errors import MlicError
from tests.native.programs import STATUSES

Sent = bytes | str | int | np.ndarray


class RefusedError(Exception):
    """The probe threw a ``Failure``."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Probe:
    """The running probe.

    Args:
        folder: of a build.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [str(folder / "tests/core_probe")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, name: str, *arguments: Sent) -> list[bytes]:
        """Make a request; integers go as 64 bits, arrays as their bytes.

        Raises:
            RefusedError: the probe threw.
        """
        assert self._process.stdin is not None
        blobs = [_blob(argument) for argument in arguments]
        parts = [_framed(name.encode()), struct.pack("<I", len(blobs)), *map(_framed, blobs)]
        self._process.stdin.write(b"".join(parts))
        self._process.stdin.flush()
        status, count = struct.unpack("<BI", self._take(5))
        answer = [self._take(*struct.unpack("<I", self._take(4))) for _ in range(count)]
        if status:
            raise RefusedError(status, answer[0].decode(errors="replace"))
        return answer

    def status(self, name: str, *arguments: Sent) -> int:
        """Make a request and return its status alone, 0 if all is well."""
        try:
            self.ask(name, *arguments)
        except RefusedError as error:
            return error.status
        return 0

    def close(self) -> None:
        """End the process, which looks for leaks then."""
        with self._process:
            pass
        assert self._process.returncode == 0

    def _take(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        assert len(data) == size, "the probe ended; its error output has the reason"
        return data


def files_of(folder: Path) -> list[bytes]:
    """Return names and contents in turn, as ``open_memory`` takes them."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [part for path in paths for part in (path.relative_to(folder).as_posix().encode(), path.read_bytes())]


def status_of(function: Callable[..., object], *arguments: object) -> int:
    """Return the status that stands for what a function of the Python runtime raises, 0 if nothing."""
    try:
        function(*arguments)
    except MlicError as error:
        return STATUSES[type(error)]
    return 0


def _blob(argument: Sent) -> bytes:
    if isinstance(argument, np.ndarray):
        return argument.tobytes()
    if isinstance(argument, int):
        return struct.pack("<Q", argument)
    return argument.encode() if isinstance(argument, str) else argument


def _framed(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data
