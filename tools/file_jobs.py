"""One file of many: read, encode or decode, written, and what came of it."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from mlic.runtime import Codec
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.atomic import write_atomically
from mlic.runtime.choices import MAX_PIXELS
from mlic.runtime.container import read, read_header
from mlic.runtime.errors import ImageWarning, MlicError
from mlic.runtime.metadata import Metadata
from mlic.runtime.pipeline import Region
from mlic.runtime.shipped import bundle_for
from mlic.tools.console import error_text
from mlic.tools.folders import Job
from mlic.tools.stream_files import read_stream

HEADER_BYTES = 24

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Settings:
    """What all files of a run share; small, and sent to every worker.

    Attributes:
        command: ``encode`` or ``decode``.
        model: bundle; default: that of ``quality``, or the one that wrote the file.
        quality: of the models that ship.
        backend: engine.
        threads: of each worker; None for all.
        max_pixels: refuse larger pictures.
        strip: leave out EXIF and XMP.
        region: decode this part only.
        resume: skip files whose result is there and complete.
    """

    command: Literal["encode", "decode"]
    model: Path | None = None
    quality: str | None = None
    backend: str = "auto"
    threads: int | None = None
    max_pixels: int = MAX_PIXELS
    strip: bool = False
    region: Region | None = None
    resume: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes:
        source: that was read.
        target: that was written, or would have been.
        status: ``done``, ``skipped`` (the result was there) or ``failed``.
        width: of the picture, in pixels; 0 where it is not known.
        height: likewise.
        bytes_in: of the file that was read.
        bytes_out: of the result.
        seconds: for reading, coding and writing.
        error: one line, where it failed.
        warnings: one line each.
    """

    source: Path
    target: Path
    status: Status
    width: int = 0
    height: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    error: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def as_json(self, command: str) -> dict[str, Any]:
        """Return it ready for JSON, with the names that single files have."""
        coded = self.bytes_out if command == "encode" else self.bytes_in
        known = self.status != "failed"
        return {
            "source": str(self.source),
            "output": str(self.target),
            "status": self.status,
            "width": self.width if known else None,
            "height": self.height if known else None,
            "source_bytes": self.bytes_in if known else None,
            "bytes": self.bytes_out if known else None,
            "bpp": round(8 * coded / self.pixels, 4) if known else None,
            "seconds": round(self.seconds, 3),
            "error": self.error,
            "warnings": list(self.warnings),
        }


class Coder:
    """Encodes and decodes for one worker: each model is opened once, when it is first needed.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._codecs: dict[Path | None, Codec] = {}

    def encoder(self) -> Codec:
        """Return the codec that encodes.

        Raises:
            BundleError: the bundle is missing, incomplete or inconsistent.
            BackendError: the engine is unknown or not installed.
        """
        return self._codec(self.settings.model)

    def encode(self, source: Path | BinaryIO) -> tuple[bytes, int, int]:
        """Return the file of a picture, and its width and height.

        Raises:
            MlicError: as ``read_image`` and ``Codec.encode``.

        Warns:
            ImageWarning: something of the picture was given up.
        """
        from mlic.runtime.image_files import pillow_reads, read_image  # noqa: PLC0415 - loads Pillow

        with pillow_reads(self.settings.max_pixels):
            picture = read_image(source, self.settings.max_pixels)
        metadata = picture.metadata.stripped() if self.settings.strip else picture.metadata
        height, width = picture.pixels.shape[:2]
        return self.encoder().encode(picture.pixels, metadata), width, height

    def decode(self, data: bytes) -> tuple[UInt8Array, Metadata]:
        """Return the picture of a file, uint8 [H, W, 3], and what goes with it.

        Raises:
            MlicError: as ``container.read`` and ``Codec.decode``.
        """
        settings = self.settings
        stream = read(data, settings.max_pixels)
        codec = self._codec(settings.model or bundle_for(stream.model_id))
        pixels = codec.decode(data, region=settings.region)
        return pixels, stream.metadata.stripped() if settings.strip else stream.metadata

    def _codec(self, model: Path | None) -> Codec:
        if model not in self._codecs:
            settings = self.settings
            quality = settings.quality if model is None else None
            self._codecs[model] = Codec.load(model, settings.backend, settings.threads, settings.max_pixels, quality)
        return self._codecs[model]


class FileWorker:
    """Does one job after another; what goes wrong with one becomes its outcome.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: Settings) -> None:
        self._coder = Coder(settings)
        self._resume = settings.resume
        self._run, self._is_complete = (
            (self._encode, self._is_encoded) if settings.command == "encode" else (self._decode, self._is_decoded)
        )

    def __call__(self, job: Job) -> Outcome:
        """Do one job; never raises an ``Exception``."""
        start = time.perf_counter()
        with recorded_warnings(str(job.source)) as lines:
            try:
                outcome = (self._is_complete(job) if self._resume else None) or self._run(job)
            except Exception as error:  # a file that meets a bug of ours or of a library must not stop the others
                outcome = Outcome(job.source, job.target, "failed", error=failure_text(error, str(job.source)))
        return replace(outcome, seconds=time.perf_counter() - start, warnings=tuple(lines))

    def _encode(self, job: Job) -> Outcome:
        data, width, height = self._coder.encode(job.source)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(job.target, data)
        return Outcome(job.source, job.target, "done", width, height, job.source.stat().st_size, len(data))

    def _decode(self, job: Job) -> Outcome:
        from mlic.runtime.image_files import write_image  # noqa: PLC0415 - loads Pillow

        data = read_stream(job.source, self._coder.settings.max_pixels)
        pixels, metadata = self._coder.decode(data)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_image(job.target, pixels, metadata)
        height, width = pixels.shape[:2]
        return Outcome(job.source, job.target, "done", width, height, len(data), job.target.stat().st_size)

    def _is_encoded(self, job: Job) -> Outcome | None:
        """Return an outcome if the result is there, undamaged and of this model."""
        try:
            data = job.target.read_bytes()
            stream = read(data, self._coder.settings.max_pixels)
        except (MlicError, OSError):
            return None
        if stream.model_id != self._coder.encoder().bundle.manifest.model_id:
            return None
        size = job.source.stat().st_size
        return Outcome(job.source, job.target, "skipped", stream.width, stream.height, size, len(data))

    def _is_decoded(self, job: Job) -> Outcome | None:
        """Return an outcome if the result is a picture of the size that the file will give."""
        if not job.target.exists():
            return None
        from PIL import Image  # noqa: PLC0415 - Pillow only where it is needed

        with job.source.open("rb") as file:
            header = read_header(file.read(HEADER_BYTES), self._coder.settings.max_pixels)
        region = self._coder.settings.region
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(job.target) as image:
                image.load()
                size = image.size
        except Exception:  # whatever Pillow's readers raise, it is not complete
            return None
        if size != (region[2:] if region else (header.width, header.height)):
            return None
        sizes = job.source.stat().st_size, job.target.stat().st_size
        return Outcome(job.source, job.target, "skipped", *size, *sizes)


@contextmanager
def recorded_warnings(name: str) -> Iterator[list[str]]:
    """Collect what the block warns of, one line each, in the list that is yielded; complete when the block ended.

    Args:
        name: of the picture, put in front.
    """
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImageWarning)
        try:
            yield lines
        finally:
            lines += [f"{name}: {str(warning.message).removeprefix('the picture: ')}" for warning in caught]


def failure_text(error: BaseException, name: str) -> str:
    """Return an error as one line that begins with the name of the file.

    Args:
        error: whatever was raised.
        name: of the file.
    """
    text = error_text(error)
    if not isinstance(error, (MlicError, OSError, MemoryError)):
        text = f"{type(error).__name__}: {text}"
    return text if text.startswith(os.fspath(name)) else f"{name}: {text}"
