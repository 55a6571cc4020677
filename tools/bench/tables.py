"""What ``mlic-run bench`` measured, for people."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from mlic.tools.bench.stages import Benchmark, Timings, grouped
from mlic.tools.console import bytes_text


def show(name: str, result: Benchmark, steps: bool) -> None:
    """Print a table of each direction.

    Args:
        name: of the model.
        result: what was measured.
        steps: a row for every step of the chain.
    """
    console = Console()
    print(f"{name} on {result.engine}")
    print(
        f"{result.width}x{result.height}, {bytes_text(result.num_bytes)}, "
        f"{8 * result.num_bytes / (result.width * result.height):.3f} bpp; "
        f"{len(result.encode.outside)} runs after one to warm up; peak memory {bytes_text(result.peak_bytes)}"
    )
    for job, timings in (("encode", result.encode), ("decode", result.decode)):
        table = Table(box=None, pad_edge=False)
        table.add_column(job, min_width=10)
        for heading in ("median ms", "min", "max", "share"):
            table.add_column(heading, justify="right")
        for row in _rows(timings, steps):
            table.add_row(*row)
        console.print(table)
        pixels = result.width * result.height
        print(
            f"{pixels / 1e3 / timings.median_ms():.2f} Mpixel/s, "
            f"coder {result.num_symbols / 1e3 / timings.median_ms('coder'):.1f} Msymbol/s, "
            f"outside the engine {100 * statistics.median(timings.outside):.1f} %"
        )


def _rows(timings: Timings, steps: bool) -> Iterator[tuple[str, str, str, str, str]]:
    groups = {name: [name] for name in timings.seconds} if steps else grouped(timings.seconds)
    total = timings.median_ms()
    for name, members in groups.items():
        values = [1000 * sum(run) for run in zip(*(timings.seconds[member] for member in members), strict=True)]
        label = f"{len(members)} steps" if name == "steps" else name
        median = statistics.median(values)
        yield label, f"{median:.1f}", f"{min(values):.1f}", f"{max(values):.1f}", f"{100 * median / total:.1f} %"
