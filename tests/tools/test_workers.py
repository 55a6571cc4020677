"""Processes for many tasks: all are done once, a death fails one, and nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlic.runtime.errors import MlicError
from mlic.tools.workers import Death, run_in_workers
from tests.commands import environment
from tests.tools.worker_tasks import Obedient, refuse, wait_until


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_every_task_is_done_once_in_processes_that_stay():
    tasks = [f"task {number}" for number in range(9)]
    results = dict(run_in_workers(tasks, Obedient, 2))
    assert sorted(results) == list(range(9))
    assert [results[number][0] for number in range(9)] == tasks
    pids = {pid for _, _, pid in results.values()}
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids
    for pid in pids:  # each counted on: started once
        counts = sorted(count for _, count, its in results.values() if its == pid)
        assert counts == list(range(1, len(counts) + 1))
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize("count", [1, 2])
def test_worker_that_is_killed_fails_its_task_alone(count: int):
    results = dict(run_in_workers(["a", "die", "b", "exit", "c"], Obedient, count))
    assert [results[number][0] for number in (0, 2, 4)] == ["a", "b", "c"]
    assert results[1] == Death(-signal.SIGKILL)
    assert results[3] == Death(3)
    assert str(results[1]) == "its worker was ended by SIGKILL, perhaps for want of memory; fewer --jobs take less"
    assert str(results[3]) == "its worker ended with status 3"


def test_no_more_processes_than_tasks_and_none_for_none():
    assert list(run_in_workers([], Obedient, 4)) == []
    results = list(run_in_workers(["a"], Obedient, 4))
    assert [number for number, _ in results] == [0]


def test_worker_that_cannot_begin_is_an_error_and_not_tried_for_each_task(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(MlicError, match=r"^a worker ended before it began: ended with status 1$"):
        list(run_in_workers(["a"] * 5, refuse, 1))
    assert capfd.readouterr().err.count("RuntimeError: cannot start") == 1


def test_giving_up_ends_what_runs(tmp_path: Path):
    note = tmp_path / "pid"
    with contextlib.closing(run_in_workers(["a", f"sleep {note}"], Obedient, 2)) as results:
        assert next(results)[0] == 0
        wait_until(lambda: note.exists() and note.read_text())
        pid = int(note.read_text())
        assert is_alive(pid)
        start = time.monotonic()
    assert not is_alive(pid)
    assert time.monotonic() - start < 10


def test_workers_end_when_their_parent_is_killed(tmp_path: Path):
    note = tmp_path / "pid"
    code = (
        "from tests.tools.worker_tasks import Obedient\n"
        "from mlic.tools.workers import run_in_workers\n"
        f"for number, result in run_in_workers(['a', 'b'], Obedient, 1):\n"
        f"    open({str(note)!r}, 'w').write(str(result[2]))\n"
        "    import time; time.sleep(60)\n"
    )
    variables = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment(variables)) as parent:
        wait_until(lambda: note.exists() and note.read_text())
        pid = int(note.read_text())
        assert is_alive(pid)
        parent.kill()
    wait_until(lambda: not is_alive(pid))
