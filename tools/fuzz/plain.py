"""The engine that needs nothing installed: inputs are made of seeds by a generator of random numbers.

Input number n of a target is always the same for one ``seed``, so that a run can be cut into batches, go on after it
was stopped, and repeat a single input.
"""

from __future__ import annotations

import faulthandler
import json
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from mlic.tools.fuzz.guard import Guard, peak_bytes
from mlic.tools.fuzz.targets import TARGETS, Target

STANDSTILL_SECONDS = 600  # for what no signal ends: the process dumps its stack and goes
REARM_EVERY = 256  # inputs
MAX_ROUNDS = 3  # of mutation, one after another


@dataclass(frozen=True)
class Batch:
    """What a batch of inputs did.

    Attributes:
        target: name.
        seed: of the random numbers.
        first: number of the first input.
        runs: inputs.
        accepted: of them, those without an error.
        seconds: for all of them, making them included.
        slowest_ms: the slowest one.
        peak_rss_mb: of the process.
        findings: names of the files written.
    """

    target: str
    seed: int
    first: int
    runs: int
    accepted: int
    seconds: float
    slowest_ms: float
    peak_rss_mb: float
    findings: tuple[str, ...]


def made_input(target: Target, seed: int, number: int) -> bytes:
    """Return an input: the seeds themselves first, then what a few rounds of mutation make of them."""
    if number < len(target.seeds):
        return target.seeds[number]
    random = Random(f"{seed} {number}")  # noqa: S311 - no secret
    data = random.choice(target.seeds)
    for _ in range(random.randrange(1, MAX_ROUNDS + 1)):
        data = target.mutate(data, random)
    return data


def run_batch(folder: Path, name: str, seed: int, first: int, runs: int, seconds: float) -> Batch:
    """Run inputs of one target until ``runs`` or ``seconds`` are used up.

    Findings are written to ``FOLDER/findings``: the input, and beside it what happened. If the process dies,
    ``FOLDER/NAME.now`` holds the number of the input.

    Args:
        folder: holds ``bundle`` and ``corpus``.
        name: of the target.
        seed: of the random numbers.
        first: number of the first input.
        runs: how many at most.
        seconds: how long at most.
    """
    target = TARGETS[name](folder)
    (folder / "findings").mkdir(exist_ok=True)
    guard, findings = Guard(target.run), []
    faulthandler.enable()
    start, number = time.perf_counter(), first
    descriptor = os.open(folder / f"{name}.now", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        while number < first + runs and time.perf_counter() - start < seconds:
            if (number - first) % REARM_EVERY == 0:
                faulthandler.dump_traceback_later(STANDSTILL_SECONDS, exit=True)
            os.pwrite(descriptor, struct.pack("<qq", seed, number), 0)
            data = made_input(target, seed, number)
            if problem := guard.finding(data):
                findings.append(f"{name}-{seed}-{number}")
                (folder / "findings" / findings[-1]).write_bytes(data)
                (folder / "findings" / f"{findings[-1]}.txt").write_text(problem)
            number += 1
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.close(descriptor)
    (folder / f"{name}.now").unlink()
    batch = Batch(
        name,
        seed,
        first,
        number - first,
        guard.accepted,
        round(time.perf_counter() - start, 1),
        round(1000 * guard.slowest, 1),
        round(peak_bytes() / 1e6, 1),
        tuple(findings),
    )
    with (folder / "runs.jsonl").open("a") as file:
        file.write(json.dumps(batch.__dict__) + "\n")
    return batch


def next_number(folder: Path, name: str, seed: int) -> int:
    """Return where the batches so far end, with the input that ended a process left out; 0 to begin with."""
    number = 0
    if (folder / "runs.jsonl").is_file():
        rows = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
        number = max(
            (row["first"] + row["runs"] for row in rows if (row["target"], row["seed"]) == (name, seed)), default=0
        )
    now = folder / f"{name}.now"
    if now.is_file() and now.stat().st_size == 16:
        its_seed, its_number = struct.unpack("<qq", now.read_bytes())
        if its_seed == seed:
            number = max(number, its_number + 1)
    return number
