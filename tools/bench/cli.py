"""``mlic-run bench``."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from mlic.runtime import Codec
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.backends import open_backend
from mlic.runtime.container import MAX_PIXELS
from mlic.tools.bench.stages import Benchmark, Timings, grouped, measure
from mlic.tools.bench.timed import TimedBackend
from mlic.tools.console import bytes_text, print_json, reported_errors
from mlic.tools.progress import progress_bar
from mlic.tools.run_options import BackendName, Json, Model, QualityName, Quiet, Threads

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_SIZE = "768x512"


def _size(text: str) -> str:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size; expected WIDTHxHEIGHT, such as {DEFAULT_SIZE}")
    if int(match[1]) * int(match[2]) > MAX_PIXELS:
        raise typer.BadParameter(f"{text} has more pixels than {MAX_PIXELS}")
    return text


def bench(
    size: Annotated[
        str | None,
        typer.Option(
            help=f"WIDTHxHEIGHT of the picture; default: that of --image, or {DEFAULT_SIZE}.",
            callback=lambda text: text and _size(text),
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="Picture to code; repeated or cut to --size; default: a made one.", show_default=False),
    ] = None,
    quality: QualityName = None,
    model: Model = None,
    backend: BackendName = "auto",
    threads: Threads = None,
    repeat: Annotated[int, typer.Option(min=1, help="Runs that count; one before them warms up.")] = 10,
    steps: Annotated[bool, typer.Option("--steps", help="Show every step of the chain in a row of its own.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how long encoding and decoding take, stage by stage."""
    with reported_errors("mlic-run bench", quiet):
        pixels = _picture(image, size)
        engine = TimedBackend(open_backend(backend, threads))
        codec = Codec.load(model, engine, quality=quality)
        with progress_bar(repeat + 1, quiet) as begin:
            result = measure(codec, engine, pixels, repeat, begin)
        if as_json:
            print_json({"model": codec.bundle.manifest.name} | result.as_json())
        elif not quiet:
            _show(codec.bundle.manifest.name, result, steps)


def _picture(image: Path | None, size: str | None) -> UInt8Array:
    """Return uint8 [H, W, 3]: a file's picture or a made one, mirrored over and over to fill a size."""
    if image is None:
        width, height = map(int, (size or DEFAULT_SIZE).split("x"))
        return made_picture(height, width)
    from mlic.runtime.image_files import read_image  # noqa: PLC0415 - loads Pillow

    pixels = read_image(image).pixels
    if size is None:
        return pixels
    width, height = map(int, size.split("x"))
    rows, columns = _mirrored(pixels.shape[0], height), _mirrored(pixels.shape[1], width)
    return np.ascontiguousarray(pixels[rows][:, columns])


def _mirrored(length: int, wanted: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return ``wanted`` indexes that run up and down 0..length-1."""
    there = np.arange(length)
    return np.resize(np.concatenate([there, there[::-1]]), wanted)


def made_picture(height: int, width: int) -> UInt8Array:
    """Return uint8 [height, width, 3] whose amplitudes fall as f^-1.2, about as those of photos; always the same."""
    rng = np.random.default_rng(1)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    planes = []
    for _ in range(3):
        noise = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
        plane = np.fft.irfft2(noise / frequency**1.2, s=(height, width))
        planes.append(plane / max(float(plane.std()), 1e-12))
    grey, *colours = planes
    image = np.stack([128 + 45 * grey + 12 * colour for colour in (colours[0], colours[1], -colours[0])], axis=-1)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _show(name: str, result: Benchmark, steps: bool) -> None:
    console = Console()
    print(f"{name} on {result.engine}")
    print(
        f"{result.width}x{result.height}, {bytes_text(result.num_bytes)}, "
        f"{8 * result.num_bytes / (result.width * result.height):.3f} bpp; "
        f"{len(result.encode.outside)} runs after one to warm up; peak memory {bytes_text(result.peak_bytes)}"
    )
    for job, timings in (("encode", result.encode), ("decode", result.decode)):
        table = Table(box=None, pad_edge=False)
        table.add_column(job, min_width=10)
        for heading in ("median ms", "min", "max", "share"):
            table.add_column(heading, justify="right")
        for row in _rows(timings, steps):
            table.add_row(*row)
        console.print(table)
        pixels = result.width * result.height
        print(
            f"{pixels / 1e3 / timings.median_ms():.2f} Mpixel/s, "
            f"coder {result.num_symbols / 1e3 / timings.median_ms('coder'):.1f} Msymbol/s, "
            f"outside the engine {100 * statistics.median(timings.outside):.1f} %"
        )


def _rows(timings: Timings, steps: bool) -> Iterator[tuple[str, str, str, str, str]]:
    groups = {name: [name] for name in timings.seconds} if steps else grouped(timings.seconds)
    total = timings.median_ms()
    for name, members in groups.items():
        values = [1000 * sum(run) for run in zip(*(timings.seconds[member] for member in members), strict=True)]
        label = f"{len(members)} steps" if name == "steps" else name
        median = statistics.median(values)
        yield label, f"{median:.1f}", f"{min(values):.1f}", f"{max(values):.1f}", f"{100 * median / total:.1f} %"
