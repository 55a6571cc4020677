"""``mlic-run``: photos to ``.mlic`` files and back.

Commands import what they need when they run: shells ask this module for completions, and should not wait for numpy.
"""

from __future__ import annotations

import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer

from mlic.runtime.atomic import write_atomically
from mlic.runtime.choices import BACKENDS, INTEGER, MAX_PIXELS
from mlic.runtime.errors import ImageError, MlicError
from mlic.runtime.version import VERSION
from mlic.tools.bench.cli import bench
from mlic.tools.build_options import Target
from mlic.tools.compare.cli import compare
from mlic.tools.console import PIPE, bytes_text, named_stdout, print_json, reported_errors
from mlic.tools.run_options import (
    FLAG,
    BackendName,
    FileModel,
    Force,
    FormatName,
    Jobs,
    Json,
    KeepSuffix,
    Limit,
    Model,
    Output,
    QualityName,
    Quiet,
    Recursive,
    RegionText,
    Resume,
    Strip,
    Threads,
    bundle_completion,
    bundle_from,
    list_completion,
    region_from,
)

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Encode and decode photos with learned image codecs.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mlic {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", metavar=FLAG, callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Encode and decode photos with learned image codecs."""


@app.command()
def encode(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN [OUT]",
            help="A picture file and the file to write; default: IN with suffix .mlic. - is standard input or output. "
            "Or, with -o FOLDER, files and folders.",
        ),
    ],
    output: Output = None,
    jobs: Jobs = None,
    recursive: Recursive = False,
    resume: Resume = False,
    keep_suffix: KeepSuffix = False,
    quality: QualityName = None,
    model: Model = None,
    backend: BackendName = "auto",
    threads: Threads = None,
    max_pixels: Limit = MAX_PIXELS,
    strip: Strip = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compress a picture, or many.

    mlic-run encode photo.png photo.mlic
    mlic-run encode photo.png small.mlic --quality low
    mlic-run encode photos/ -o coded/ --recursive
    """
    with reported_errors("mlic-run encode", quiet):
        from mlic.runtime import Codec  # noqa: PLC0415
        from mlic.runtime.image_files import pillow_reads, read_image  # noqa: PLC0415
        from mlic.tools.progress import progress_bar  # noqa: PLC0415
        from mlic.tools.request import Request  # noqa: PLC0415

        asked = Request.of(paths, output, ".mlic", resume, force)
        if asked.is_many:
            from mlic.tools.batch import run_batch  # noqa: PLC0415
            from mlic.tools.file_jobs import Settings  # noqa: PLC0415

            settings = Settings("encode", model, quality, backend, threads, max_pixels, strip, resume=resume)
            run_batch(asked.plan(recursive, keep_suffix), settings, jobs, as_json, quiet)
            return
        source, target = asked.source, asked.target
        _require_free(source, target, force)
        with pillow_reads(max_pixels):
            picture = read_image(sys.stdin.buffer if source == PIPE else source, max_pixels)
        metadata = picture.metadata.stripped() if strip else picture.metadata
        source_bytes = None if source == PIPE else source.stat().st_size
        codec = Codec.load(model, backend, threads, max_pixels, quality)
        start = time.perf_counter()
        height, width = picture.pixels.shape[:2]
        with progress_bar(codec.num_encode_stages(height, width), quiet) as begin:
            data = codec.encode(picture.pixels, metadata, progress=begin)
        seconds = time.perf_counter() - start
        _write(target, data)
        row = {
            "output": str(target),
            "width": width,
            "height": height,
            "bytes": len(data),
            "bpp": round(8 * len(data) / (width * height), 4),
            "ratio": round(3 * width * height / len(data), 2),
            "source_bytes": source_bytes,
            "seconds": round(seconds, 3),
            "model_id": codec.bundle.manifest.model_id.hex(),
        }
        _report(
            row,
            f"{target}: {width}x{height}, {bytes_text(len(data))}, {row['bpp']:.4f} bpp, "
            f"{row['ratio']:.1f}:1 of 24-bit pixels, {seconds:.2f} s",
            target,
            as_json,
            quiet,
        )


@app.command()
def decode(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN [OUT]",
            help="A .mlic file and the picture file to write, whose suffix names the format; default: IN with suffix "
            ".png. - is standard input or output. Or, with -o FOLDER, files and folders.",
        ),
    ],
    output: Output = None,
    jobs: Jobs = None,
    recursive: Recursive = False,
    resume: Resume = False,
    keep_suffix: KeepSuffix = False,
    picture_format: FormatName = None,
    model: FileModel = None,
    backend: BackendName = "auto",
    threads: Threads = None,
    region: RegionText = None,
    max_pixels: Limit = MAX_PIXELS,
    strip: Strip = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decompress a .mlic file, or many.

    mlic-run decode photo.mlic photo.png
    mlic-run decode coded/ -o decoded/ --recursive --format jpg
    """
    with reported_errors("mlic-run decode", quiet):
        from mlic.runtime import Codec  # noqa: PLC0415
        from mlic.runtime.container import read  # noqa: PLC0415
        from mlic.runtime.image_files import require_writable, write_image  # noqa: PLC0415
        from mlic.tools.progress import progress_bar  # noqa: PLC0415
        from mlic.tools.request import Request  # noqa: PLC0415
        from mlic.tools.stream_files import read_stream  # noqa: PLC0415

        suffix = f".{(picture_format or 'png').removeprefix('.')}"
        asked = Request.of(paths, output, suffix, resume, force)
        part = region_from(region)
        target = asked.target
        written = suffix if asked.to_folder or target == PIPE else target.suffix
        if asked.is_many or target != PIPE:
            require_writable(str(target), written)  # before the work, not after it
        if picture_format is not None and written.lower() != suffix.lower():
            raise ImageError(f"{target}: --format {picture_format} says another format; leave it out")
        if asked.is_many:
            from mlic.tools.batch import run_batch  # noqa: PLC0415
            from mlic.tools.file_jobs import Settings  # noqa: PLC0415

            settings = Settings("decode", model, None, backend, threads, max_pixels, strip, part, resume)
            run_batch(asked.plan(recursive, keep_suffix), settings, jobs, as_json, quiet)
            return
        source = asked.source
        _require_free(source, target, force)
        data = read_stream(source, max_pixels)
        stream = read(data, max_pixels)
        metadata = stream.metadata.stripped() if strip else stream.metadata
        if model is None:
            codec = Codec.load_for(data, backend, threads, max_pixels)
        else:
            codec = Codec.load(model, backend, threads, max_pixels)
        start = time.perf_counter()
        with progress_bar(codec.num_decode_stages(stream, part), quiet) as begin:
            pixels = codec.decode(data, begin, part)
        seconds = time.perf_counter() - start
        if target == PIPE:
            buffer = BytesIO()
            write_image(buffer, pixels, metadata, suffix)
            _write(PIPE, buffer.getvalue())
        else:
            write_image(target, pixels, metadata)
        height, width = pixels.shape[:2]
        row = {"output": str(target), "width": width, "height": height, "seconds": round(seconds, 3)}
        _report(row, f"{target}: {width}x{height}, {seconds:.2f} s", target, as_json, quiet)


@app.command()
def info(
    source: Annotated[Path, typer.Argument(metavar="FILE", help=".mlic file, or - for standard input.")],
    max_pixels: Limit = MAX_PIXELS,
    as_json: Json = False,
) -> None:
    """Show what a .mlic file holds, without decoding it."""
    with reported_errors("mlic-run info"):
        from mlic.tools.describe import description, value_text  # noqa: PLC0415
        from mlic.tools.stream_files import read_stream  # noqa: PLC0415

        row = description(read_stream(source, max_pixels), max_pixels)
        width = max(len(key) for key in row)
        with named_stdout():
            if as_json:
                print_json(row)
            else:
                print("\n".join(f"{key:<{width}}  {value_text(value)}" for key, value in row.items()))


@app.command()
def verify(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            metavar="BUNDLE",
            parser=bundle_from,
            help=f"Folder that mlic-export made, or {INTEGER}, the integer model that ships; default: the model of "
            "--quality that ships.",
            autocompletion=bundle_completion,
            show_default=False,
        ),
    ] = None,
    quality: QualityName = None,
    engines: Annotated[
        str | None,
        typer.Option(
            "--engines",
            metavar="all|NAME,NAME…",
            help="Let these engines read each other's files too, and say how far they agree.",
            autocompletion=list_completion(("all", *BACKENDS[1:])),
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--image", metavar="FILE", help="Picture for --engines; once for each. Default: a made one of 768x512."
        ),
    ] = None,
    target: Annotated[
        Target | None,
        typer.Option("--target", help="Build every graph for this too, and say what is refused.", show_default=False),
    ] = None,
    backend: BackendName = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check a bundle: its files, that every graph loads and runs, and that what it encodes comes back."""
    with reported_errors("mlic-run verify", quiet):
        from mlic.runtime import Codec  # noqa: PLC0415
        from mlic.tools.progress import progress_bar  # noqa: PLC0415
        from mlic.tools.verify import num_stages, pictures_from, starters_from, verify_bundle  # noqa: PLC0415

        starters = starters_from(engines, threads)
        pictures = pictures_from(images or []) if starters else []
        codec = Codec.load(bundle, backend, threads, quality=quality)
        with progress_bar(num_stages(codec, len(starters), target), quiet) as begin:
            result = verify_bundle(codec, begin, starters, pictures, target)
        if as_json:
            print_json(result.as_json())
        elif not quiet:
            print(result.as_text())
        if not result.passed:
            raise MlicError(f"bundle {codec.bundle.manifest.name}: {result.problem()}")


def _require_free(source: Path, target: Path, force: bool) -> None:
    if target == PIPE:
        if sys.stdout.isatty():
            raise ImageError("standard output is a terminal; name a file, or pipe the output on")
    elif target.is_dir():
        raise ImageError(f"{target} is a folder; name a file")
    elif not target.parent.is_dir():
        raise ImageError(f"{target.parent}: no such folder; make it first")
    elif source != PIPE and source.exists() and target.exists() and source.samefile(target):
        raise ImageError(f"{target} is the input, under this or another name; name another file")
    elif target.is_file() and not force:
        raise ImageError(f"{target} exists; name another file, or --force")


def _write(target: Path, data: bytes) -> None:
    if target == PIPE:
        with named_stdout():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    else:
        write_atomically(target, data)


def _report(row: dict[str, Any], text: str, target: Path, as_json: bool, quiet: bool) -> None:
    """Print a result; to stderr where stdout carries the data."""
    file = sys.stderr if target == PIPE else sys.stdout
    if as_json:
        print_json(row, file)
    elif not quiet:
        print(text, file=file)


app.command()(compare)
app.command()(bench)


def main() -> None:
    """Run the command line."""
    app()
