"""Learning curves: ``python -m mlic.tools.training_plot RUN... -o training.svg``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mlic.runtime.errors import MlicError
from mlic.tools.console import reported_errors
from mlic.tools.extras import required

with required("training_plot", "report", "cpu"):
    import matplotlib as mpl
    from matplotlib.figure import Figure

LOG = "log.jsonl"
ROWS = (("loss", "held-out loss"), ("bpp", "bits per pixel"), ("psnr", "PSNR (dB)"))
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")  # Okabe and Ito 2008

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of training runs, or their logs.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="SVG file to write.")],
    after: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN:RUN", help="The first run went on from the second: draw it behind that one's end."),
    ] = None,
) -> None:
    """Draw loss, rate and PSNR on held-out photos over the steps of each run."""
    with reported_errors("training_plot"):
        logs = {run.parent.name if run.is_file() else run.name: read_log(run) for run in runs}
        parents = dict(pair.split(":", 1) for pair in after or [])
        write_plot(output, logs, parents)


def read_log(run: Path) -> list[dict[str, float]]:
    """Return ``step``, ``loss``, ``bpp`` and ``psnr`` of the held-out photos at each validation.

    Raises:
        MlicError: the log holds no validation.
        OSError: there is no log.
    """
    path = run / LOG if run.is_dir() else run
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [{"step": row["step"], **row["held_out"]} for row in rows if row.get("held_out")]
    if not found:
        raise MlicError(f"{path} holds no validation yet")
    return found


def write_plot(path: Path, logs: dict[str, list[dict[str, float]]], parents: dict[str, str]) -> None:
    """Write the figure.

    Args:
        path: of the SVG.
        logs: by name of the run, as ``read_log`` gives them.
        parents: run from which a run went on; its steps are counted on from there.

    Raises:
        MlicError: a parent is none of the runs, or its own descendant.
    """
    with mpl.rc_context({"svg.hashsalt": "mlic", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10.5, 3.6), layout="constrained")
        for axes, (key, label) in zip(figure.subplots(1, len(ROWS)), ROWS, strict=True):
            for index, (name, rows) in enumerate(logs.items()):
                begin = steps_before(name, logs, parents)
                steps = [begin + row["step"] for row in rows]
                colour = COLOURS[index % len(COLOURS)]
                axes.plot(steps, [row[key] for row in rows], label=name, color=colour, marker=".", markersize=4)
            axes.set_xlabel("steps")
            axes.set_title(label, fontsize=10)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            if key == "loss":
                axes.legend(frameon=False, fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None})


def steps_before(name: str, logs: dict[str, list[dict[str, float]]], parents: dict[str, str]) -> float:
    """Return how many steps a run's ancestors took.

    Raises:
        MlicError: one of them is none of the runs, or the run itself.
    """
    steps, seen = 0.0, {name}
    while name in parents:
        name = parents[name]
        if name in seen or name not in logs:
            raise MlicError(
                f"--after names {name}, which is {'its own parent' if name in seen else 'none of the runs'}"
            )
        seen.add(name)
        steps += logs[name][-1]["step"]
    return steps


if __name__ == "__main__":
    app()
