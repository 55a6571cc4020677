"""``python -m mlic.tools.fuzz FOLDER``: run damaged inputs through everything that reads them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlic.runtime.errors import MlicError
from mlic.tools.console import reported_errors
from mlic.tools.fuzz.coverage import run_atheris
from mlic.tools.fuzz.plain import next_number, run_batch
from mlic.tools.fuzz.targets import TARGETS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Engine(StrEnum):
    """What makes the inputs."""

    plain = "plain"
    atheris = "atheris"


@app.command()
def fuzz(
    folder: Annotated[Path, typer.Argument(help="Holds bundle/ and corpus/: python -m tests.native.seeds FOLDER.")],
    targets: Annotated[str, typer.Option(help=f"Separated by commas: {', '.join(TARGETS)}.")] = ",".join(TARGETS),
    engine: Annotated[Engine, typer.Option(help="atheris looks at coverage and takes one target.")] = Engine.plain,
    seconds: Annotated[int, typer.Option(min=1, help="For each target.")] = 30,
    runs: Annotated[int, typer.Option(min=1, help="Inputs of each target at most; plain engine.")] = 1 << 40,
    seed: Annotated[int, typer.Option(help="Of the random numbers; plain engine.")] = 0,
    first: Annotated[
        int | None, typer.Option(help="Number of the first input; default: go on from the batches before.")
    ] = None,
) -> None:
    """Run damaged inputs; each has to end in a result or in one error of ours, in bounded time and memory.

    Prints one JSON object for each target, and adds it to FOLDER/runs.jsonl. Inputs that did something else lie in
    FOLDER/findings.
    """
    with reported_errors("fuzz"):
        names = targets.split(",")
        if unknown := [name for name in names if name not in TARGETS]:
            raise MlicError(f"target {unknown[0]!r} is unknown; possible: {', '.join(TARGETS)}")
        if engine is Engine.atheris:
            if len(names) > 1:
                raise MlicError("atheris ends its process: name one of --targets")
            run_atheris(folder, names[0], seconds)
        found: list[str] = []
        for name in names:
            begin = next_number(folder, name, seed) if first is None else first
            batch = run_batch(folder, name, seed, begin, runs, seconds)
            print(json.dumps(batch.__dict__), flush=True)
            found += batch.findings
        if found:
            raise MlicError(f"{len(found)} findings in {folder / 'findings'}: {', '.join(found[:5])}")


if __name__ == "__main__":
    app()
