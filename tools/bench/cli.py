"""``mlic-run bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlic.runtime.choices import MAX_PIXELS
from mlic.tools.build_options import size_from_text
from mlic.tools.console import print_json, reported_errors
from mlic.tools.run_options import FLAG, BackendName, Json, Model, QualityName, Quiet, Threads


def _known_size(text: str | None) -> str | None:
    if text is not None:
        height, width = size_from_text(text)
        if height * width > MAX_PIXELS:
            raise typer.BadParameter(f"{text} has more pixels than {MAX_PIXELS}")
    return text


def bench(
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Size of the picture; default: that of --image, or 768x512.",
            callback=_known_size,
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Picture to code; repeated or cut to --size; default: a made one.", show_default=False
        ),
    ] = None,
    quality: QualityName = None,
    model: Model = None,
    backend: BackendName = "auto",
    threads: Threads = None,
    repeat: Annotated[int, typer.Option(min=1, metavar="N", help="Runs that count; one before them warms up.")] = 10,
    steps: Annotated[
        bool, typer.Option("--steps", metavar=FLAG, help="Show every step of the chain in a row of its own.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how long encoding and decoding take, stage by stage."""
    with reported_errors("mlic-run bench", quiet):
        from mlic.runtime import Codec  # noqa: PLC0415 - see run_cli.py
        from mlic.runtime.backends import open_backend  # noqa: PLC0415
        from mlic.tools.bench.pictures import picture_from  # noqa: PLC0415
        from mlic.tools.bench.stages import measure  # noqa: PLC0415
        from mlic.tools.bench.tables import show  # noqa: PLC0415
        from mlic.tools.bench.timed import TimedBackend  # noqa: PLC0415
        from mlic.tools.progress import progress_bar  # noqa: PLC0415

        pixels = picture_from(image, None if size is None else size_from_text(size))
        engine = TimedBackend(open_backend(backend, threads))
        codec = Codec.load(model, engine, quality=quality)
        with progress_bar(repeat + 1, quiet) as begin:
            result = measure(codec, engine, pixels, repeat, begin)
        if as_json:
            print_json({"model": codec.bundle.manifest.name} | result.as_json())
        elif not quiet:
            show(codec.bundle.manifest.name, result, steps)
