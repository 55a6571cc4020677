"""Options of the commands that build engines."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

import typer

from mlic.runtime.manifest import DEFAULT_SIZES, SizeRange


class Target(StrEnum):
    """What engines are built for."""

    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


def size_text(size: tuple[int, int]) -> str:
    """Return (height, width) as commands take it: ``768x512`` is 768 wide."""
    return f"{size[1]}x{size[0]}"


def size_from_text(text: str) -> tuple[int, int]:
    """Return (height, width) of ``WIDTHxHEIGHT``, or complain as typer does."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size; expected WIDTHxHEIGHT, such as {size_text(DEFAULT_SIZES.opt)}")
    return int(match[2]), int(match[1])


def sizes_from(least: str, usual: str, most: str) -> SizeRange:
    """Return the range that three options give, or complain as typer does."""
    sizes = SizeRange(size_from_text(least), size_from_text(usual), size_from_text(most))
    if problem := sizes.problem():
        raise typer.BadParameter(f"--min, --opt, --max: {problem}")
    return sizes


def _known_size(text: str) -> str:
    return size_text(size_from_text(text))


ENGINES = "Engines for GPUs"  # heading of --help
LEAST, USUAL, MOST = map(size_text, (DEFAULT_SIZES.min, DEFAULT_SIZES.opt, DEFAULT_SIZES.max))


def _size_option(name: str, help_text: str) -> Any:
    return typer.Option(name, metavar="WIDTHxHEIGHT", callback=_known_size, help=help_text, rich_help_panel=ENGINES)


MinSize = Annotated[str, _size_option("--min", "Smallest picture.")]
OptSize = Annotated[str, _size_option("--opt", "Picture that engines are tuned for.")]
MaxSize = Annotated[str, _size_option("--max", "Greatest width and height.")]
