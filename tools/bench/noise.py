"""Real files read by an engine with more and more noise: ``python -m mlic.tools.bench.noise BUNDLE PHOTO…``.

Noise is drawn from the differences of two engines, times a factor. Reports how many pictures come back, how many
indexes had to be corrected, and what share of the decoding checks and repair take.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import typer

from mlic.runtime import Codec
from mlic.runtime.arrays import Float32Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import EngineMismatchError
from mlic.runtime.image_files import read_image
from mlic.runtime.syndrome import SyndromeReader
from mlic.tools.agreement import known, require_scales, scales_of
from mlic.tools.console import print_json, reported_errors
from mlic.tools.engines.here import engines_here
from mlic.tools.engines.noisy import ChangedScales
from mlic.tools.noise import Noise

FACTORS = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def noise(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…")],
    engines: Annotated[tuple[str, str], typer.Option(help="Noise is what they differ by.")] = (
        "onnxruntime",
        "openvino",
    ),
    factors: Annotated[list[float] | None, typer.Option("--factor", help="Once for each.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Times that each picture is read, with other noise.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object a line.")] = False,
) -> None:
    """Measure."""
    with reported_errors("noise"):
        opened, starters = Bundle.open(bundle), engines_here()
        require_scales(opened, "noise")
        writer, other = (Codec(opened, starters[name]()) for name in engines)
        pixels = [read_image(path, writer.max_pixels).pixels for path in photos]
        pictures = [known(writer, one) for one in pixels]
        sides = (
            np.concatenate([step.reshape(-1) for picture in scales_of(codec, pictures) for step in picture])
            for codec in (writer, other)
        )
        source = Noise(*sides)
        files = [writer.encode(one) for one in pixels]
        latents = [writer.decode_latent(data) for data in files]
        count = sum(step.size for picture in pictures for step in picture.symbols)
        for factor in factors or FACTORS:
            row = measure(opened, starters[engines[0]](), source, factor, files, latents, repeat)
            row["flips_per_million"] = 1e6 * row["flips"] / max(1, row["read"] * count / len(files))
            if as_json:
                print_json(row)
            else:
                print(line(row), flush=True)


def measure(
    bundle: Bundle,
    backend: Any,
    source: Noise,
    factor: float,
    files: list[bytes],
    latents: list[Float32Array],
    repeat: int,
) -> dict[str, Any]:
    """Read every file several times.

    Args:
        bundle: the model.
        backend: the engine to which noise is added.
        source: of the noise.
        factor: of the noise.
        files: to be read.
        latents: what each file stands for.
        repeat: times that each is read.

    Returns:
        Counts; and medians, over the pictures that were read, of the share of the time to the latent that checks took,
        and, over those where something differed, of the share that repair took; in percent.
    """
    rng = np.random.default_rng(round(1000 * factor))

    def change(scales: Float32Array) -> Float32Array:
        return scales + np.float32(factor) * source.draw(rng, scales, scales.shape).astype(np.float32)

    changed = ChangedScales(backend, change if factor else lambda scales: scales)
    codec = Codec(bundle, changed)
    codec.decode(files[0]) if factor <= 1 else codec.open(encode=False)
    counts = {"factor": factor, "read": 0, "refused": 0, "wrong": 0, "flips": 0, "went_back": 0}
    checking, repairing = [], []
    for data, expected in [pair for pair in zip(files, latents, strict=True) for _ in range(repeat)]:
        changed.visits = 0
        with timed(SyndromeReader, "wrong_chunks") as checks, timed(SyndromeReader, "reading") as repairs:
            start = time.perf_counter()
            try:
                found = codec.inspect(data)
            except EngineMismatchError:
                counts["refused"] += 1
                continue
            elapsed = time.perf_counter() - start
        counts["wrong"] += not np.allclose(found.y_hat, expected, atol=1e-3)
        counts["read"] += 1
        counts["flips"] += len(found.changes)
        counts["went_back"] += changed.visits > len(bundle.manifest.steps)
        checking.append(100 * sum(checks) / elapsed)
        if found.changes:
            repairing.append(100 * sum(repairs) / elapsed)
    medians = {"checks_percent": checking, "repair_percent": repairing}
    return counts | {name: round(statistics.median(values or [0.0]), 3) for name, values in medians.items()}


@contextmanager
def timed(owner: type, name: str) -> Iterator[list[float]]:
    """Measure every call of a method while the block runs; yields the seconds."""
    seconds: list[float] = []
    method: Callable[..., Any] = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - start)

    with patch.object(owner, name, wrapper):
        yield seconds


def line(row: dict[str, Any]) -> str:
    """Return a row as a line of a table."""
    return (
        f"noise x{row['factor']:<4g} {row['flips_per_million']:7.2f} flips per million: {row['read']} read "
        f"({row['went_back']} of them after going back), {row['refused']} refused, {row['wrong']} wrong; "
        f"checks {row['checks_percent']:.2f} %, "
        f"repair where needed {row['repair_percent']:.2f} % of decoding to the latent"
    )


if __name__ == "__main__":
    app()
