"""Time and memory against the size of the picture: ``python -m mlic.tools.bench.scaling -o scaling.svg``.

Each size is measured by ``mlic-run bench`` in a process of its own, so that peak memory is that of one size.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlic.runtime.choices import INTEGER
from mlic.runtime.errors import MlicError
from mlic.tools.console import reported_errors
from mlic.tools.extras import required
from mlic.tools.run_options import bundle_from

with required("scaling", "report", "cpu"):
    import matplotlib as mpl
    from matplotlib.figure import Figure

SIZES = ("256x192", "384x256", "768x512", "1152x768", "1536x1024", "2304x1536", "3456x2304")
BENCH = "from mlic.tools.run_cli import main; main()"
JOBS = {"encode": "#0072B2", "decode": "#D55E00"}  # Okabe and Ito 2008

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="SVG file to write; the figures go beside, as JSON.")],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            parser=bundle_from,
            help=f"Bundle, or {INTEGER}, the integer model that ships; default: the medium model.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Picture, cut or mirrored to each size; default: made.")] = None,
    sizes: Annotated[list[str] | None, typer.Option("--size", metavar="WxH", help="Once for each size.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 for all.")] = 0,
    repeat: Annotated[int, typer.Option(min=1, help="Counted runs of each size.")] = 3,
) -> None:
    """Measure and draw."""
    options = ["--repeat", str(repeat), "--json"]
    options += ["--model", str(model.resolve())] if model else []
    options += ["--image", str(image)] if image else []
    options += ["--threads", str(threads)] if threads else []
    with reported_errors("scaling"):
        rows = []
        for size in sizes or SIZES:
            rows.append(measure(size, options))
            print(line(rows[-1]), flush=True)
        rows.sort(key=lambda row: row["width"] * row["height"])
        print(f"most over least time per megapixel: {', '.join(f'{job} {spread(rows, job):.2f}' for job in JOBS)}")
        output.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        write_plot(output, rows)


def measure(size: str, options: list[str]) -> dict[str, Any]:
    """Return what ``mlic-run bench --json`` says about one size.

    Raises:
        MlicError: it failed.
    """
    command = [sys.executable, "-c", BENCH, "bench", "--size", size, *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this interpreter
    if result.returncode:
        raise MlicError(f"{size}: {result.stderr.strip() or f'mlic-run bench ended with {result.returncode}'}")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def megapixels(row: dict[str, Any]) -> float:
    """Return millions of pixels of a row's picture."""
    return float(row["width"] * row["height"] / 1e6)


def seconds(row: dict[str, Any], job: str) -> float:
    """Return the median of a job."""
    return float(row[job]["total_ms"]["median"] / 1000)


def spread(rows: list[dict[str, Any]], job: str) -> float:
    """Return the largest time per pixel of all sizes over the smallest: 1 where time is linear in pixels."""
    each = [seconds(row, job) / megapixels(row) for row in rows]
    return max(each) / min(each)


def line(row: dict[str, Any]) -> str:
    """Return a row as a line of a table."""
    times = "  ".join(
        f"{job} {seconds(row, job):7.3f} s, {seconds(row, job) / megapixels(row):6.3f} s/Mpixel" for job in JOBS
    )
    return f"{row['width']:>5}x{row['height']:<5} {times}  {row['peak_memory_mb']:8.1f} MB"


def write_plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draw time and peak memory against megapixels.

    Args:
        path: of the SVG.
        rows: as ``measure`` gives them, by rising size.
    """
    with mpl.rc_context({"svg.hashsalt": "mlic", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 3.4), layout="constrained")
        time, memory = figure.subplots(1, 2)
        across = [megapixels(row) for row in rows]
        for job, colour in JOBS.items():
            time.plot(across, [seconds(row, job) for row in rows], label=job, color=colour, marker="o", markersize=4)
        memory.plot(across, [row["peak_memory_mb"] for row in rows], color="#000000", marker="o", markersize=4)
        time.set_title("seconds, median", fontsize=10)
        memory.set_title("peak memory of the process (MB)", fontsize=10)
        time.legend(frameon=False, fontsize=8)
        for axes in (time, memory):
            axes.set_xlabel("megapixels")
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    app()
