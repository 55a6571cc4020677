"""What the tests let workers do; a file of its own, since workers import it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from mlic.tools.file_jobs import FileWorker, Outcome
from mlic.tools.folders import Job


class Obedient:
    """Does what a task says, and tells how many tasks it had and in which process."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, task: str) -> tuple[str, int, int]:
        self.count += 1
        if task == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "exit":
            os._exit(3)
        if task.startswith("sleep "):
            Path(task.removeprefix("sleep ")).write_text(str(os.getpid()))
            time.sleep(60)
        return task, self.count, os.getpid()


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def refuse() -> Obedient:
    raise RuntimeError("cannot start")


class Mortal(FileWorker):
    """Is killed in the middle of writing what comes of ``kill.png``."""

    def __call__(self, job: Job) -> Outcome:
        if job.source.name == "kill.png":
            job.target.parent.mkdir(parents=True, exist_ok=True)
            job.target.with_name(f".{job.target.name}.0123456789ab.tmp").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(job)
