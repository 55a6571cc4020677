"""The fuzzer: that what it runs holds, and that it would notice if it did not."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from random import Random

import pytest

from mlic.runtime.container import read
from mlic.runtime.errors import BitstreamError, CorruptStreamError
from mlic.tools.fuzz import guard as guarding
from mlic.tools.fuzz import plain
from mlic.tools.fuzz.guard import Guard
from mlic.tools.fuzz.mutators import mutated_bytes, mutated_chunks, mutated_json, mutated_png
from mlic.tools.fuzz.plain import made_input, next_number, run_batch
from mlic.tools.fuzz.targets import TARGETS, Target
from tests.native.seeds import write_seeds

RUNS = {
    "syndrome": 60,
    "bundle": 60,
    "decode": 300,
    "integer": 300,
    "image": 600,
}  # the others take well under a millisecond


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    write_seeds(folder)
    return folder


@pytest.fixture(autouse=True)
def _limits_as_before(monkeypatch):
    """The guard limits its process, which here is that of all tests and has more address space than a fuzzer needs."""
    monkeypatch.setattr(guarding, "ADDRESS_BYTES", 1 << 44)
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)
    yield
    resource.setrlimit(resource.RLIMIT_AS, before[0])
    signal.signal(signal.SIGALRM, before[1])


def fuzz(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer as a process, as its users do."""
    line = [sys.executable, "-m", "mlic.tools.fuzz", str(folder), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_end_in_a_result_or_an_error_of_ours(name: str, folder: Path):
    count = RUNS.get(name, 1500)
    result = fuzz(folder, "--targets", name, "--runs", count, "--seconds", 120, "--seed", 7)
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)
    assert (row["runs"], row["findings"]) == (count, [])
    assert 0 < row["accepted"] < count  # seeds are accepted, most of what is damaged is not


def test_every_seed_is_accepted_by_its_target(folder: Path):
    for name, make in TARGETS.items():
        target = make(folder)
        refused = 0
        for seed in target.seeds:
            try:
                target.run(seed)
            except Exception:  # EPS and icons, which are among the pictures to be refused
                refused += 1
        assert refused <= (4 if name == "image" else 0), name


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch):
    """Returns a function that puts a target called ``made`` in the place of all."""

    def put(run):
        monkeypatch.setattr(plain, "TARGETS", {"made": lambda _: Target([b"seed"], mutated_bytes, run)})

    return put


def one_run(folder: Path, **options: int) -> plain.Batch:
    return run_batch(folder, "made", **({"seed": 0, "first": 0, "runs": 1, "seconds": 60} | options))


def raising(error: BaseException):
    def run(_: bytes) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "is_finding"),
    [
        (CorruptStreamError("damaged"), False),
        (CorruptStreamError("two\nlines"), True),
        (ValueError("untyped"), True),
        (MemoryError(), True),
        (RecursionError(), True),
        (AssertionError(), True),
    ],
)
def test_anything_but_one_line_of_ours_is_a_finding(error, is_finding, target, tmp_path):
    target(raising(error))
    batch = one_run(tmp_path)
    assert bool(batch.findings) is is_finding
    if is_finding:
        assert (tmp_path / "findings" / "made-0-0").read_bytes() == b"seed"
        assert type(error).__name__ in (tmp_path / "findings" / "made-0-0.txt").read_text() or "\n" in str(error)


def test_what_takes_too_long_is_a_finding_even_where_exceptions_are_caught():
    # In a process of its own, which is what the guard is for.
    script = """
import time
from mlic.runtime.errors import CorruptStreamError
from mlic.tools.fuzz import guard

guard.SECONDS = 0.1

def run(_):
    try:
        time.sleep(20)
    except Exception:
        raise CorruptStreamError("damaged") from None

start = time.perf_counter()
assert "TooSlowError" in guard.Guard(run).finding(b"")
assert time.perf_counter() - start < 10
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_takes_too_much_memory_is_a_finding(monkeypatch):
    monkeypatch.setattr(guarding, "GROWTH_BYTES", 1 << 26)
    monkeypatch.setattr(guarding, "peak_bytes", iter([10 << 20, 20 << 20, 200 << 20]).__next__)
    guard = Guard(lambda _: None)
    assert guard.finding(b"") is None
    assert "resident memory grew" in (guard.finding(b"") or "")


def test_address_space_is_limited():
    script = """
import resource
from mlic.tools.fuzz.guard import ADDRESS_BYTES, Guard
Guard(lambda _: None)
assert resource.getrlimit(resource.RLIMIT_AS)[0] <= ADDRESS_BYTES
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", ["container", "manifest", "bundle"])
def test_inputs_are_the_same_each_time_and_differ_from_one_another(name: str, folder: Path):
    target = TARGETS[name](folder)
    first = [made_input(target, 3, number) for number in range(400)]
    assert first[::-1] == [made_input(target, 3, number) for number in reversed(range(400))]
    assert first[: len(target.seeds)] == list(target.seeds)
    assert len(set(first)) > 300
    assert first[4:50] != [made_input(target, 4, number) for number in range(4, 50)]


def test_a_run_goes_on_where_the_batches_before_ended(target, tmp_path):
    target(lambda _: None)
    assert next_number(tmp_path, "made", 0) == 0
    one_run(tmp_path, runs=5)
    one_run(tmp_path, runs=3, first=5)
    assert next_number(tmp_path, "made", 0) == 8
    assert next_number(tmp_path, "made", 1) == 0
    (tmp_path / "made.now").write_bytes(struct.pack("<qq", 0, 11))  # a process that died in input 11
    assert next_number(tmp_path, "made", 0) == 12


def test_a_process_that_dies_leaves_the_number_of_its_input(target, tmp_path):
    target(lambda _: os._exit(3))
    if not (child := os.fork()):
        one_run(tmp_path, first=42)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert struct.unpack("<qq", (tmp_path / "made.now").read_bytes()) == (0, 42)


def test_unknown_targets_are_refused(folder: Path):
    result = fuzz(folder, "--targets", "nothing")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("fuzz: target 'nothing' is unknown; possible: container, ")


def test_mutated_files_keep_their_checksum_most_of_the_time(folder: Path):
    seed = (folder / "corpus" / "40x24.mlic").read_bytes()
    kinds = {"read": 0, "checksum": 0, "other": 0}
    for number in range(400):
        try:
            read(mutated_chunks(seed, Random(number)))
            kinds["read"] += 1
        except BitstreamError as error:
            kinds["checksum" if "checksum" in str(error) else "other"] += 1
    assert kinds["checksum"] < 60
    assert min(kinds["read"], kinds["other"]) > 60


def test_mutated_json_is_json_most_of_the_time(folder: Path):
    text = (folder / "bundle" / "manifest.json").read_bytes()
    good = 0
    for number in range(100):
        try:
            json.loads(mutated_json(text, Random(number)))
            good += 1
        except ValueError:
            pass
    assert 70 < good < 100


def test_mutated_png_files_keep_their_checksums():
    data = TARGETS["image"](Path()).seeds[0]
    good = 0
    for number in range(100):
        changed, position, whole = mutated_png(data, Random(number)), 8, True
        while position + 12 <= len(changed):
            (length,) = struct.unpack_from(">I", changed, position)
            checked = changed[position + 4 : position + 8 + length]
            whole = whole and changed[position + 8 + length :][:4] == struct.pack(">I", zlib.crc32(checked))
            position += 12 + length
        good += whole
    assert good > 80
