"""Options that several commands of ``mlic-run`` take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mlic.runtime.backends import NAMES
from mlic.runtime.shipped import DEFAULT_QUALITY, QUALITIES


def known_engine(name: str) -> str:
    """Return the name of an engine, or complain as typer does."""
    if name not in NAMES:
        raise typer.BadParameter(f"{name!r} is unknown; possible: {', '.join(NAMES)}")
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


Model = Annotated[
    Path | None,
    typer.Option("--model", help="Bundle; default: the one of --quality that ships.", show_default=False),
]
FileModel = Annotated[
    Path | None,
    typer.Option("--model", help="Bundle; default: the one that ships and wrote the file.", show_default=False),
]
QualityName = Annotated[
    str | None,
    typer.Option(
        "--quality",
        help=f"Which of the models that ship: {', '.join(QUALITIES)}; default: {DEFAULT_QUALITY}.",
        callback=known_quality,
        show_default=False,
    ),
]
BackendName = Annotated[str, typer.Option(help=f"Engine: {', '.join(NAMES)}.", callback=known_engine)]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads; default: all. Not for engines on a GPU.", show_default=False),
]
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
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite the output.")]
Strip = Annotated[
    bool,
    typer.Option("--strip", help="Leave out EXIF and XMP; not the ICC profile, without which colours would change."),
]
Limit = Annotated[int, typer.Option(min=1, help="Refuse pictures of more pixels.")]
