"""Which precision and which arithmetic to export: bundles side by side: ``python -m mlic.tools.bench.precision``.

Each row is a precision on an engine, with one bundle or several of rising quality; the first row is what the others are
compared with. Rate and PSNR are those of files encoded and decoded by the row alone. Times are of the first photo and
each row's first bundle; rows take turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from mlic.runtime import Codec
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.backends import open_backend
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import MlicError
from mlic.tools.bench.timed import TimedBackend
from mlic.tools.console import print_json, reported_errors
from mlic.tools.extras import required
from mlic.tools.quality import psnr

with required("precision", "report", "cpu"):
    from mlic.tools.compare.report import photo_paths
    from mlic.tools.compare.summary import bd_rate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

PAUSE_S = 0.3  # lets one engine's threads go to sleep before the other's turn
STAGES = ("g_a", "g_s", "chain", "encode", "decode")
TRANSFORMS = ("g_a", "h_a", "g_s")


@dataclass
class Row:
    """A precision on an engine.

    Attributes:
        title: for people.
        engine: as ``open_backend`` takes it.
        bundles: folders, of rising quality.
        bpp: of each bundle and photo.
        psnr_db: likewise.
        milliseconds: of each counted run, by stage.
    """

    title: str
    engine: str
    bundles: list[Path]
    bpp: list[list[float]] = field(default_factory=list)
    psnr_db: list[list[float]] = field(default_factory=list)
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    @property
    def transform_bytes(self) -> int:
        """Size of the files of g_a and g_s that the first bundle's plain forms take."""
        opened = Bundle.open(self.bundles[0], verify_hashes=False)
        return sum(opened.path_of(opened.manifest.graphs[graph]).stat().st_size for graph in ("g_a", "g_s"))


def row_from(text: str) -> Row:
    """Parse ``TITLE=ENGINE:BUNDLE[,BUNDLE...]``.

    Raises:
        MlicError: the text has another form.
    """
    title, equals, rest = text.partition("=")
    engine, colon, bundles = rest.partition(":")
    if not (title and equals and engine and colon and bundles):
        raise MlicError(f"row {text!r}; expected TITLE=ENGINE:BUNDLE[,BUNDLE...]")
    return Row(title, engine, [Path(bundle) for bundle in bundles.split(",")])


@app.command()
def main(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of them.")],
    rows: Annotated[
        list[str], typer.Option("--row", metavar="TITLE=ENGINE:BUNDLE[,BUNDLE...]", help="Once for each row.")
    ],
    threads: Annotated[int, typer.Option(help="Of each graph.")] = 2,
    repeats: Annotated[int, typer.Option(help="Counted runs of each row; one more to warm up. 0: no times.")] = 7,
    quality: Annotated[bool, typer.Option(help="Measure rate and PSNR.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print size, speed, PSNR and rate of each row as a Markdown table."""
    with reported_errors("precision"):
        table = [row_from(text) for text in rows]
        pictures = [_pixels(path) for path in photo_paths(photos).values()]
        if quality:
            for row in table:
                _measure_quality(row, pictures, threads)
        if repeats:
            _measure_times(table, pictures[0], threads, repeats)
        if as_json:
            print_json({"rows": [_as_json(row, table[0]) for row in table]})
        else:
            print(_markdown(table))


def _pixels(path: Path) -> UInt8Array:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _measure_quality(row: Row, pictures: Sequence[UInt8Array], threads: int) -> None:
    for bundle in row.bundles:
        codec = Codec.load(bundle, row.engine, threads)
        files = [codec.encode(pixels) for pixels in pictures]
        row.bpp.append(
            [8 * len(data) / (pixels.shape[0] * pixels.shape[1]) for data, pixels in zip(files, pictures, strict=True)]
        )
        row.psnr_db.append([psnr(pixels, codec.decode(data)) for data, pixels in zip(files, pictures, strict=True)])


def _measure_times(table: Sequence[Row], pixels: UInt8Array, threads: int, repeats: int) -> None:
    backends = [TimedBackend(open_backend(row.engine, threads)) for row in table]
    codecs = [Codec.load(row.bundles[0], backend) for row, backend in zip(table, backends, strict=True)]
    for turn in range(repeats + 1):
        for row, codec, backend in zip(table, codecs, backends, strict=True):
            time.sleep(PAUSE_S)
            backend.reset()
            start = time.perf_counter()
            data = codec.encode(pixels)
            middle = time.perf_counter()
            codec.decode(data)
            end = time.perf_counter()
            if turn:
                found = {"encode": middle - start, "decode": end - middle}
                found |= {graph: backend.seconds[graph] for graph in ("g_a", "g_s")}
                # Encoder and decoder have both run h_s, the steps and finish.
                found["chain"] = sum(spent for graph, spent in backend.seconds.items() if graph not in TRANSFORMS) / 2
                for stage, seconds in found.items():
                    row.milliseconds[stage].append(1000 * seconds)


def _as_json(row: Row, anchor: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"title": row.title, "transform_bytes": row.transform_bytes}
    if row.psnr_db:
        found["psnr_change_db"] = [
            float(np.mean(ours) - np.mean(theirs)) for ours, theirs in zip(row.psnr_db, anchor.psnr_db, strict=True)
        ]
        found["rate_change_percent"] = [
            100 * (float(np.sum(ours)) / float(np.sum(theirs)) - 1)
            for ours, theirs in zip(row.bpp, anchor.bpp, strict=True)
        ]
        found["bd_rate_percent"] = _bd_rate(row, anchor)
    if row.milliseconds["encode"]:
        found["median_ms"] = {stage: statistics.median(values) for stage, values in row.milliseconds.items()}
        found["ratio"] = {
            stage: statistics.median(
                theirs / ours for theirs, ours in zip(anchor.milliseconds[stage], values, strict=True)
            )
            for stage, values in row.milliseconds.items()
        }
    return found


def _bd_rate(row: Row, anchor: Row) -> float | None:
    """Return the mean over the photos of the Bjontegaard delta rate, or None if there are too few bundles."""
    rates = []
    for photo in range(len(row.bpp[0])):
        curves = [
            [(bpp[photo], db[photo]) for bpp, db in zip(one.bpp, one.psnr_db, strict=True)] for one in (anchor, row)
        ]
        rates.append(bd_rate(*curves))
    known = [rate for rate in rates if rate is not None]
    return float(np.mean(known)) if len(known) == len(rates) else None


def _markdown(table: Sequence[Row]) -> str:
    lines = [
        "| | g_a and g_s, MB | g_a ms | g_s ms | chain ms | encode ms | decode ms | PSNR, dB | rate | BD-rate |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table:
        found = _as_json(row, table[0])
        cells = [row.title, f"{found['transform_bytes'] / 1e6:.1f}"]
        for stage in STAGES:
            timed = "median_ms" in found
            cells.append(f"{found['median_ms'][stage]:.0f} ({found['ratio'][stage]:.2f})" if timed else "")
        cells.append(", ".join(f"{change:+.3f}" for change in found.get("psnr_change_db", [])))
        cells.append(", ".join(f"{change:+.2f} %" for change in found.get("rate_change_percent", [])))
        rate = found.get("bd_rate_percent")
        cells.append("" if rate is None else f"{rate:+.2f} %")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    app()
