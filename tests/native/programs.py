"""Builds ``runtime/native`` for the tests, and talks to the programs that come of it.

Builds lie in ``build/native`` and are brought up to date by every run.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.errors import (
    BackendError,
    BundleError,
    CorruptStreamError,
    EngineMismatchError,
    ImageError,
    MlicError,
    ShapeError,
    TruncatedStreamError,
    UnsupportedStreamError,
)
from mlic.runtime.metadata import Metadata
from mlic.tools.engines import native
from mlic.tools.engines.debian import SetupError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "runtime/native"
BUILD = ROOT / "build/native"

# mlic.h's values and the exceptions that mean the same
STATUSES: dict[type[MlicError] | None, int] = {
    None: 0,
    ShapeError: 10,
    ImageError: 10,
    TruncatedStreamError: 20,
    CorruptStreamError: 21,
    UnsupportedStreamError: 22,
    BundleError: 30,
    BackendError: 41,
    EngineMismatchError: 42,
}


@cache
def library() -> Path:
    """Return ONNX Runtime's library, the one that the Python runtime uses here."""
    try:
        return native.library()
    except SetupError as error:
        pytest.skip(str(error))


def require_tools() -> None:
    """Skip the test where nothing can be built: `make native` fetches what it needs."""
    if missing := [tool for tool in ("cmake", "cc", "c++", "pkg-config") if not shutil.which(tool)]:
        pytest.skip(f"no {', '.join(missing)}")
    if "ONNXRUNTIME_ROOT" not in os.environ and not native.has_headers(ROOT / native.FOLDER):
        pytest.skip("no headers of ONNX Runtime; `make native` fetches them")


@cache
def build(sanitized: bool) -> Path:
    """Build the library and the programs of the tests.

    Args:
        sanitized: with AddressSanitizer and UndefinedBehaviorSanitizer, and assertions.

    Returns:
        The folder of the build.
    """
    require_tools()
    folder = BUILD / ("sanitized" if sanitized else "release")
    options = ["-DMLIC_TESTS=ON", "-DMLIC_WERROR=ON"]
    if sanitized:
        options += ["-DMLIC_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS=-O1"]
    if "ONNXRUNTIME_ROOT" not in os.environ:
        options.append(f"-DONNXRUNTIME_ROOT={ROOT / native.FOLDER}")
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:  # another worker may be building the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        run("cmake", "-S", SOURCE, "-B", folder, *options)
        run("cmake", "--build", folder, "--parallel", os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", "2"))
    return folder


def run(*line: object, variables: dict[str, str] | None = None) -> str:
    """Run a command that has to succeed, and return its output."""
    done = subprocess.run(
        [str(word) for word in line],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, **(variables or {})},
    )
    assert done.returncode == 0, f"{' '.join(map(str, line))}\n{done.stdout}"
    return done.stdout


class Driver:
    """``runtime/native/tests/driver.cpp``, running: the library through its C functions, in another process.

    Args:
        folder: of a build.
        work: files go there.
        variables: of the environment, beside those that are set; None takes one away.
    """

    def __init__(self, folder: Path, work: Path, variables: dict[str, str | None] | None = None) -> None:
        self._work = work
        merged = {**os.environ, **(variables or {})}
        self._process = subprocess.Popen(
            [str(folder / "tests/driver")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in merged.items() if value is not None},
        )

    def ask(self, *words: object) -> tuple[int, str]:
        """Run a command and return status and text of the last error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"{words}: the program ended; its error output has the reason"
        status, _, text = answer.rstrip("\n").partition("\t")
        return int(status), text

    def do(self, *words: object) -> None:
        """Run a command that has to succeed."""
        assert self.ask(*words) == (0, "")

    def open(
        self,
        codec: str,
        bundle: Path,
        threads: int = 1,
        engine: Path | None = None,
        tile_pixels: int = 0,
        latent_pixels: int = 0,
        max_pixels: int = 0,
        cache: Path | str = "",
    ) -> str:
        """Open a bundle and return ``codec``, by which it goes from now on."""
        limits = (tile_pixels, latent_pixels, max_pixels)
        self.do("open", codec, bundle, engine or library(), threads, *limits, cache)
        return codec

    def encode(self, codec: str, pixels: UInt8Array) -> bytes:
        """Return the file of a picture."""
        height, width, _ = pixels.shape
        (self._work / "pixels").write_bytes(pixels.tobytes())
        self.do("encode", codec, self._work / "pixels", width, height, self._work / "file")
        return (self._work / "file").read_bytes()

    def encode_with(self, codec: str, pixels: UInt8Array, metadata: Metadata) -> bytes:
        """Return the file of a picture, uint8 [H, W, 3] or [H, W], and what goes with it."""
        assert self.try_to_encode_with(codec, pixels, metadata) == (0, "")
        return (self._work / "file").read_bytes()

    def try_to_encode_with(self, codec: str, pixels: UInt8Array, metadata: Metadata) -> tuple[int, str]:
        """Encode a picture and return status and text of the last error."""
        (self._work / "pixels").write_bytes(pixels.tobytes())
        paths = []
        for name in ("icc_profile", "exif", "xmp"):
            part = getattr(metadata, name)
            if part is not None:
                (self._work / name).write_bytes(part)
            paths.append("-" if part is None else self._work / name)
        height, width = pixels.shape[:2]
        channels, source = (3 if pixels.ndim == 3 else 1), int(metadata.source)
        picture, file = self._work / "pixels", self._work / "file"
        return self.ask("encode-with", codec, picture, width, height, file, channels, source, *paths)

    def region(self, codec: str, data: bytes, region: tuple[int, int, int, int]) -> UInt8Array:
        """Return a part of the picture of a file."""
        assert self.try_region(codec, data, region) == (0, "")
        return np.frombuffer((self._work / "pixels").read_bytes(), np.uint8).reshape(region[3], region[2], 3)

    def try_region(self, codec: str, data: bytes, region: tuple[int, int, int, int]) -> tuple[int, str]:
        """Decode a part of the picture of a file and return status and text of the last error."""
        (self._work / "file").write_bytes(data)
        return self.ask("region", codec, self._work / "file", self._work / "pixels", *region)

    def info(self, data: bytes) -> list[int]:
        """Return width, height, flags of the source, sides of cells, sizes of the metadata, and arithmetic."""
        (self._work / "file").write_bytes(data)
        self.do("info", self._work / "file", self._work / "info")
        return [int(word) for word in (self._work / "info").read_text().split()]

    def metadata(self, data: bytes) -> list[bytes]:
        """Return colour profile, EXIF and XMP of a file, empty where it has none."""
        (self._work / "file").write_bytes(data)
        paths = [self._work / name for name in ("icc_profile", "exif", "xmp")]
        self.do("metadata", self._work / "file", *paths)
        return [path.read_bytes() for path in paths]

    def decode(self, codec: str, data: bytes, shape: tuple[int, ...]) -> UInt8Array:
        """Return the picture of a file."""
        assert self.try_to_decode(codec, data) == (0, "")
        return np.frombuffer((self._work / "pixels").read_bytes(), np.uint8).reshape(shape)

    def try_to_decode(self, codec: str, data: bytes) -> tuple[int, str]:
        """Decode a file and return status and text of the last error."""
        (self._work / "file").write_bytes(data)
        return self.ask("decode", codec, self._work / "file", self._work / "pixels")

    def close(self) -> None:
        """End the process, which looks for leaks then."""
        with self._process:  # closes the pipes and waits
            pass
        assert self._process.returncode == 0
