"""Options that several commands take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from mlic.runtime.choices import BACKENDS, DEFAULT_QUALITY, INTEGER, QUALITIES
from mlic.runtime.errors import BundleError
from mlic.runtime.shipped import bundle_path

# Headings of --help. What stands under neither is what a command is about.
MANY = "Many files"
ENGINE = "Engine and limits"
FLAG = " "  # instead of <bool>, which newer versions of typer write beside options that take no value


def completion(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what a shell completes an option with."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def list_completion(values: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the same for values that are separated by commas: each is named once."""

    def complete(incomplete: str) -> list[str]:
        named = incomplete.split(",")
        before = "".join(f"{name}," for name in named[:-1])
        return [f"{before}{value}" for value in values if value.startswith(named[-1]) and value not in named[:-1]]

    return complete


def bundle_completion(incomplete: str) -> list[str]:
    """Return what a shell completes a bundle with; with nothing, and it goes on with names of files."""
    is_begun = incomplete != "" and INTEGER.startswith(incomplete)
    return [INTEGER] if is_begun and not any(Path().glob(f"{incomplete}*")) else []


def known_engine(name: str) -> str:
    """Return the name of an engine, or complain as typer does."""
    if name not in BACKENDS:
        raise typer.BadParameter(f"{name!r} is unknown; possible: {', '.join(BACKENDS)}")
    return name


def known_quality(name: str | None) -> str | None:
    """Return the name of a quality, or None if none is named, or complain as typer does."""
    if name is not None and name not in QUALITIES:
        raise typer.BadParameter(f"{name!r} is unknown; possible: {', '.join(QUALITIES)}")
    return name


def region_from(text: str | None) -> tuple[int, int, int, int] | None:
    """Return x, y, width and height of a region, or None if none is named, or complain as typer does."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no region; expected X,Y,W,H, such as 0,0,640,480")
    x, y, width, height = map(int, match.groups())
    return x, y, width, height


def bundle_from(text: str) -> Path:
    """Return the folder of a bundle as users name it, or complain as typer does."""
    try:
        return bundle_path(text)
    except BundleError as error:
        raise typer.BadParameter(str(error)) from error


def _picture_formats(incomplete: str) -> list[str]:
    from mlic.runtime.image_files import WRITABLE_SUFFIXES  # noqa: PLC0415 - loads Pillow

    return [suffix[1:] for suffix in WRITABLE_SUFFIXES if suffix[1:].startswith(incomplete)]


Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="BUNDLE",
        parser=bundle_from,
        help=f"Folder that mlic-export made, or {INTEGER}, the integer model that ships; default: the model of "
        "--quality that ships.",
        autocompletion=bundle_completion,
        show_default=False,
    ),
]
FileModel = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="BUNDLE",
        parser=bundle_from,
        help=f"Folder that mlic-export made, or {INTEGER}; default: that of the models that ship which wrote the file.",
        autocompletion=bundle_completion,
        show_default=False,
    ),
]
QualityName = Annotated[
    str | None,
    typer.Option(
        "--quality",
        metavar="|".join(QUALITIES),
        help=f"Which of the models that ship; default: {DEFAULT_QUALITY}.",
        callback=known_quality,
        autocompletion=completion(QUALITIES),
        show_default=False,
    ),
]
BackendName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"What runs the graphs: {', '.join(BACKENDS)}.",
        callback=known_engine,
        autocompletion=completion(BACKENDS),
        rich_help_panel=ENGINE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="CPU threads; default: all. Not for engines on a GPU.",
        rich_help_panel=ENGINE,
        show_default=False,
    ),
]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="Refuse pictures of more pixels.", rich_help_panel=ENGINE)]
RegionText = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="X,Y,W,H",
        help="Decode this part only: left, top, width and height in pixels.",
        callback=lambda text: text if region_from(text) else None,
        show_default=False,
    ),
]
Compress = Annotated[
    bool,
    typer.Option(
        "--compress/--no-compress",
        metavar=FLAG,
        help="Store graphs as .onnx.gz: three quarters of the bytes where weights have 8 bits.",
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar=FLAG, help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar=FLAG, help="Print errors only.")]
Force = Annotated[bool, typer.Option("--force", "-f", metavar=FLAG, help="Overwrite the output, if there is one.")]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="File to write; for a folder or several inputs the folder, which is made if missing.",
        show_default=False,
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "-j",
        "--jobs",
        min=1,
        metavar="N",
        help="Files at once, in processes of --threads each; default: one a CPU, at most 16, with one thread.",
        rich_help_panel=MANY,
        show_default=False,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "-r",
        "--recursive",
        metavar=FLAG,
        help="Enter folders within folders; their structure is kept.",
        rich_help_panel=MANY,
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        metavar=FLAG,
        help="Skip files whose output is there and complete; do damaged ones again.",
        rich_help_panel=MANY,
    ),
]
KeepSuffix = Annotated[
    bool,
    typer.Option(
        "--keep-suffix", metavar=FLAG, help="Write a.png.mlic instead of a.mlic into folders.", rich_help_panel=MANY
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="SUFFIX",
        help="Format of pictures that OUT does not name, such as jpg; default: png.",
        autocompletion=_picture_formats,
        show_default=False,
    ),
]
Strip = Annotated[
    bool,
    typer.Option(
        "--strip",
        metavar=FLAG,
        help="Leave out EXIF and XMP; not the ICC profile, without which colours would change.",
    ),
]
