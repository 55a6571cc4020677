"""Many pictures on many machines, with Ray Data: ``python -m mlic.tools.ray_batch encode photos/ s3://bucket/coded``."""

from __future__ import annotations

import contextlib
import logging
import os
import posixpath
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from mlic.runtime.choices import MAX_PIXELS
from mlic.runtime.errors import MlicError
from mlic.tools.batch import ON_GPU, Summary
from mlic.tools.console import print_json, reported_errors
from mlic.tools.extras import required
from mlic.tools.file_jobs import Coder, Outcome, Settings
from mlic.tools.folders import SUFFIX, picture_suffixes
from mlic.tools.progress import files_bar
from mlic.tools.run_options import BackendName, FormatName, Json, Limit, Model, QualityName, Quiet, Strip

with required("ray_batch", "ray", "cpu"):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    import ray
    import ray.data

    from mlic.tools.ray_storage import Place, tables
    from mlic.tools.ray_worker import FAILED, RESULT_SCHEMA, Done, RayWorker, Work

NAME = "ray_batch"
TASK_RETRIES = 3  # of a block whose worker died: a picture that kills every worker must not hold up the others for ever


class Command(Enum):
    """What to do."""

    encode = "encode"
    decode = "decode"


class Kind(Enum):
    """What lies in a folder."""

    files = "files"
    parquet = "parquet"


@dataclass(frozen=True)
class Cluster:
    """Which machines do it, and how much of them.

    Attributes:
        address: of a running cluster; None for this machine, or as ``RAY_ADDRESS`` says.
        num_workers: processes with a codec each; None for as many as there are processors for.
        threads: of each.
    """

    address: str | None = None
    num_workers: int | None = None
    threads: int = 1


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    command: Annotated[Command, typer.Argument(help="What to do.")],
    source: Annotated[str, typer.Argument(help="Folder of files or of Parquet, or a Parquet file; path or address.")],
    dest: Annotated[str, typer.Argument(help="Folder for the results; what it has is not done again.")],
    kind: Annotated[
        Kind | None, typer.Option("--input", help="What SOURCE holds; default: what is found.", show_default=False)
    ] = None,
    output: Annotated[Kind, typer.Option("--output", help="Parquet with a row a picture, or a file a picture.")] = (
        Kind.parquet
    ),
    path_column: Annotated[str, typer.Option(help="Column that tells rows of SOURCE apart.")] = "path",
    bytes_column: Annotated[
        str, typer.Option(help="Column of contents, or of structs with a field `bytes`.")
    ] = "bytes",
    picture_format: FormatName = None,
    num_workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: all that have room.", show_default=False)
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each process.")] = 1,
    rows: Annotated[
        int, typer.Option("--rows-per-file", min=1, help="Pictures of a block; it is written as one.")
    ] = 32,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do what failed before again.")] = False,
    address: Annotated[
        str | None,
        typer.Option(help="Running cluster, such as auto; default: RAY_ADDRESS, or this machine.", show_default=False),
    ] = None,
    quality: QualityName = None,
    model: Model = None,
    backend: BackendName = "auto",
    max_pixels: Limit = MAX_PIXELS,
    strip: Strip = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode or decode pictures with Ray Data, on this machine or on a cluster."""
    with reported_errors(NAME, quiet):
        from mlic.runtime.image_files import require_writable  # noqa: PLC0415 - loads Pillow

        suffix = SUFFIX if command is Command.encode else f".{(picture_format or 'png').removeprefix('.')}"
        if command is Command.decode:
            require_writable("--format", suffix)
        settings = Settings(command.value, model, quality, backend, threads, max_pixels, strip)
        if command is Command.encode or model is not None:
            Coder(settings).encoder()  # a wrong bundle is one error, before machines are asked for
        place = Place.of(source)
        kind = kind or _kind_of(place, source)
        work = Work(
            settings,
            source=place if kind is Kind.files else None,
            tables=place if kind is Kind.parquet else None,
            dest=Place.of(dest),
            output=output.value,
            suffix=suffix,
            path_column=path_column,
            bytes_column=bytes_column,
            rows=rows,
        )
        with contextlib.redirect_stdout(sys.stderr):  # where Ray says that a worker died, among other things
            summary = run(work, Cluster(address, num_workers, threads), retry_failed, quiet)
        if as_json:
            print_json(summary.as_json(command.value))
        elif not quiet:
            for line in summary.lines(command.value):
                print(line)
        if summary.failed:
            raise MlicError(f"{summary.failed} of {summary.num_files} pictures failed; --retry-failed does them again")


def run(work: Work, cluster: Cluster, retry_failed: bool = False, quiet: bool = False) -> Summary:
    """Do what is not done yet, and say what failed on stderr.

    Args:
        work: what to do.
        cluster: where.
        retry_failed: forget that pictures failed before.
        quiet: neither progress nor warnings.

    Returns:
        What came of all pictures; those done by earlier runs count as skipped.

    Raises:
        MlicError: there is nothing to read, the Parquet has other columns, or blocks were given up since every worker
            that took them died.
        OSError: source or destination cannot be read or written.
    """
    if retry_failed:
        _forget_failures(work)
    done = _done(work)
    _start_ray(cluster.address)
    size = cluster.num_workers or _room(cluster.threads, work.settings.backend)
    items, num_blocks, summary = _items(work, done, size)
    if items:
        dataset = ray.data.from_items(items, override_num_blocks=num_blocks)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of ray_remote_args_fn, see below
            statuses = dataset.map_batches(
                RayWorker,
                batch_size=None,
                batch_format="pyarrow",
                # One block at a time: those that wait at a worker that dies would have died with it as often.
                compute=ray.data.ActorPoolStrategy(size=min(size, num_blocks), max_tasks_in_flight_per_actor=1),
                fn_constructor_args=(work, ray.put(done)),
                num_cpus=cluster.threads,
                num_gpus=1 if work.settings.backend in ON_GPU else 0,
                ray_remote_args_fn=_remote_options,
            )
        with files_bar(summary.num_files - summary.skipped, quiet) as advance:
            for outcome in _outcomes(statuses):
                summary.add(outcome)
                advance(str(outcome.source), summary.failed)
                for line in () if quiet else outcome.warnings:
                    print(f"{NAME}: warning: {line}", file=sys.stderr)
                if outcome.error is not None:
                    print(f"{NAME}: {outcome.error}", file=sys.stderr)
    lost = summary.num_files - summary.done - summary.skipped - summary.failed
    if lost:
        raise MlicError(
            f"{lost} of {summary.num_files} pictures were given up, since each worker that took them died; "
            "run again with fewer --num-workers, or with --rows-per-file 1 to find the one"
        )
    return summary


def _items(work: Work, done: Done, num_workers: int) -> tuple[list[dict[str, Any]], int, Summary]:
    """Return what is to be done, in how many blocks, and a summary that knows the number of pictures."""
    if work.tables is not None:
        items, total = _row_groups(work, work.tables)
        return items, len(items), Summary(total)
    source = work.source
    assert source is not None
    wanted = picture_suffixes() if work.settings.command == "encode" else {SUFFIX}
    names = [name for name in source.files() if posixpath.splitext(name)[1].lower() in wanted]
    if not names:
        raise MlicError(f"no {' or '.join(sorted(wanted)) if len(wanted) < 3 else 'pictures'} in {source.path}")
    rest = [name for name in names if not done.has(name, work)]
    summary = Summary(len(names), skipped=len(names) - len(rest))
    num_blocks = max(-(-len(rest) // work.rows), min(num_workers, len(rest)))
    return [{"path": name} for name in rest], num_blocks, summary


def _row_groups(work: Work, source: Place) -> tuple[list[dict[str, Any]], int]:
    """Return the row groups of all Parquet files, and how many rows they have together.

    Workers read them: Ray's own reading would wait for a processor that the workers hold, and they for what is read.
    """
    items, total = [], 0
    for table in [source] if source.is_file else tables(source):
        with source.system.open_input_file(table.path) as file:
            metadata = pq.read_metadata(file)
        names = metadata.schema.to_arrow_schema().names
        if missing := [column for column in (work.path_column, work.bytes_column) if column not in names]:
            raise MlicError(
                f"{table.path}: no column {missing[0]}; found {', '.join(names)}; name yours with --path-column and "
                "--bytes-column"
            )
        items += [{"file": table.path, "row_group": number} for number in range(metadata.num_row_groups)]
        total += metadata.num_rows
    if not total:
        raise MlicError(f"no Parquet with rows in {source.path}")
    return items, total


def _outcomes(statuses: ray.data.Dataset) -> Iterator[Outcome]:
    for table in statuses.iter_batches(batch_size=None, batch_format="pyarrow"):
        rows: list[dict[str, Any]] = table.to_pylist()  # type: ignore[union-attr] # pyarrow was asked for
        for row in rows:
            path = Path(row.pop("path"))
            known = {key: value for key, value in row.items() if value is not None}
            yield Outcome(path, path, **known | {"warnings": tuple(row["warnings"] or ())})


def _done(work: Work) -> Done:
    """Return what the destination has, also the record of what failed."""
    in_parquet = work.output == "parquet"
    parts = tables(work.dest if in_parquet else work.dest / FAILED)
    paths = frozenset(path for part in parts for path in part.read_table(["path"]).column("path").to_pylist())
    return Done(paths, frozenset() if in_parquet else frozenset(work.dest.files()))


def _forget_failures(work: Work) -> None:
    """Take the rows that failed out of the destination."""
    for part in tables(work.dest if work.output == "parquet" else work.dest / FAILED):
        if part.read_table(["error"]).column("error").null_count == part.num_rows:
            continue
        table = part.read_table(RESULT_SCHEMA.names)
        kept = table.filter(pc.is_null(table.column("error")))
        if kept.num_rows:
            part.write_table(kept)
        else:
            part.remove()


def _start_ray(address: str | None) -> None:
    """Connect to a cluster, or start one on this machine, unless this process has one."""
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a codec need not call home
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what concerns the user is raised, too
        options: dict[str, Any] = {"address": address} if address else {}
        if not address and "RAY_ADDRESS" not in os.environ:
            options = {"include_dashboard": False}
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # of pictures that kill every worker; ``run`` counts what did not come
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _remote_options() -> dict[str, Any]:
    """Limit how often a block is tried: Ray 2.60 has no other place for that, and 2.64 is to have none."""
    return {"max_restarts": -1, "max_task_retries": TASK_RETRIES}


def _room(threads: int, backend: str) -> int:
    """Return how many workers the cluster has processors, or GPUs, for."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    room = resources.get("GPU", 0) if backend in ON_GPU else resources.get("CPU", 0) // threads
    return max(1, int(room))


def _kind_of(place: Place, source: str) -> Kind:
    """Return what a source holds: Parquet, if there is a file of that suffix."""
    if place.is_file:
        if source.endswith(".parquet"):
            return Kind.parquet
        raise MlicError(f"{source} is a file; expected a folder, or a .parquet file")
    return Kind.parquet if next(tables(place), None) is not None else Kind.files


if __name__ == "__main__":
    app()
