"""Processes that do one task after another, one of which may die without harm to the others.

Started afresh (``spawn``), since an engine's threads do not survive a fork. ``ProcessPoolExecutor`` would not do: when
a worker is killed it gives up all of them, and does not say whose task it was.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, NoReturn, TypeVar

from mlic.runtime.errors import MlicError
from mlic.tools.interrupts import interrupts_ignored

Task = TypeVar("Task")
Result = TypeVar("Result")

STOP_SECONDS = 20  # for a graph to end, a temporary file to go; then a worker is killed


@dataclass(frozen=True)
class Death:
    """What came of a task whose worker died.

    Attributes:
        exit_code: as ``Process.exitcode``: minus the signal, or the status.
    """

    exit_code: int

    def __str__(self) -> str:
        if self.exit_code >= 0:
            return f"its worker ended with status {self.exit_code}"
        name = signal.Signals(-self.exit_code).name if -self.exit_code in set(signal.Signals) else str(-self.exit_code)
        hint = ", perhaps for want of memory; fewer --jobs take less" if name == "SIGKILL" else ""
        return f"its worker was ended by {name}{hint}"


def run_in_workers(
    tasks: Sequence[Task], start: Callable[[], Callable[[Task], Result]], count: int
) -> Iterator[tuple[int, Result | Death]]:
    """Do tasks in processes and yield the number of each task and its result, as they come.

    A worker that dies fails the task it had, and another takes its place. All processes have ended when the iteration
    ends, also where it is given up or interrupted: workers are asked to stop, and take their temporary files along.

    Args:
        tasks: can be pickled; are handed out in order.
        start: called once in each worker, makes the function that does tasks, which should not raise. Can be pickled.
        count: of processes, 1 or more.

    Raises:
        MlicError: a worker died before it was ready for a task.
        OSError: no process can be started.
    """
    waiting = iter(enumerate(tasks))
    workers: list[_Worker[Task, Result]] = []
    dismissed: list[_Worker[Task, Result]] = []
    try:
        for _ in range(min(count, len(tasks))):
            workers.append(_Worker(start, waiting))
        while workers:
            ready = connection.wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                number = worker.number
                result = worker.receive()
                if isinstance(result, Death):
                    workers.remove(worker)
                    if number is None:
                        raise MlicError(f"a worker ended before it began: {str(result).removeprefix('its worker ')}")
                    if (following := next(waiting, None)) is not None:
                        workers.append(_Worker(start, waiting, following))
                elif not worker.hand_out():
                    workers.remove(worker)
                    dismissed.append(worker)
                    worker.connection.close()  # ends it
                if number is not None:
                    yield number, result
    finally:
        _stop(workers)
        for worker in dismissed:
            worker.process.join()


class _Worker(Generic[Task, Result]):
    """One process and the task it has.

    Attributes:
        connection: to the process.
        process: the process.
        number: of the task that it has; None before it is ready.
    """

    def __init__(
        self,
        start: Callable[[], Callable[[Task], Result]],
        waiting: Iterator[tuple[int, Task]],
        following: tuple[int, Task] | None = None,
    ) -> None:
        self._waiting = waiting
        self._following = following
        self.number: int | None = None
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs, start), daemon=True, name="mlic")
        with interrupts_ignored():
            self.process.start()
        theirs.close()  # so that we notice when the process closes its own

    def receive(self) -> Any:
        """Return what the process says, or how it died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            self.connection.close()
            return Death(self.process.exitcode or 0)

    def hand_out(self) -> bool:
        """Give the process its next task; return False if there is none."""
        task = self._following or next(self._waiting, None)
        self._following = None
        if task is None:
            return False
        self.number = task[0]
        with suppress(OSError):  # it may have died meanwhile; ``receive`` will say so
            self.connection.send(task[1])
        return True


def _serve(link: Connection, start: Callable[[], Callable[[Any], Any]]) -> None:
    """Do tasks until the other end is closed, which it is also when the other process has died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; who gave the tasks decides
    signal.signal(signal.SIGTERM, _exit)
    work = start()
    try:
        link.send(None)
        while True:
            link.send(work(link.recv()))
    except (EOFError, OSError):
        return


def _exit(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _stop(workers: Sequence[_Worker[Any, Any]]) -> None:
    """End processes: as they like, then by force."""
    try:
        # Twice, and with the line cut: an exception out of a signal handler is lost where Python happens to run a
        # destructor. Whoever lost both ends after the task that it has.
        for seconds in (1, STOP_SECONDS):
            for worker in workers:
                worker.process.terminate()
                worker.connection.close()
            for worker in workers:
                worker.process.join(seconds)
    finally:  # also when somebody interrupts the waiting
        for worker in workers:
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join()
