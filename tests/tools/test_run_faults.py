"""The commands as processes while something fails: full disks, signals, closed streams, inputs that are outputs."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec
from tests.commands import command, environment, names, run

HEIGHT, WIDTH = 90, 120
DROP_FROM_BOUNDING_SET, DAC_OVERRIDE, DAC_READ_SEARCH = 24, 1, 2  # prctl(2), capabilities(7)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """A picture whose files are larger than what the limits below let through."""
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture
def folder(noise: np.ndarray, codec: Codec, tmp_path: Path) -> Path:
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "s.mlic").write_bytes(codec.encode(noise))
    return tmp_path


@pytest.fixture
def arguments(bundle_folder: Path) -> dict[str, list[object]]:
    options = ["--model", str(bundle_folder), "--threads", "1"]
    return {"encode": ["encode", "a.png", "out.mlic", *options], "decode": ["decode", "s.mlic", "out.png", *options]}


def started(folder: Path, words: list[object], before: Callable[[], None] | None = None, **options) -> subprocess.Popen:
    fixed = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command("mlic-run", *words),
        cwd=folder,
        env=environment(),
        preexec_fn=before,  # noqa: PLW1509 - no other thread does anything
        **(fixed | options),
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for a process; return its status and its stderr, which is one line."""
    _, err = process.communicate(timeout=120)
    text = (err or b"").decode()
    assert "Traceback" not in text
    assert text.count("\n") <= 1, text
    return process.returncode, text


# Disks


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_a_file_that_cannot_be_written_whole_is_not_there(name, folder, arguments):
    before = names(folder)
    status, text = ended(started(folder, arguments[name], small_files))
    assert (status, text) == (1, f"mlic-run {name}: out.{'mlic' if name == 'encode' else 'png'}: File too large\n")
    assert names(folder) == before


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_a_full_disk_leaves_the_file_that_was_there(name, folder, arguments):
    words = [*arguments[name], "--force"]
    (folder / words[2]).write_bytes(b"before")
    before = names(folder)
    assert ended(started(folder, words, small_files))[0] == 1
    assert names(folder) == before
    assert (folder / words[2]).read_bytes() == b"before"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["encode", "decode"])
def test_a_full_device_is_one_line(name, folder, arguments):
    (folder / "full.png").symlink_to("/dev/full")
    words = [*arguments[name][:2], "full.png", *arguments[name][3:]]
    status, text = ended(started(folder, words))
    assert (status, text.endswith("No space left on device\n")) == (1, True)


def without_privileges() -> None:
    """Have root meet permissions as others do: after the next exec it may not override them."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
        library.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl")
@pytest.mark.parametrize("name", ["encode", "decode"])
def test_a_folder_that_is_read_only_is_one_line_with_the_name_that_was_given(name, folder, arguments):
    folder.chmod(0o555)
    before = names(folder)
    try:
        status, text = ended(started(folder, arguments[name], without_privileges))
    finally:
        folder.chmod(0o755)
    assert (status, text) == (1, f"mlic-run {name}: {arguments[name][2]}: Permission denied\n")
    assert names(folder) == before


# Signals

STAGES = {
    ("encode", "encoding"): "mlic.runtime.chain:walk",
    ("encode", "before the name"): "mlic.runtime.atomic:Path.replace",
    ("encode", "before the contents are on the disk"): "mlic.runtime.atomic:os.fsync",
    ("decode", "decoding"): "mlic.runtime.chain:decode_walk",
    ("decode", "before the name"): "mlic.runtime.atomic:Path.replace",
}


def stopping(where: str, words: list[object]) -> list[str]:
    """Return a command line of ``mlic-run`` that says so on stdout and waits where ``where`` is called."""
    module, _, attribute = where.partition(":")
    python, flag, code, *rest = command("mlic-run", *words)
    wait = (
        "import importlib, os, time\n"
        "def wait(*a, **k):\n    os.write(1, b'here')\n    time.sleep(60)\n"
        f"target = importlib.import_module({module!r})\n"
        f"*path, name = {attribute.split('.')!r}\n"
        "for part in path: target = getattr(target, part)\n"
        "setattr(target, name, wait)\n"
    )
    return [python, flag, wait + code, *rest]


def signalled(folder: Path, line: list[str], number: int) -> tuple[int, str]:
    process = subprocess.Popen(
        line, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.read(4) == b"here"
    process.send_signal(number)
    return ended(process)


@pytest.mark.parametrize(("name", "stage"), STAGES)
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_a_signal_leaves_nothing_behind(name, stage, number, status, said, folder, arguments):
    before = names(folder)
    line = stopping(STAGES[name, stage], arguments[name])
    assert signalled(folder, line, number) == (status, f"mlic-run {name}: {said}\n")
    assert names(folder) == before


def test_a_signal_that_was_ignored_stays_ignored(folder, arguments):
    """As nohup does."""
    process = started(folder, arguments["encode"], lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    while process.poll() is None:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.02)
    assert ended(process)[0] == 0
    assert (folder / "out.mlic").is_file()


def test_sigkill_leaves_no_file_under_the_final_name(folder, arguments):
    """A name that begins with a dot may stay; nothing reads it, and the next run is not in its way."""
    line = stopping("mlic.runtime.atomic:os.fsync", [*arguments["encode"], "--force"])
    (folder / "out.mlic").write_bytes(b"before")
    assert signalled(folder, line, signal.SIGKILL)[0] == -signal.SIGKILL
    assert (folder / "out.mlic").read_bytes() == b"before"
    (stale,) = [name for name in names(folder) if name not in ("a.png", "out.mlic", "s.mlic")]
    assert stale.startswith(".out.mlic.")
    assert stale.endswith(".tmp")
    assert ended(started(folder, [*arguments["encode"], "--force"]))[0] == 0


# Streams


def test_a_reader_that_takes_one_byte_is_no_traceback(folder, arguments):
    process = started(folder, ["encode", "a.png", "-", "-q", *arguments["encode"][3:]])
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    process.stdout = None
    status, text = ended(process)
    assert text == ""
    assert status in (0, 1)  # 0 where the pipe held all of it before the reader left


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("name", ["encode", "decode"])
def test_streams_that_were_closed_are_not_mistaken_for_files(name, closed, folder, arguments, codec):
    def close() -> None:
        for number in closed:
            os.close(number)

    status, text = ended(started(folder, arguments[name], close))
    assert (status, text) == ((1, f"mlic-run {name}: standard output: Bad file descriptor\n" if 2 not in closed else "")
                              if 1 in closed else (0, ""))  # fmt: skip
    data = (folder / "s.mlic").read_bytes()
    if name == "encode":
        assert (folder / "out.mlic").read_bytes() == data
    else:
        with Image.open(folder / "out.png") as image:
            assert np.array_equal(np.asarray(image), codec.decode(data))


@pytest.mark.parametrize("number", [0, 1])
def test_a_closed_stream_that_is_needed_is_one_line(number, folder, arguments):
    words = ["encode", *(["-", "out.mlic"] if number == 0 else ["a.png", "-"]), *arguments["encode"][3:]]
    status, text = ended(started(folder, words, lambda: os.close(number)))
    assert (status, text.endswith("Bad file descriptor\n")) == (1, True)


# Inputs that are outputs


def test_the_input_is_never_replaced(folder, arguments):
    (folder / "link.png").symlink_to("a.png")
    os.link(folder / "a.png", folder / "hard.png")
    before = (folder / "a.png").read_bytes()
    for output in ("a.png", "./a.png", "link.png", "hard.png"):
        words = ["encode", "a.png", output, "--force", *arguments["encode"][3:]]
        status, text = ended(started(folder, words))
        assert status == 1
        assert text.endswith("is the input, under this or another name; name another file\n")
        assert (folder / "a.png").read_bytes() == before
    (folder / "s.png").write_bytes((folder / "s.mlic").read_bytes())
    assert ended(started(folder, ["decode", "s.png", "--force", *arguments["decode"][3:]]))[0] == 1
    assert (folder / "s.png").read_bytes() == (folder / "s.mlic").read_bytes()


def test_an_endless_file_is_refused(folder, arguments):
    words = ["decode", "/dev/zero", "out.png", "--max-pixels", "1000", *arguments["decode"][3:]]
    status, text = ended(started(folder, words))
    assert (status, text) == (1, "mlic-run decode: the file is larger than 67116864 bytes, the limit for 1000 pixels\n")


# Folders


def test_calibration_does_not_replace_what_it_is_made_of(bundle_folder, folder):
    bundle = shutil.copytree(bundle_folder, folder / "bundle")
    (bundle / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(bundle / "photos" / "a.png")
    for words in ((bundle, folder / "a.png", "-o", bundle), (bundle_folder, bundle / "photos", "-o", bundle)):
        result = run("mlic-calibrate", *words, "--force", cwd=folder)
        assert result.returncode == 1
        assert b"which it is to be made of; choose another name" in result.stderr
        assert (bundle / "manifest.json").is_file()
        assert (bundle / "photos" / "a.png").is_file()


def test_export_does_not_replace_its_checkpoint(bundle_folder, folder):
    bundle = shutil.copytree(bundle_folder, folder / "bundle")
    (bundle / "model.pth").write_bytes(b"checkpoint")
    result = run("mlic-export", bundle / "model.pth", "-o", bundle, "--force", cwd=folder)
    assert result.returncode == 1
    assert b"which it is to be made of; choose another name" in result.stderr
    assert (bundle / "model.pth").read_bytes() == b"checkpoint"


def test_a_report_does_not_replace_its_photos(folder):
    (folder / "report" / "photos").mkdir(parents=True)
    (folder / "a.png").rename(folder / "report" / "photos" / "a.png")
    result = run("mlic-run", "compare", folder / "report" / "photos", "-o", folder / "report", "--force", cwd=folder)
    assert result.returncode == 1
    assert b"which it is to be made of; name another folder" in result.stderr
    assert (folder / "report" / "photos" / "a.png").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["mlic-calibrate", "mlic-run"])
def test_a_signal_leaves_no_folder_behind(name, number, bundle_folder, folder):
    """Folders are made under a hidden name; here the process waits with one half filled."""
    before = names(folder)
    if name == "mlic-run":
        where, words = "mlic.tools.compare.report:read_image", ("compare", "a.png", "-o", "report")
    else:
        where = "mlic.calibration.bundle_writer:Judge"
        words = (bundle_folder, "a.png", "-o", "int8", "--all-layers", "--pictures", 1, "--crop", 64)
    python, flag, code, *rest = command(name, *words)
    waiting = stopping(where, [])[2].rpartition("import sys;")[0]
    status, text = signalled(folder, [python, flag, waiting + code, *rest], number)
    assert status == (130 if number == signal.SIGINT else 143)
    assert text.startswith(f"{name}{' compare' if name == 'mlic-run' else ''}: ")
    assert names(folder) == before
