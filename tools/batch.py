"""Many files with one command: workers, progress, a line for each failure, and a summary."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from mlic.runtime.backends import open_backend
from mlic.runtime.backends.base import usable_cpus
from mlic.runtime.errors import MlicError
from mlic.tools.console import bytes_text, print_json
from mlic.tools.file_jobs import Coder, FileWorker, Outcome, Settings
from mlic.tools.folders import Job, Plan, others_text
from mlic.tools.interrupts import interrupts_held
from mlic.tools.progress import files_bar
from mlic.tools.workers import Death, run_in_workers

ON_GPU = ("cuda", "tensorrt")
MAX_JOBS = 16  # more must be asked for: each holds a model and the largest picture that it meets


def default_jobs(backend: str, num_files: int, threads: int | None = None) -> int:
    """Return how many processes to use: one for each processor, or for each ``threads`` of them; one on a GPU."""
    if backend in ON_GPU:
        return 1
    return max(1, min(usable_cpus() // (threads or 1), num_files, MAX_JOBS))


def default_threads(jobs: int) -> int:
    """Return how many threads each of ``jobs`` processes gets."""
    return max(1, usable_cpus() // max(1, jobs))


@dataclass
class Summary:
    """What came of all files so far.

    Attributes:
        num_files: that were to be done.
        done: how many have been encoded or decoded.
        skipped: how many were done before.
        failed: how many could not be.
        pixels: of those done, as the next two.
        bytes_in: read.
        bytes_out: written.
        seconds: since the beginning.
    """

    num_files: int
    done: int = 0
    skipped: int = 0
    failed: int = 0
    pixels: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    _start: float = field(default_factory=time.perf_counter)

    def add(self, outcome: Outcome) -> None:
        """Count a file."""
        setattr(self, outcome.status, getattr(self, outcome.status) + 1)
        if outcome.status == "done":
            self.pixels += outcome.pixels
            self.bytes_in += outcome.bytes_in
            self.bytes_out += outcome.bytes_out
        self.seconds = time.perf_counter() - self._start

    def rate(self, command: str) -> float | None:
        """Return bits of ``.mlic`` files per pixel; None if nothing was done."""
        return 8 * (self.bytes_out if command == "encode" else self.bytes_in) / self.pixels if self.pixels else None

    def as_json(self, command: str) -> dict[str, Any]:
        """Return it ready for JSON."""
        rate = self.rate(command)
        return {
            "files": self.num_files,
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
            "pixels": self.pixels,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "bpp": None if rate is None else round(rate, 4),
            "seconds": round(self.seconds, 3),
            "megapixels_per_second": round(self.pixels / 1e6 / self.seconds, 3) if self.seconds else None,
        }

    def lines(self, command: str) -> list[str]:
        """Return the table for people."""
        rate = self.rate(command)
        rows = [("files", f"{self.done} {command}d")]
        rows += [("skipped", f"{self.skipped}, complete from before")] if self.skipped else []
        rows += [
            ("pixels", f"{self.pixels / 1e6:.1f} million"),
            ("bytes in", bytes_text(self.bytes_in)),
            ("bytes out", bytes_text(self.bytes_out)),
            ("bpp", "-" if rate is None else f"{rate:.4f}"),
            ("seconds", f"{self.seconds:.1f}"),
            ("Mpixel/s", f"{self.pixels / 1e6 / self.seconds:.2f}" if self.seconds else "-"),
            ("failed", str(self.failed)),
        ]
        return [f"{key:<9}  {value}" for key, value in rows]


def run_batch(plan: Plan, settings: Settings, jobs: int | None, as_json: bool, quiet: bool) -> None:
    """Do all files of a plan and report.

    A JSON line for each file on stdout, in the order of the plan, as soon as it and those before it are done, or a
    table at the end; failures and warnings are lines on stderr.

    Args:
        plan: what to do.
        settings: of the run.
        jobs: processes; default: one a processor. They share the processors, unless ``settings`` has ``threads``.
        as_json: lines of JSON instead of a table; the last one is ``{"summary": …}``.
        quiet: failures alone.

    Raises:
        MlicError: a file failed, after all have been tried; or the model or the engine cannot be used.
        KeyboardInterrupt: passed on when workers have ended and it has been said how far they came.
    """
    command = settings.command
    jobs = jobs or default_jobs(settings.backend, len(plan.jobs), settings.threads)
    settings = replace(settings, threads=settings.threads or default_threads(min(jobs, len(plan.jobs))))
    # A wrong bundle or engine is one error, not one for each file.
    if command == "encode" or settings.model is not None:
        Coder(settings).encoder()
    else:
        open_backend(settings.backend, settings.threads)
    summary = Summary(len(plan.jobs) + len(plan.problems), failed=len(plan.problems))
    show = partial(_show, command=command, as_json=as_json, quiet=quiet)
    for folder, text in plan.problems:
        show(Outcome(folder, folder, "failed", error=f"{folder}: {text}"))
    early: dict[int, Outcome] = {}  # those that wait for one before them: small, no pixels
    try:
        with (
            files_bar(len(plan.jobs), quiet or (as_json and sys.stdout.isatty())) as advance,
            contextlib.closing(_outcomes(plan.jobs, settings, jobs)) as arriving,
        ):
            shown = 0
            for number, outcome in arriving:
                with interrupts_held():
                    summary.add(outcome)
                    advance(str(outcome.source), summary.failed)
                    early[number] = outcome
                    while shown in early:
                        show(early.pop(shown))
                        shown += 1
    except KeyboardInterrupt:
        for _, outcome in sorted(early.items()):
            show(outcome)
        if as_json:
            print_json({"summary": summary.as_json(command)})
        print(_how_far(summary, command), file=sys.stderr)
        raise
    if as_json:
        print_json({"summary": summary.as_json(command)})
    elif not quiet:
        others = others_text(plan)
        for line in [*summary.lines(command), *([f"left out   {others}"] if others else [])]:
            print(line)
    if summary.failed:
        raise MlicError(f"{summary.failed} of {summary.num_files} files failed")


def _outcomes(jobs: Sequence[Job], settings: Settings, count: int) -> Generator[tuple[int, Outcome], None, None]:
    """Yield number and outcome of each job, as they come."""
    for number, result in run_in_workers(jobs, partial(FileWorker, settings), count):
        job = jobs[number]
        if isinstance(result, Death):
            _remove_temporaries(job, jobs)
            yield number, Outcome(job.source, job.target, "failed", error=f"{job.source}: {result}")
        else:
            yield number, result


def _remove_temporaries(job: Job, jobs: Sequence[Job]) -> None:
    """Remove what ``atomic_file`` could not, since its process was killed; not the files of other jobs."""
    start = job.target.name[:40]
    if any(
        other is not job and other.target.name[:40] == start and other.target.parent == job.target.parent
        for other in jobs
    ):
        return
    pattern = re.compile(rf"\.{re.escape(start)}\.[0-9a-f]{{12}}\.tmp")
    with contextlib.suppress(OSError):
        for path in list(job.target.parent.iterdir()):
            if pattern.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _show(outcome: Outcome, command: str, as_json: bool, quiet: bool) -> None:
    if not quiet:
        for line in outcome.warnings:
            print(f"mlic-run {command}: warning: {line}", file=sys.stderr)
    if outcome.error is not None:
        print(f"mlic-run {command}: {outcome.error}", file=sys.stderr)
    if as_json:
        print_json(outcome.as_json(command))
        sys.stdout.flush()


def _how_far(summary: Summary, command: str) -> str:
    done = summary.done + summary.skipped
    return f"mlic-run {command}: {done} of {summary.num_files} files are done; --resume goes on with the others"
