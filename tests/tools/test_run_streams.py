"""``mlic-run`` as a process: pipes, terminals, signals, and streams that close or fill up."""

from __future__ import annotations

import json
import os
import re
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec
from tests.commands import HEIGHT, WIDTH, command, environment, on_terminal, run


@pytest.fixture(scope="module")
def picture(make_photo) -> bytes:
    buffer = BytesIO()
    Image.fromarray(make_photo(HEIGHT, WIDTH)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def stream(codec: Codec, make_photo) -> bytes:
    return codec.encode(make_photo(HEIGHT, WIDTH))


@pytest.fixture
def options(bundle_folder: Path) -> list[str]:
    return ["--model", str(bundle_folder), "--threads", "1"]


def interrupting(line: str, *arguments: object) -> list[str]:
    """Return a command line of ``mlic-run`` that sends itself SIGINT where ``line`` calls ``stop``."""
    python, flag, code, *rest = command("mlic-run", *arguments)
    stop = "import signal\ndef stop(*a, **k): signal.raise_signal(signal.SIGINT)\n"
    return [python, flag, f"{stop}{line}\n{code}", *rest]


def test_pipe_carries_the_file_alone_and_the_report_goes_to_stderr(
    picture: bytes, stream: bytes, options: list[str], codec: Codec
):
    encoded = run("mlic-run", "encode", "-", *options, stdin=picture)
    assert (encoded.returncode, encoded.stdout) == (0, stream)
    assert encoded.stderr.startswith(b"-: 100x75, ")
    decoded = run("mlic-run", "decode", "-", "-", "--json", *options, stdin=encoded.stdout)
    with Image.open(BytesIO(decoded.stdout)) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), codec.decode(stream))
    assert json.loads(decoded.stderr)["width"] == WIDTH


def test_quiet_pipe_leaves_stderr_empty(picture: bytes, stream: bytes, options: list[str]):
    result = run("mlic-run", "encode", "-", "-", "-q", *options, stdin=picture)
    assert (result.stdout, result.stderr) == (stream, b"")


def test_info_reads_a_pipe(stream: bytes):
    result = run("mlic-run", "info", "-", "--json", stdin=stream)
    assert json.loads(result.stdout)["bytes"] == len(stream)


@pytest.mark.parametrize("name", ["encode", "decode", "info"])
def test_empty_pipe_is_one_line(name: str, options: list[str]):
    result = run("mlic-run", name, "-", *(options if name != "info" else []))
    assert (result.returncode, result.stdout) == (1, b"")
    assert re.fullmatch(rb"mlic-run \w+: [^\n]+\n", result.stderr)


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_reader_that_goes_away_is_no_traceback(name: str, picture: bytes, stream: bytes, options: list[str]):
    process = subprocess.Popen(
        command("mlic-run", name, "-", "-", "-q", *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(picture if name == "encode" else stream, timeout=60)
    assert (process.returncode, err) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["encode", "info"])
def test_full_stdout_is_one_line(name: str, picture: bytes, stream: bytes, options: list[str]):
    arguments = ["encode", "-", "-q", *options] if name == "encode" else ["info", "-"]
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            command("mlic-run", *arguments),
            input=picture if name == "encode" else stream,
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert result.stderr.decode() == f"mlic-run {name}: standard output: No space left on device\n"
    assert result.returncode == 1


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("encode", "import mlic.runtime.chain as m; m.walk = stop"),
        ("encode", "import mlic.runtime.atomic as m; m.Path.replace = stop"),
        ("decode", "import mlic.runtime.chain as m; m.decode_walk = stop"),
        ("decode", "import mlic.runtime.atomic as m; m.Path.replace = stop"),
    ],
    ids=["encoding", "writing a file", "decoding", "writing a picture"],
)
def test_interrupt_is_status_130_and_leaves_no_file(
    name: str, line: str, picture: bytes, stream: bytes, options: list[str], tmp_path: Path
):
    (tmp_path / "in").write_bytes(picture if name == "encode" else stream)
    result = subprocess.run(
        interrupting(line, name, "in", "out.png", *options),
        capture_output=True,
        cwd=tmp_path,
        env=environment(),
        check=False,
    )
    assert result.stderr.decode() == f"mlic-run {name}: interrupted\n"
    assert (result.returncode, result.stdout) == (130, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_terminal_sees_progress_and_a_pipe_does_not(picture: bytes, stream: bytes, options: list[str], tmp_path: Path):
    (tmp_path / "a.png").write_bytes(picture)
    status, seen, piped = on_terminal(command("mlic-run", "encode", "a.png", "-", *options), subprocess.PIPE, tmp_path)
    assert (status, piped) == (0, stream)
    assert "━" in seen
    assert "-: 100x75, " in seen
    status, seen, _ = on_terminal(command("mlic-run", "encode", "a.png", "-q", *options), None, tmp_path)
    assert (status, seen) == (0, "")
    colour = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    result = run("mlic-run", "encode", "a.png", "-f", *options, cwd=tmp_path, variables=colour)
    assert (result.returncode, result.stderr) == (0, b"")


def test_terminal_is_spared_a_file(picture: bytes, options: list[str], tmp_path: Path):
    (tmp_path / "a.png").write_bytes(picture)
    status, seen, _ = on_terminal(command("mlic-run", "encode", "a.png", "-", *options), None, tmp_path)
    assert status == 1
    assert seen == "mlic-run encode: standard output is a terminal; name a file, or pipe the output on\r\n"


def test_name_of_any_bytes_is_encoded_and_reported(picture: bytes, options: list[str], tmp_path: Path):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(picture)
    result = run("mlic-run", "encode", name, *options, cwd=tmp_path, variables={"PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"})
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"caf\\udce9.mlic: 100x75" in result.stdout
    assert (tmp_path / os.fsdecode(b"caf\xe9.mlic")).is_file()


def test_encoding_twice_in_two_processes_gives_the_same_bytes(picture: bytes, stream: bytes, options: list[str]):
    for seed in ("1", "2"):
        result = run("mlic-run", "encode", "-", *options, stdin=picture, variables={"PYTHONHASHSEED": seed})
        assert result.stdout == stream
