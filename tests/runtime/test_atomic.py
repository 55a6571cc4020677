"""Files that are complete or not there."""

import errno
import os.path
import stat
from pathlib import Path

import pytest

from mlic.runtime.atomic import atomic_file, replace_folder, write_atomically


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_is_written(tmp_path):
    write_atomically(tmp_path / "a.bin", b"data")
    assert (tmp_path / "a.bin").read_bytes() == b"data"
    assert names(tmp_path) == ["a.bin"]


def test_an_existing_file_is_replaced_and_keeps_its_permissions(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_any_exception_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_file(path) as file:  # noqa: PT012 - both lines are the point
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_link_keeps_pointing_where_it_points(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "real").read_bytes() == b"new"


def test_a_device_is_written_directly():
    write_atomically("/dev/null", b"data")
    assert not os.path.isfile("/dev/null")  # noqa: PTH113


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "a.bin", b"data")


def test_a_long_name_works(tmp_path):
    for name in ("n" * 255, "\U0001f600" * 63):
        write_atomically(tmp_path / name, b"data")
        assert (tmp_path / name).read_bytes() == b"data"


def test_contents_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    seen = []

    def fsync(descriptor):
        seen.append((names(tmp_path), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "a.bin", b"data")
    ((there, size),) = seen
    assert size == 4  # what Python buffered was handed over
    assert "a.bin" not in there
    assert names(tmp_path) == ["a.bin"]


def test_a_disk_that_fails_to_keep_the_contents_is_reported(tmp_path, monkeypatch):
    def fsync(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomically(tmp_path / "a.bin", b"data")
    assert names(tmp_path) == []


def test_a_file_system_without_fsync_is_fine(tmp_path, monkeypatch):
    def fsync(_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "a.bin", b"data")
    assert names(tmp_path) == ["a.bin"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def no_space(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space") as caught:
        write_atomically(tmp_path / "a.bin", b"data")
    assert caught.value.filename == str(tmp_path / "a.bin")


@pytest.fixture
def two_folders(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"")
    return tmp_path / "old", tmp_path / "new"


def test_a_folder_takes_the_place_of_another(tmp_path, two_folders):
    replace_folder(*two_folders)
    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == ["new"]


@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_at_either_rename_leaves_one_of_the_two(tmp_path, two_folders, monkeypatch, moment, after):
    real, calls = Path.rename, []

    def rename(path, target):
        calls.append(path)
        if len(calls) == moment and not after:
            raise KeyboardInterrupt
        result = real(path, target)
        if len(calls) == moment:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(*two_folders)
    assert names(tmp_path / "old") in (["old"], ["new"])
