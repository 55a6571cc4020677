"""Opening a bundle."""

import shutil
import zipfile

import numpy as np
import pytest

from mlic.runtime.bundle import Bundle
from mlic.runtime.bundle_files import sha256_of
from tests.runtime.damaged_bundle import edit, refused


@pytest.fixture
def folder(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "copy")


def test_a_bundle_is_opened(folder):
    bundle = Bundle.open(str(folder))
    assert bundle.manifest.name == "tiny-0"
    assert len(bundle.entropy.y) == 16
    assert bundle.path_of(bundle.manifest.graphs["g_s"]) == folder / "onnx" / "g_s.onnx"


def test_a_missing_folder_and_a_missing_manifest(folder, tmp_path):
    refused(tmp_path / "none", "there is no such folder")
    refused(folder / "manifest.json", "there is no such folder")
    (folder / "manifest.json").unlink()
    refused(folder, "there is no manifest.json in it; name a folder that mlic-export made")


def test_missing_files_are_listed_together(folder):
    for name in ("step_01", "g_s"):
        (folder / "onnx" / f"{name}.onnx").unlink()
    refused(folder, "bundle tiny-0: missing onnx/step_01.onnx, onnx/g_s.onnx")


def test_changed_files_are_listed_together(folder):
    for name in ("h_s", "finish"):
        path = folder / "onnx" / f"{name}.onnx"
        path.write_bytes(path.read_bytes() + b"\0")
    refused(folder, "SHA-256 differs from the manifest's: onnx/h_s.onnx, onnx/finish.onnx")
    assert Bundle.open(folder, verify_hashes=False)


@pytest.mark.parametrize("path", ["../g_a.onnx", "/etc/passwd", "onnx/../../x", "", "onnx\\g_a.onnx", "a\0b"])
def test_paths_may_not_leave_the_folder(folder, path):
    before = (folder / "manifest.json").read_text()
    for change in ({"path": path}, {"symmetric": {"path": path, "sha256": "0" * 64}}):
        (folder / "manifest.json").write_text(before)
        edit(folder, lambda value, change=change: value["graphs"][0].update(change))
        refused(folder, "paths lead out of the folder|is missing|path is")


def test_symmetric_forms_are_checked_like_plain_ones(int8_folder, tmp_path):
    folder = shutil.copytree(int8_folder, tmp_path / "copy")
    bundle = Bundle.open(folder)
    assert bundle.path_of(bundle.manifest.graphs["g_a"]) == folder / "onnx" / "g_a.onnx"
    (folder / "onnx" / "g_a.symmetric.onnx").write_bytes(b"changed")
    refused(folder, "SHA-256 differs from the manifest's: onnx/g_a.symmetric.onnx$")
    assert Bundle.open(folder, verify_hashes=False)
    (folder / "onnx" / "g_s.symmetric.onnx").unlink()
    (folder / "onnx" / "h_s.onnx").unlink()
    refused(folder, "missing onnx/h_s.onnx, onnx/g_s.symmetric.onnx$")


def test_one_file_may_not_have_two_hashes(folder):
    edit(folder, lambda value: value["graphs"][0].update(symmetric={"path": "onnx/g_a.onnx", "sha256": "0" * 64}))
    refused(folder, "SHA-256 differs from the manifest's: onnx/g_a.onnx$")


def test_a_link_may_not_leave_the_folder(folder, tmp_path):
    outside = tmp_path / "outside.onnx"
    shutil.move(folder / "onnx" / "g_a.onnx", outside)
    (folder / "onnx" / "g_a.onnx").symlink_to(outside)
    refused(folder, "paths lead out of the folder: onnx/g_a.onnx")


def test_a_link_to_the_folder_itself_is_fine(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert Bundle.open(tmp_path / "link")


def test_a_newer_format_is_refused(folder):
    edit(folder, lambda value: value.update(format_version=2))
    refused(folder, "format version 2; this reader knows 1 to 1")


def test_an_unknown_arithmetic_is_refused(folder):
    edit(folder, lambda value: value.update(arithmetic="decimal"))
    refused(folder, "bundle tiny-0: arithmetic 'decimal'; this reader knows float32-syndrome, integer")


def test_wiring_is_checked(folder):
    edit(folder, lambda value: value["steps"].pop())
    refused(folder, "2 channels of y are not filled exactly once at anchors")


def rewrite_tables(folder, **changes):
    path = folder / "tables.npz"
    with np.load(path) as arrays:
        tables = dict(arrays) | changes
    np.savez(path, **tables)
    edit(folder, lambda value: value["tables"].update(sha256=sha256_of(path)))


def test_tables_are_checked(folder):
    rewrite_tables(folder, scale_table=np.zeros(16, np.float32))
    refused(folder, "bundle tiny-0: tables: scale_table is not positive")


def test_tables_and_manifest_have_the_same_channels(folder):
    keep = {f"z_{what}": np.load(folder / "tables.npz")[f"z_{what}"][:3] for what in ("lengths", "offsets")}
    total = int(keep["z_lengths"].sum())
    frequencies = np.load(folder / "tables.npz")["z_frequencies"][:total]
    rewrite_tables(folder, **keep, z_frequencies=frequencies, medians=np.zeros(3, np.float32))
    refused(folder, "tables have 3 rows of z; the manifest has 4 channels")


def test_pickles_are_not_loaded(folder):
    rewrite_tables(folder, scale_table=np.array([{}], dtype=object))
    refused(folder, "cannot read tables.npz: Object arrays cannot be loaded")


def test_a_member_that_is_no_array_is_as_good_as_none(folder):
    path = folder / "tables.npz"
    with np.load(path) as arrays:
        tables = dict(arrays)
    del tables["medians"]
    np.savez(path, **tables)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("medians.npy", b"no array")
    edit(folder, lambda value: value["tables"].update(sha256=sha256_of(path)))
    refused(folder, "medians is missing")


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(40), b"\x93NUMPY"])
def test_what_is_no_npz_is_refused(folder, data):
    (folder / "tables.npz").write_bytes(data)
    edit(folder, lambda value: value["tables"].update(sha256=sha256_of(folder / "tables.npz")))
    refused(folder, "cannot read tables.npz")


def test_a_flipped_byte_inside_the_tables_is_refused(folder):
    data = bytearray((folder / "tables.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "tables.npz").write_bytes(data)
    refused(folder, "SHA-256 differs")
    edit(folder, lambda value: value["tables"].update(sha256=sha256_of(folder / "tables.npz")))
    refused(folder, "tables")
