"""``mlic-run``: photos to ``.mlic`` files and back."""

from __future__ import annotations

import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer

from mlic.runtime import Codec
from mlic.runtime.atomic import write_atomically
from mlic.runtime.container import MAX_PIXELS
from mlic.runtime.errors import ImageError, MlicError, UnsupportedStreamError
from mlic.runtime.version import VERSION
from mlic.tools.bench.cli import bench
from mlic.tools.build_options import Target
from mlic.tools.compare.cli import compare
from mlic.tools.console import bytes_text, print_json, reported_errors
from mlic.tools.progress import progress_bar
from mlic.tools.run_options import (
    BackendName,
    FileModel,
    Force,
    Json,
    Limit,
    Model,
    QualityName,
    Quiet,
    RegionText,
    Strip,
    Threads,
    region_from,
)

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Encode and decode photos with learned image codecs.",
)

PIPE = Path("-")
# Largest .mlic file that is read: noise takes some 4 bytes a pixel.
MAX_FILE_BYTES = 1 << 26
MAX_FILE_BYTES_A_PIXEL = 8


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mlic {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Encode and decode photos with learned image codecs."""


@app.command()
def encode(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Picture file, or - for standard input.")],
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT",
            help="File to write, or - for standard output; default: IN with suffix .mlic.",
            show_default=False,
        ),
    ] = None,
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
    """Compress a picture."""
    with reported_errors("mlic-run encode", quiet):
        from mlic.runtime.image_files import pillow_reads, read_image  # noqa: PLC0415 - loads Pillow

        target = output or _default_target(source, ".mlic")
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
    source: Annotated[Path, typer.Argument(metavar="IN", help=".mlic file, or - for standard input.")],
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT",
            help="Picture file, its suffix names the format; or - for PNG on standard output; "
            "default: IN with suffix .png.",
            show_default=False,
        ),
    ] = None,
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
    """Decompress a .mlic file."""
    with reported_errors("mlic-run decode", quiet):
        from mlic.runtime.container import read  # noqa: PLC0415
        from mlic.runtime.image_files import require_writable, write_image  # noqa: PLC0415 - loads Pillow

        target = output or _default_target(source, ".png")
        _require_free(source, target, force)
        if target != PIPE:
            require_writable(str(target), target.suffix)  # before the work, not after it
        data = _read(source, max_pixels)
        stream = read(data, max_pixels)
        metadata = stream.metadata.stripped() if strip else stream.metadata
        if model is None:
            codec = Codec.load_for(data, backend, threads, max_pixels)
        else:
            codec = Codec.load(model, backend, threads, max_pixels)
        start = time.perf_counter()
        part = region_from(region)
        with progress_bar(codec.num_decode_stages(stream, part), quiet) as begin:
            pixels = codec.decode(data, begin, part)
        seconds = time.perf_counter() - start
        if target == PIPE:
            buffer = BytesIO()
            write_image(buffer, pixels, metadata)
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

        row = description(_read(source, max_pixels), max_pixels)
        if as_json:
            print_json(row)
        else:
            width = max(len(key) for key in row)
            for key, value in row.items():
                print(f"{key:<{width}}  {value_text(value)}")


@app.command()
def verify(
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="Bundle; default: the one of --quality that ships.", show_default=False),
    ] = None,
    quality: QualityName = None,
    engines: Annotated[
        str | None,
        typer.Option(
            "--engines",
            metavar="all|NAME,NAME…",
            help="Let these engines read each other's files too, and say how far they agree.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--image", help="Picture for --engines; once for each. Default: a made one of 768x512."),
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


def _default_target(source: Path, suffix: str) -> Path:
    if source == PIPE:
        return PIPE
    if source.is_dir():
        raise ImageError(f"{source} is a folder; name a file")
    return source.with_suffix(suffix)


def _require_free(source: Path, target: Path, force: bool) -> None:
    if target == PIPE:
        if sys.stdout.isatty():
            raise ImageError("standard output is a terminal; name a file, or pipe the output on")
    elif target.is_dir():
        raise ImageError(f"{target} is a folder; name a file")
    elif not target.parent.is_dir():
        raise ImageError(f"{target.parent}: no such folder")
    elif source != PIPE and source.exists() and target.exists() and source.samefile(target):
        raise ImageError(f"{target} is the input, under this or another name; name another file")
    elif target.is_file() and not force:
        raise ImageError(f"{target} exists; name another file, or --force")


def _read(source: Path, max_pixels: int) -> bytes:
    """Return a file's contents, or as much of them as tells that they are too large."""
    limit = MAX_FILE_BYTES + MAX_FILE_BYTES_A_PIXEL * max_pixels
    if source == PIPE:
        data = sys.stdin.buffer.read(limit + 1)
    else:
        with source.open("rb") as file:
            data = file.read(limit + 1)
    if len(data) > limit:
        raise UnsupportedStreamError(f"the file is larger than {limit} bytes, the limit for {max_pixels} pixels")
    return data


def _write(target: Path, data: bytes) -> None:
    if target == PIPE:
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
