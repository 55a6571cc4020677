"""The page: the curves, the table, and every photo with a slider between two of its versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from mlic.runtime.version import VERSION
from mlic.tools.compare.contenders import PILLOW_CODECS
from mlic.tools.compare.summary import Versus
from mlic.tools.console import bytes_text


@dataclass(frozen=True)
class Version:
    """One picture that the slider can show.

    Attributes:
        label: in the menus.
        file: relative to the page.
        caption: its figures.
    """

    label: str
    file: str
    caption: str


@dataclass(frozen=True)
class Sheet:
    """One photo on the page.

    Attributes:
        name: its heading.
        width: in pixels.
        height: in pixels.
        versions: the original first.
        left: index of the version shown at first on the left.
        right: likewise on the right.
    """

    name: str
    width: int
    height: int
    versions: Sequence[Version]
    left: int
    right: int


def figures(num_bytes: int, bpp: float, psnr_db: float, ms_ssim: float | None) -> str:
    """Return a caption: size, rate, distances."""
    caption = f"{bytes_text(num_bytes)} · {bpp:.3f} bpp · {psnr_db:.2f} dB"
    return caption if ms_ssim is None else f"{caption} · MS-SSIM {ms_ssim:.4f}"


def write_page(path: Path, sheets: Sequence[Sheet], table: Sequence[Versus], qualities: Sequence[str]) -> None:
    """Write the page; its pictures and ``rd.svg`` lie beside it.

    Args:
        path: of the page.
        sheets: the photos.
        table: our models against each other codec.
        qualities: of ours.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mlic.tools.compare", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = _signed
    values: dict[str, Any] = {
        "sheets": sheets,
        "table": table,
        "qualities": qualities,
        "codecs": PILLOW_CODECS,
        "version": VERSION,
    }
    path.write_text(environment.get_template("page.html").render(values), encoding="utf-8")


def _signed(value: float | None, digits: int) -> str:
    """Return a number with its sign and a true minus, or a dash where there is none."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")  # noqa: RUF001 - it is typography
