"""``mlic-run encode`` and ``decode`` for many files: results, failures, going on, and what is reported."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec
from mlic.tools import batch
from tests.commands import HEIGHT, WIDTH, command, environment, names, on_terminal
from tests.tiny_bundle import build_tiny_bundle
from tests.tools.worker_tasks import Mortal, wait_until


@pytest.fixture
def photos(tmp_path: Path, make_photo) -> Path:
    """A folder of three pictures, one of them in a folder within, and a text."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        Image.fromarray(make_photo(HEIGHT, WIDTH, seed)).save(folder / name)
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.fixture
def one(mlic):
    """Runs a command with one worker, for tests in which the number does not matter."""
    return lambda name, *arguments, **more: mlic(name, *arguments, "-j", 1, **more)


def rows(out: str) -> tuple[list[dict], dict]:
    *lines, last = [json.loads(line) for line in out.splitlines()]
    return lines, last["summary"]


def workers_of(parent: int) -> list[int]:
    """Return the workers that a process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parent_of = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent_of == parent and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def group_runs(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def table(out: str) -> dict[str, str]:
    return {line[:9].strip(): line[11:] for line in out.splitlines()}


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_folder_and_back_gives_what_the_codec_gives(mlic, photos: Path, codec: Codec, make_photo):
    result = mlic("encode", "photos", "-o", "out/new", "--recursive", "--jobs", 2)
    assert (result.code, result.err) == (0, "")
    assert files_in(Path("out")) == ["new/a.mlic", "new/b.mlic", "new/sub/c.mlic"]
    assert mlic("decode", "out", "-o", "back", "-r", "--jobs", 2).code == 0
    for seed, name in enumerate(("a", "b", "sub/c")):
        data = codec.encode(make_photo(HEIGHT, WIDTH, seed))
        assert Path(f"out/new/{name}.mlic").read_bytes() == data
        with Image.open(f"back/new/{name}.png") as image:
            assert np.array_equal(np.asarray(image), codec.decode(data))


def test_table_counts_files_pixels_bytes_and_what_was_left_out(one, photos: Path):
    result = one("encode", "photos", "-o", "out")
    found = table(result.out)
    written = sum(path.stat().st_size for path in Path("out").iterdir())
    read = sum((photos / name).stat().st_size for name in ("a.png", "b.png"))
    assert result.code == 0
    assert {key: found[key] for key in ("files", "failed", "left out", "bytes in", "bytes out", "bpp")} == {
        "files": "2 encoded",
        "failed": "0",
        "left out": "1 other file (.txt 1)",
        "bytes in": f"{read / 1000:.1f} kB",
        "bytes out": f"{written} B" if written < 1000 else f"{written / 1000:.1f} kB",
        "bpp": f"{8 * written / (2 * WIDTH * HEIGHT):.4f}",
    }
    seconds, speed = float(found["seconds"]), float(found["Mpixel/s"])
    slowest, fastest = (2 * WIDTH * HEIGHT / 1e6 / max(seconds + off, 0.001) for off in (0.05, -0.05))  # as printed
    assert slowest - 0.005 <= speed <= fastest + 0.005


def test_json_is_a_line_for_each_file_in_order_and_a_summary(mlic, photos: Path):
    (photos / "aa.png").write_bytes(b"none")
    result = mlic("encode", "photos", "-o", "out", "-r", "--json", "--jobs", 2)
    assert result.code == 1
    lines, summary = rows(result.out)
    assert [(Path(line["source"]).name, line["status"]) for line in lines] == [
        ("a.png", "done"), ("aa.png", "failed"), ("b.png", "done"), ("c.png", "done")
    ]  # fmt: skip
    size = Path("out/a.mlic").stat().st_size
    assert lines[0].pop("seconds") > 0
    assert lines[0] == {
        "source": "photos/a.png",
        "output": "out/a.mlic",
        "status": "done",
        "width": WIDTH,
        "height": HEIGHT,
        "source_bytes": (photos / "a.png").stat().st_size,
        "bytes": size,
        "bpp": round(8 * size / (WIDTH * HEIGHT), 4),
        "error": None,
        "warnings": [],
    }
    assert lines[1]["error"].startswith("photos/aa.png: not a picture in a known format; ")
    assert lines[1]["bpp"] is None
    assert (summary["files"], summary["done"], summary["skipped"], summary["failed"]) == (4, 3, 0, 1)
    assert summary["pixels"] == 3 * WIDTH * HEIGHT
    assert summary["bytes_out"] == sum(line["bytes"] for line in lines if line["status"] == "done")
    assert summary["bpp"] == round(8 * summary["bytes_out"] / summary["pixels"], 4)
    decoded, total = rows(mlic("decode", "out", "-o", "back", "--json", "-j", 1).out)
    assert decoded[0]["bpp"] == lines[0]["bpp"]
    assert decoded[0]["source_bytes"] == size
    assert total["bpp"] == round(8 * total["bytes_in"] / total["pixels"], 4)


def test_failures_are_lines_and_the_others_are_done(one, photos: Path, stream: Path):
    (photos / "aa.png").write_bytes((photos / "a.png").read_bytes()[:-2000])
    result = one("encode", "photos", "-o", "out")
    assert result.code == 1
    first, last = result.err.splitlines()
    assert first.startswith("mlic-run encode: photos/aa.png: cannot be decoded: ")
    assert last == "mlic-run encode: 1 of 3 files failed"
    assert table(result.out)["failed"] == "1"
    assert names(Path("out")) == ["a.mlic", "b.mlic"]
    Path("out/a.mlic").write_bytes(stream.read_bytes()[:-5])
    result = one("decode", "out", "s.mlic", "-o", "back", "--quiet")
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines()[0].startswith("mlic-run decode: out/a.mlic: chunk header needs 8 bytes, got 7 ")
    assert names(Path("back")) == ["b.png", "s.png"]


def test_quiet_prints_nothing_when_all_went_well(one, photos: Path):
    result = one("encode", "photos", "-o", "out", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")


@pytest.mark.filterwarnings("default")
def test_warnings_name_their_files(one, photos: Path):
    Image.new("RGBA", (70, 70), (10, 20, 30, 40)).save(photos / "a.png")
    result = one("encode", "photos", "-o", "out")
    assert result.err == "mlic-run encode: warning: photos/a.png: transparency was composited on white\n"
    assert one("encode", "photos", "-o", "out", "-q", "-f").err == ""


def test_existing_results_are_refused_before_any_work_and_replaced_when_asked(one, photos: Path):
    Path("out").mkdir()
    Path("out/b.mlic").write_bytes(b"precious")
    assert one("encode", "photos", "-o", "out").error == (
        "mlic-run encode: out/b.mlic exists; --resume skips what is complete, --force overwrites"
    )
    assert names(Path("out")) == ["b.mlic"]
    assert one("encode", "photos", "-o", "out", "--force").code == 0
    assert Path("out/b.mlic").read_bytes() != b"precious"


def test_resume_does_what_is_missing_or_damaged_or_of_another_model(one, photos: Path, tmp_path: Path):
    for number in range(3):
        shutil.copy(photos / "a.png", photos / f"d{number}.png")
    assert one("encode", "photos", "-o", "out", "-r", "-q").code == 0
    whole = {name: Path("out", name).read_bytes() for name in files_in(Path("out"))}
    Path("out/a.mlic").unlink()
    Path("out/b.mlic").write_bytes(whole["b.mlic"][:-1])
    Path("out/d0.mlic").write_bytes(b"")
    flipped = bytearray(whole["d1.mlic"])
    flipped[40] ^= 4
    Path("out/d1.mlic").write_bytes(flipped)
    kept = Path("out/d2.mlic").stat().st_mtime_ns
    lines, summary = rows(one("encode", "photos", "-o", "out", "-r", "--resume", "--json").out)
    assert {Path(line["source"]).name: line["status"] for line in lines} == {
        "a.png": "done", "b.png": "done", "d0.png": "done", "d1.png": "done", "d2.png": "skipped", "c.png": "skipped"
    }  # fmt: skip
    assert {name: Path("out", name).read_bytes() for name in files_in(Path("out"))} == whole
    assert Path("out/d2.mlic").stat().st_mtime_ns == kept
    assert (summary["done"], summary["skipped"], summary["pixels"]) == (4, 2, 4 * WIDTH * HEIGHT)
    other = build_tiny_bundle(tmp_path / "other", seed=5)
    lines, _ = rows(one("encode", "photos", "-o", "out", "-r", "--resume", "--json", model=other).out)
    assert {line["status"] for line in lines} == {"done"}
    assert "skipped    6, complete from before" in one(
        "encode", "photos", "-o", "out", "-r", "--resume", model=other
    ).out  # fmt: skip


def test_resumed_decoding_opens_the_pictures_that_are_there(one, photos: Path):
    assert one("encode", "photos", "-o", "m", "-r", "-q").code == 0
    assert one("decode", "m", "-o", "back", "-r", "-q").code == 0
    whole = Path("back/a.png").read_bytes()
    Path("back/a.png").write_bytes(whole[:-3000])
    Image.new("RGB", (3, 3)).save("back/b.png")
    lines, _ = rows(one("decode", "m", "-o", "back", "-r", "--resume", "--json").out)
    assert [line["status"] for line in lines] == ["done", "done", "skipped"]
    assert Path("back/a.png").read_bytes() == whole
    lines, _ = rows(one("decode", "m", "-o", "back", "-r", "--resume", "--json", "--region", "0,0,20,10").out)
    assert [(line["status"], line["width"], line["height"]) for line in lines] == [("done", 20, 10)] * 3
    lines, _ = rows(one("decode", "m", "-o", "back", "-r", "--resume", "--json", "--region", "0,0,20,10").out)
    assert [(line["status"], line["width"]) for line in lines] == [("skipped", 20)] * 3


def test_single_file_can_be_resumed(one, picture: Path):
    assert one("encode", "a.png", "--resume", "--json").code == 0
    assert rows(one("encode", "a.png", "a.mlic", "--resume", "--json").out)[0][0]["status"] == "skipped"
    assert "a pipe cannot be gone on with" in one("encode", "-", "--resume").error


def test_resume_and_force_exclude_each_other(one, photos: Path):
    result = one("encode", "photos", "-o", "out", "--resume", "--force")
    assert result.code == 2
    assert "--resume keeps what is complete" in result.err


def test_several_inputs_need_an_output_folder(one, photos: Path):
    result = one("encode", "a.png", "b.png", "c.png")
    assert result.code == 2
    assert "3 inputs; name a folder for the results" in result.err


def test_output_option_names_a_file_or_a_folder(one, picture: Path, stream: Path):
    assert one("encode", "a.png", "-o", "x.mlic").out.startswith("x.mlic: 100x75")
    assert one("encode", "a.png", "-o", "new/", "-q").code == 0
    Path("there").mkdir()
    assert one("encode", "a.png", "-o", "there", "-q").code == 0
    assert one("decode", "s.mlic", "x.mlic", "-o", "pictures", "-q", "--format", "jpg").code == 0
    assert (names(Path("new")), names(Path("there"))) == (["a.mlic"], ["a.mlic"])
    assert names(Path("pictures")) == ["s.jpg", "x.jpg"]
    with Image.open("pictures/s.jpg") as image:
        assert image.format == "JPEG"


def test_format_names_what_the_output_does_not(one, stream: Path):
    assert one("decode", "s.mlic", "--format", "webp").out.startswith("s.webp: 100x75")
    assert one("decode", "s.mlic", "s.JPG", "--format", "jpg").code == 0
    assert one("decode", "s.mlic", "s.png", "--format", "jpg").error == (
        "mlic-run decode: s.png: --format jpg says another format; leave it out"
    )
    assert "no format for suffix '.gif'" in one("decode", "s.mlic", "-o", "new/", "--format", "gif").error


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("encode", "photos"), "photos is a folder; name one for its results with -o FOLDER, or name a file"),
        (("encode", "photos", "out"), "photos is a folder; name one for its results with -o FOLDER, or name a file"),
        (("encode", "empty", "-o", "out"), "no pictures in empty"),
        (("decode", "photos", "-o", "out"), "no .mlic files in photos; --recursive looks into folders within"),
        (("encode", "photos", "no.png", "-o", "out"), "no.png: no such file or folder"),
        (("encode", "photos", "-o", "a.png"), "a.png is a file; expected a folder"),
    ],
)
def test_likely_mistake_is_one_line(arguments: tuple[str, ...], problem: str, one, photos: Path, picture: Path):
    Path("empty").mkdir()
    before = files_in(Path())
    assert one(*arguments).error == f"mlic-run {arguments[0]}: {problem}"
    assert files_in(Path()) == before
    assert not Path("out").exists()


def test_wrong_model_is_one_error_and_not_one_for_each_file(one, photos: Path):
    for name in ("encode", "decode"):
        if name == "decode":
            shutil.copytree(
                photos, "m", copy_function=lambda _, target: Path(target).with_suffix(".mlic").write_bytes(b"")
            )
        assert (
            "there is no such folder" in one(name, "m" if name == "decode" else "photos", "-o", "out", model="no").error
        )


def test_worker_that_is_killed_fails_its_file_and_leaves_nothing_half(
    one, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copy(photos / "a.png", photos / "kill.png")
    shutil.copy(photos / "a.png", photos / "last.png")
    monkeypatch.setattr(batch, "FileWorker", Mortal)
    result = one("encode", "photos", "-o", "out")
    assert result.code == 1
    assert result.err.splitlines() == [
        "mlic-run encode: photos/kill.png: its worker was ended by SIGKILL, perhaps for want of memory; "
        "fewer --jobs take less",
        "mlic-run encode: 1 of 4 files failed",
    ]
    assert names(Path("out")) == ["a.mlic", "b.mlic", "last.mlic"]


def test_folder_that_cannot_be_listed_is_a_failure(one, photos: Path, monkeypatch: pytest.MonkeyPatch):
    plan = batch.Plan(problems=[(Path("photos/shut"), "Permission denied")])
    settings = batch.Settings("encode")
    with pytest.raises(batch.MlicError, match=r"^1 of 1 files failed$"):
        batch.run_batch(plan, settings, 1, as_json=False, quiet=True)


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupt_ends_workers_keeps_what_is_done_and_says_how_much(
    jobs: int, tmp_path: Path, make_photo, bundle_folder: Path
):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(make_photo(300, 400)).save(folder / "000.png")
    for number in range(1, 200):
        os.link(folder / "000.png", folder / f"{number:03}.png")
    arguments = ("encode", "photos", "-o", "out", "--json", "-j", jobs, "--threads", 1, "--model", bundle_folder)
    with subprocess.Popen(
        command("mlic-run", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment(),
        start_new_session=True,  # a group of its own, as a terminal gives it
        bufsize=0,  # what ``readline`` took too much would be missing below
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 130
    said, last = err.decode().splitlines()
    assert last == "mlic-run encode: interrupted"
    done = int(re.fullmatch(r"mlic-run encode: (\d+) of 200 files are done; --resume goes on .*", said)[1])
    lines, summary = rows((first + rest).decode())
    assert len(lines) == done == summary["done"]
    assert 1 <= done < 200
    written = [path.name for path in (tmp_path / "out").iterdir()]  # temporaries would be among them
    assert {Path(line["output"]).name for line in lines} <= set(written)
    assert len(written) <= done + jobs  # a file may be written whose worker could not say so any more
    assert all(re.fullmatch(r"\d{3}\.mlic", name) for name in written)
    wait_until(lambda: not group_runs(process.pid))


def test_workers_are_deaf_to_ctrl_c_from_the_start(photos: Path, tmp_path: Path, bundle_folder: Path):
    arguments = ("encode", "photos", "-o", "out", "-j", 1, "--threads", 1, "--model", bundle_folder)
    with subprocess.Popen(
        command("mlic-run", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment()
    ) as process:
        wait_until(lambda: workers_of(process.pid))
        for worker in workers_of(process.pid):
            while process.poll() is None:  # over and over, while it starts and while it works
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGINT)
                time.sleep(0.01)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_terminal_sees_a_bar_and_the_pipe_gets_the_lines(photos: Path, bundle_folder: Path, tmp_path: Path):
    arguments = ["encode", "photos", "--threads", 1, "-j", 1, "--model", bundle_folder, "-o"]
    status, seen, piped = on_terminal(command("mlic-run", *arguments, "a", "--json"), subprocess.PIPE, tmp_path)
    assert status == 0
    assert "━" in seen
    assert "2/2" in seen
    assert [line["output"] for line in rows(piped.decode())[0]] == ["a/a.mlic", "a/b.mlic"]
    status, seen, _ = on_terminal(command("mlic-run", *arguments, "b"), None, tmp_path)
    assert status == 0
    assert "2 encoded" in seen
    status, seen, _ = on_terminal(command("mlic-run", *arguments, "c", "-q"), None, tmp_path)
    assert (status, seen) == (0, "")


def test_one_process_for_each_processor_unless_they_have_more_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch, "usable_cpus", lambda: 8)
    assert batch.default_jobs("auto", 100) == 8
    assert batch.default_jobs("auto", 3) == 3
    assert batch.default_jobs("auto", 100, threads=3) == 2
    assert batch.default_jobs("auto", 100, threads=9) == 1
    assert batch.default_jobs("cuda", 100) == 1
    assert [batch.default_threads(jobs) for jobs in (1, 3, 8, 20)] == [8, 2, 1, 1]
    monkeypatch.setattr(batch, "usable_cpus", lambda: 64)
    assert batch.default_jobs("auto", 100) == 16


def test_interrupted_before_the_first_file_is_done_says_none(
    one, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupt(*_: object):
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "run_in_workers", interrupt)
    result = one("encode", "photos", "-o", "out")
    assert result.code == 130
    assert result.err.splitlines()[0].startswith("mlic-run encode: 0 of 2 files are done;")
