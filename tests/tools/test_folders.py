"""Which files of a folder are taken, and what their results are called."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mlic.runtime.errors import MlicError
from mlic.tools import folders
from mlic.tools.folders import Plan, others_text, plan_files, require_free


def touch(folder: Path, *names: str, data: bytes = b"") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def pairs(plan: Plan, folder: Path) -> dict[str, str]:
    return {
        str(job.source.relative_to(folder)): str(job.target.relative_to(folder)) for job in plan.jobs
    }  # in the plan's order


@pytest.fixture
def png() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_are_found_by_suffix_in_order_of_their_names_and_others_are_counted(tmp_path: Path):
    touch(tmp_path / "in", "b.PNG", "a.jpg", "Z.webp", "10.tif", "n.txt", "old.mlic", "m.m4v", "k.mpg", "x.txt")
    plan = plan_files([tmp_path / "in"], tmp_path / "out", ".mlic")
    assert list(pairs(plan, tmp_path).items()) == [
        ("in/10.tif", "out/10.mlic"),
        ("in/Z.webp", "out/Z.mlic"),
        ("in/a.jpg", "out/a.mlic"),
        ("in/b.PNG", "out/b.mlic"),
    ]
    assert plan.others == {".txt": 2, ".mlic": 1, ".mpg": 1, ".m4v": 1}
    assert others_text(plan) == "5 other files (.txt 2, .mpg 1, .m4v 1, .mlic 1)"


def test_decoding_takes_mlic_files_alone(tmp_path: Path):
    touch(tmp_path / "in", "b.mlic", "a.MLIC", "c.png")
    plan = plan_files([tmp_path / "in"], tmp_path / "out", ".jpg")
    assert pairs(plan, tmp_path) == {"in/a.MLIC": "out/a.jpg", "in/b.mlic": "out/b.jpg"}


def test_files_without_a_suffix_are_looked_into(tmp_path: Path, png: bytes):
    touch(tmp_path / "in", "photo", data=png)
    touch(tmp_path / "in", "stream", data=b"MLIC\1")
    touch(tmp_path / "in", "README", data=b"read me")
    assert pairs(plan_files([tmp_path / "in"], tmp_path, ".mlic"), tmp_path) == {"in/photo": "photo.mlic"}
    assert pairs(plan_files([tmp_path / "in"], tmp_path, ".png"), tmp_path) == {"in/stream": "stream.png"}


def test_hidden_files_and_folders_are_passed_over_unless_they_are_named(tmp_path: Path):
    touch(tmp_path / "in", ".a.png", "._b.png", ".git/c.png", "d.png")
    plan = plan_files([tmp_path / "in"], tmp_path / "out", ".mlic", recursive=True)
    assert (pairs(plan, tmp_path), plan.others) == ({"in/d.png": "out/d.mlic"}, {})
    named = plan_files([tmp_path / "in/.a.png", tmp_path / "in/.git"], tmp_path / "out", ".mlic")
    assert pairs(named, tmp_path) == {"in/.a.png": "out/.a.mlic", "in/.git/c.png": "out/c.mlic"}


def test_folders_within_are_entered_only_when_asked_and_keep_their_places(tmp_path: Path):
    touch(tmp_path / "in", "b.png", "a/c.png", "a/deep/b.png", "z/b.png")
    assert pairs(plan_files([tmp_path / "in"], tmp_path / "out", ".mlic"), tmp_path) == {"in/b.png": "out/b.mlic"}
    assert list(pairs(plan_files([tmp_path / "in"], tmp_path / "out", ".mlic", recursive=True), tmp_path).items()) == [
        ("in/a/c.png", "out/a/c.mlic"),
        ("in/a/deep/b.png", "out/a/deep/b.mlic"),
        ("in/b.png", "out/b.mlic"),
        ("in/z/b.png", "out/z/b.mlic"),
    ]


def test_results_within_the_folder_are_not_read_again(tmp_path: Path):
    touch(tmp_path, "a.png", "sub/b.png", "out/a.png", "out/sub/b.png", "other/out/c.png")
    plan = plan_files([tmp_path], tmp_path / "out", ".mlic", recursive=True)
    assert list(pairs(plan, tmp_path)) == ["a.png", "other/out/c.png", "sub/b.png"]
    beside = plan_files([tmp_path / "sub"], tmp_path / "sub", ".mlic")
    assert pairs(beside, tmp_path) == {"sub/b.png": "sub/b.mlic"}


def test_links_to_folders_are_counted_and_loops_end(tmp_path: Path):
    touch(tmp_path / "in", "a.png", "sub/b.png")
    (tmp_path / "in/sub/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/self").symlink_to(tmp_path / "in/self")
    (tmp_path / "in/self.png").symlink_to(tmp_path / "in/self.png")
    (tmp_path / "in/link.png").symlink_to(tmp_path / "in/a.png")
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "gone.png")
    plan = plan_files([tmp_path / "in"], tmp_path / "out", ".mlic", recursive=True)
    assert [job.source.name for job in plan.jobs] == ["a.png", "gone.png", "link.png", "self.png", "b.png"]
    assert plan.others["link"] == 1
    (tmp_path / "way").symlink_to(tmp_path / "in/sub")
    assert pairs(plan_files([tmp_path / "way"], tmp_path / "out", ".mlic"), tmp_path) == {"way/b.png": "out/b.mlic"}


def test_pipes_in_folders_are_not_opened(tmp_path: Path):
    touch(tmp_path / "in", "a.png")
    os.mkfifo(tmp_path / "in/pipe.png")
    os.mkfifo(tmp_path / "in/pipe")
    plan = plan_files([tmp_path / "in"], tmp_path / "out", ".mlic")
    assert [job.source.name for job in plan.jobs] == ["a.png"]
    assert plan.others == {".png": 1, "": 1}


def test_two_files_of_one_result_are_refused_before_any_work(tmp_path: Path):
    touch(tmp_path / "in", "a.png", "a.jpg", "b.png")
    with pytest.raises(MlicError) as caught:
        plan_files([tmp_path / "in"], Path("out"), ".mlic")
    assert str(caught.value) == (
        f"{tmp_path}/in/a.jpg and {tmp_path}/in/a.png would both be written as out/a.mlic; "
        "--keep-suffix tells them apart"
    )
    plan = plan_files([tmp_path / "in"], tmp_path / "out", ".mlic", keep_suffix=True)
    assert list(pairs(plan, tmp_path).values()) == ["out/a.jpg.mlic", "out/a.png.mlic", "out/b.png.mlic"]


def test_files_of_one_name_in_two_folders_are_refused(tmp_path: Path):
    touch(tmp_path, "x/a.png", "y/a.png")
    with pytest.raises(MlicError, match=r"would both be written as .*; give each an output folder of its own$"):
        plan_files([tmp_path / "x", tmp_path / "y/a.png"], tmp_path / "out", ".mlic", keep_suffix=True)


def test_file_that_is_named_twice_is_done_once(tmp_path: Path):
    touch(tmp_path, "x/a.png")
    plan = plan_files([tmp_path / "x", tmp_path / "x/a.png", tmp_path / "x/../x/a.png"], tmp_path / "out", ".mlic")
    assert len(plan.jobs) == 1


def test_result_that_would_replace_a_source_is_refused(tmp_path: Path):
    touch(tmp_path, "a.mlic", "a.mlic.png", data=b"MLIC")
    with pytest.raises(MlicError, match=r"a\.mlic\.png would replace a file that is to be read"):
        plan_files([tmp_path / "a.mlic", tmp_path / "a.mlic.png"], tmp_path, ".png", keep_suffix=True)


def test_nothing_to_do_is_an_error_that_says_what_was_found(tmp_path: Path):
    (tmp_path / "in").mkdir()
    with pytest.raises(MlicError, match=f"^no pictures in {tmp_path}/in$"):
        plan_files([tmp_path / "in"], tmp_path / "out", ".mlic")
    touch(tmp_path / "in", "a.heic", "b.heic")
    with pytest.raises(MlicError, match=r"^no \.mlic files in .*/in; found 2 other files \(\.heic 2\)$"):
        plan_files([tmp_path / "in"], tmp_path / "out", ".png")
    touch(tmp_path / "in", "sub/a.png")
    with pytest.raises(MlicError, match=r"^no pictures in .*/in; --recursive looks into folders within$"):
        plan_files([tmp_path / "in"], tmp_path / "out", ".mlic")


def test_missing_source_and_output_that_is_a_file_are_refused(tmp_path: Path):
    touch(tmp_path, "a.png", "out")
    with pytest.raises(MlicError, match=r"no\.png: no such file or folder$"):
        plan_files([tmp_path / "a.png", tmp_path / "no.png"], tmp_path / "new", ".mlic")
    with pytest.raises(MlicError, match=r"out is a file; expected a folder$"):
        plan_files([tmp_path / "a.png"], tmp_path / "out", ".mlic")


def test_folder_that_cannot_be_listed_is_a_problem_and_the_others_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    touch(tmp_path / "in", "a.png", "shut/b.png", "z/c.png")
    real = os.scandir

    def scandir(path: Path):
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)  # the tests may run as root, whom nothing is denied
    plan = plan_files([tmp_path / "in"], tmp_path / "out", ".mlic", recursive=True)
    assert [job.source.name for job in plan.jobs] == ["a.png", "c.png"]
    assert plan.problems == [(tmp_path / "in/shut", "Permission denied")]


def test_existing_results_are_refused_with_their_number(tmp_path: Path):
    touch(tmp_path, "in/a.png", "in/b.png", "in/c.png")
    jobs = plan_files([tmp_path / "in"], tmp_path / "out", ".mlic").jobs
    require_free(jobs)
    touch(tmp_path, "out/b.mlic")
    with pytest.raises(MlicError, match=r"/out/b\.mlic exists; --resume skips what is complete, --force overwrites$"):
        require_free(jobs)
    touch(tmp_path, "out/c.mlic")
    with pytest.raises(MlicError, match=r"/out/b\.mlic and 1 more results exist;"):
        require_free(jobs)
