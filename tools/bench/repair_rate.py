"""How often repair succeeds, against noise, chunk length and width of the checksum: a simulation on real scales.

``python -m mlic.tools.bench.repair_rate BUNDLE PHOTO… -o repair.svg``. Scales come from one engine; noise is drawn
from the differences that another engine has at scales of about the same size, times a factor, so that a million
pictures can be tried without decoding them. Only scales near a boundary can cross, so only they are drawn.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mlic.runtime import Codec
from mlic.runtime.arrays import Float32Array
from mlic.runtime.atomic import write_atomically
from mlic.runtime.bundle import Bundle
from mlic.runtime.checksums import CHECKSUMS
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.errors import MlicError
from mlic.runtime.image_files import read_image
from mlic.runtime.repair import Candidates, Repair
from mlic.tools.agreement import known, require_scales, scales_of
from mlic.tools.console import reported_errors
from mlic.tools.engines.here import engines_here
from mlic.tools.extras import required
from mlic.tools.noise import Noise

with required("repair_rate", "report", "cpu"):
    import matplotlib as mpl
    from matplotlib.figure import Figure

FACTORS = (1, 3, 10, 20, 30, 50, 100)
OPTIONS = ((14, 16), (15, 16), (15, 32))  # log2 of the chunk length, width
BATCH = 2000  # trials of one chunk at a time
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")  # Okabe and Ito 2008

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class Tally:
    """Outcomes of chunks.

    Attributes:
        chunks: tried.
        indexes: in a chunk.
        flips: in all of them.
        first: of the chunks with flips, those whose likeliest explanation is right.
        listed: those where another one is: the walk has to go back.
        unnoticed: those whose checksum agrees all the same; the walk has to go back there too.
        lost: those where the right one is not found.
    """

    chunks: int = 0
    indexes: int = 0
    flips: int = 0
    first: int = 0
    listed: int = 0
    unnoticed: int = 0
    lost: int = 0

    @property
    def flips_per_million(self) -> float:
        """Indexes that differ in a million."""
        return 1e6 * self.flips / (self.chunks * self.indexes)

    def per_picture(self, outcomes: int, chunks: float) -> float:
        """Return the probability that a picture of so many chunks has one of so many outcomes at least once."""
        return float(1 - (1 - outcomes / self.chunks) ** chunks)


class Chunk:
    """One decoder's scales, against any number of encoders."""

    def __init__(self, entropy: EntropyModel, scales: Float32Array, width: int) -> None:
        self._checksum = CHECKSUMS[width]
        self._repair = Repair(entropy.scale_table, self._checksum)
        self._bounds = entropy.scale_table[:-1].astype(np.float64)
        self._scales = scales.astype(np.float64)
        self._indexes = entropy.build_indexes(scales)
        self._single = scales
        self._outcomes: dict[tuple[tuple[int, int], ...], str] = {}

    @cached_property
    def _candidates(self) -> Candidates:
        return self._repair.candidates(self._indexes, self._single)

    def attempt(self, rng: np.random.Generator, noise: Noise, factor: float, count: int, tally: Tally) -> None:
        """Draw encoders and add what becomes of each to a tally."""
        above = self._bounds[np.minimum(self._indexes, len(self._bounds) - 1)] - self._scales
        below = self._scales - self._bounds[np.maximum(self._indexes.astype(int) - 1, 0)]
        near = np.flatnonzero(np.minimum(np.abs(above), np.abs(below)) <= factor * noise.largest)
        drawn = self._scales[near] + factor * noise.draw(rng, self._single[near], (count, len(near)))
        theirs = np.searchsorted(self._bounds, drawn.astype(np.float32)).astype(np.uint8)
        tally.chunks += count
        for row in theirs[(theirs != self._indexes[near]).any(axis=1)]:
            places = near[row != self._indexes[near]]
            flips = tuple(zip(places.tolist(), row[row != self._indexes[near]].tolist(), strict=True))
            tally.flips += len(flips)
            if flips not in self._outcomes:
                self._outcomes[flips] = self._outcome(flips)
            setattr(tally, self._outcomes[flips], getattr(tally, self._outcomes[flips]) + 1)

    def _outcome(self, flips: tuple[tuple[int, int], ...]) -> str:
        places, indexes = np.array(flips, dtype=np.int64).T
        changes = self._indexes[places] ^ indexes.astype(np.uint8)
        effects = self._checksum.effects(len(self._indexes) - 1 - places, changes)
        difference = int(np.bitwise_xor.reduce(effects))
        if difference == 0:
            return "unnoticed"
        for rank, found in enumerate(self._repair.explanations(self._candidates, difference)):
            if sorted(zip(found.places.tolist(), found.indexes.tolist(), strict=True)) == list(flips):
                return "listed" if rank else "first"
        return "lost"


@app.command()
def main(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…")],
    output: Annotated[Path, typer.Option("-o", "--output", help="SVG file to write; the figures go beside, as JSON.")],
    engines: Annotated[tuple[str, str], typer.Option(help="The decoder's and the encoder's.")] = (
        "onnxruntime",
        "openvino",
    ),
    trials: Annotated[int, typer.Option(min=1, help="Chunks of each kind and factor.")] = 20_000,
    factors: Annotated[list[float] | None, typer.Option("--factor", help="Noise; once for each.")] = None,
    options: Annotated[list[str] | None, typer.Option("--option", metavar="LOG2:WIDTH", help="Once for each.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Simulate and draw."""
    with reported_errors("repair_rate"):
        opened, starters = Bundle.open(bundle), engines_here()
        require_scales(opened, "the rate of repairs")
        if missing := set(engines) - set(starters):
            raise MlicError(f"{', '.join(sorted(missing))}: not among {', '.join(starters)}")
        codecs = [Codec(opened, starters[name]()) for name in engines]
        pictures = [known(codecs[0], read_image(path, codecs[0].max_pixels).pixels) for path in photos]
        ours, theirs = (scales_of(codec, pictures) for codec in codecs)
        pixels = [256 * picture.z_symbols.shape[2] * picture.z_symbols.shape[3] * 16 for picture in pictures]
        kinds = [tuple(map(int, text.split(":"))) for text in options] if options else OPTIONS
        rows = []
        for log2, width in kinds:
            for factor in factors or FACTORS:
                rng = np.random.default_rng(seed)
                tally, per_picture = simulate(rng, opened.entropy, ours, theirs, log2, width, factor, trials)
                rows.append(
                    {"chunk_log2": log2, "width": width, "factor": factor, "chunks_per_picture": per_picture}
                    | {"bytes_per_picture": 14 + per_picture * width / 8, "pixels_per_picture": float(np.mean(pixels))}
                    | {"flips_per_million": tally.flips_per_million, **asdict(tally)}
                    | {"goes_back": tally.per_picture(tally.listed + tally.unnoticed, per_picture)}
                    | {"fails": tally.per_picture(tally.lost, per_picture)}
                )
                print(line(rows[-1]), flush=True)
        write_atomically(output.with_suffix(".json"), (json.dumps(rows, indent=1) + "\n").encode())
        write_plot(output, rows)


def simulate(
    rng: np.random.Generator,
    entropy: EntropyModel,
    ours: list[list[Float32Array]],
    theirs: list[list[Float32Array]],
    chunk_log2: int,
    width: int,
    factor: float,
    trials: int,
) -> tuple[Tally, float]:
    """Try chunks of real pictures.

    Args:
        rng: for the noise.
        entropy: of the model.
        ours: the decoder's scales, by picture and step.
        theirs: of the engine from which noise is drawn.
        chunk_log2: log2 of the chunk length.
        width: of a chunk's checksum.
        factor: of the noise.
        trials: chunks at least.

    Returns:
        What became of them, and the number of chunks in a picture, on average.
    """
    noise = Noise(*(np.concatenate([step.reshape(-1) for one in side for step in one]) for side in (ours, theirs)))
    parts = [
        step.reshape(-1)[start : start + (1 << chunk_log2)]
        for picture in ours
        for step in picture
        for start in range(0, step.size, 1 << chunk_log2)
    ]
    rounds, tally = -(-trials // len(parts)), Tally(indexes=round(sum(map(len, parts)) / len(parts)))
    for part in parts:
        chunk = Chunk(entropy, part, width)
        for start in range(0, rounds, BATCH):
            chunk.attempt(rng, noise, factor, min(BATCH, rounds - start), tally)
    return tally, len(parts) / len(ours)


def line(row: dict[str, Any]) -> str:
    """Return a row as a line of a table."""
    wrong = row["first"] + row["listed"] + row["lost"] + row["unnoticed"]
    return (
        f"2^{row['chunk_log2']}, {row['width']} bits, {row['bytes_per_picture']:.0f} bytes, noise x{row['factor']:g}: "
        f"{row['flips_per_million']:.2f} flips per million; of {row['chunks']} chunks {wrong} differ, "
        f"{row['first']} right at once, {row['listed']} later, {row['unnoticed']} unnoticed, {row['lost']} lost; "
        f"a picture goes back {row['goes_back']:.1e}, fails {row['fails']:.1e}"
    )


def write_plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draw the share of pictures that fail, and that go back, against flips per million.

    Args:
        path: of the SVG.
        rows: as ``main`` makes them.
    """
    kinds = list(dict.fromkeys((row["chunk_log2"], row["width"]) for row in rows))
    with mpl.rc_context({"svg.hashsalt": "mlic", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, key, title in zip(
            panels, ("goes_back", "fails"), ("right only at a later try", "beyond repair"), strict=True
        ):
            for kind, colour in zip(kinds, COLOURS, strict=False):
                chosen = [row for row in rows if (row["chunk_log2"], row["width"]) == kind]
                across = [row["flips_per_million"] for row in chosen]
                # None seen among n: with 95 % confidence fewer than 3 in n, drawn hollow
                up = [row[key] or min(1.0, 3 * row["chunks_per_picture"] / row["chunks"]) for row in chosen]
                axes.plot(across, [row[key] or np.nan for row in chosen], color=colour, linewidth=1)
                for x, y, row in zip(across, up, chosen, strict=True):
                    axes.plot(x, y, color=colour, marker="o", markersize=5, fillstyle="full" if row[key] else "none")
                axes.plot([], [], label=f"2^{kind[0]} indexes, {kind[1]} bits", color=colour, marker="o", markersize=5)
            axes.set(xscale="log", yscale="log", xlabel="indexes that differ, per million", ylim=(1e-6, 1.5))
            axes.set_xticks([1, 3, 10, 30, 100, 300, 1000], ["1", "3", "10", "30", "100", "300", "1000"])
            axes.minorticks_off()
            rates = [row["flips_per_million"] for row in rows]
            axes.set_xlim(0.7 * min(rates) + 0.1, 1.4 * max(rates) + 0.1)
            axes.set_title(f"share of pictures {title}", fontsize=10)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].legend(frameon=False, fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    app()
