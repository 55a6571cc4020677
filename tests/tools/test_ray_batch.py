"""Many pictures with Ray: on a local cluster of two workers, one of which is killed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'mlic-deploy[ray]'")

import pyarrow as pa  # noqa: E402 - Ray brings it
import pyarrow.parquet as pq  # noqa: E402

from mlic.runtime import Codec  # noqa: E402
from mlic.tools import ray_batch  # noqa: E402
from mlic.tools.ray_storage import Place  # noqa: E402
from mlic.tools.ray_worker import part_name, result_name  # noqa: E402
from tests.commands import HEIGHT, WIDTH, Result  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=40, object_store_memory=100 << 20
        )
        yield
        ray.shutdown()


@pytest.fixture
def batch(cluster: None, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the tool in a folder of its own, on the miniature bundle with two workers."""
    monkeypatch.chdir(tmp_path)

    def batch(*arguments: object) -> Result:
        fixed = ["--model", bundle_folder, "--num-workers", 2, "--rows-per-file", 2]
        result = CliRunner().invoke(ray_batch.app, [*map(str, arguments), *map(str, fixed)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return batch


@pytest.fixture
def photos(tmp_path: Path, make_photo: Callable[..., np.ndarray]) -> dict[str, np.ndarray]:
    """Ten pictures in a folder ``photos``, some in a folder within, by name."""
    names = [f"{number}.png" for number in range(6)] + [f"sub/{number}.png" for number in range(3)] + ["kill.png"]
    found = {name: make_photo(HEIGHT, WIDTH, seed) for seed, name in enumerate(names)}
    (tmp_path / "photos/sub").mkdir(parents=True)
    for name, pixels in found.items():
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    return found


def rows_of(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def summary_of(result: Result) -> tuple[int, int, int, int]:
    found = json.loads(result.out)
    return found["files"], found["done"], found["skipped"], found["failed"]


def test_worker_that_is_killed_loses_nothing_and_a_second_run_does_what_is_new(
    batch, photos, codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_photo
):
    from tests.tools.ray_tasks import Deadly

    note = tmp_path / "note.once"
    Path("photos/note.txt").write_text(str(note))
    monkeypatch.setattr(ray_batch, "RayWorker", Deadly)
    result = batch("encode", "photos", "out", "--json")
    assert (result.code, summary_of(result)) == (0, (10, 10, 0, 0))
    assert note.read_text() == "killed"
    rows = rows_of(tmp_path / "out")
    assert sorted(row["path"] for row in rows) == sorted(photos)
    for row in rows:
        data = codec.encode(photos[row["path"]])
        assert row == {
            "path": row["path"],
            "bytes": data,
            "width": WIDTH,
            "height": HEIGHT,
            "bpp": 8 * len(data) / (WIDTH * HEIGHT),
            "error": None,
        }
    before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert len(before) == 5  # two pictures each, no temporary file
    assert summary_of(batch("encode", "photos", "out", "--json")) == (10, 0, 10, 0)
    Image.fromarray(make_photo(HEIGHT, WIDTH, 77)).save("photos/new.png")
    assert summary_of(batch("encode", "photos", "out", "--json")) == (11, 1, 10, 0)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(rows_of(tmp_path / "out")) == 11


def test_picture_that_kills_every_worker_is_given_up_and_the_others_are_done(
    batch, photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from tests.tools.ray_tasks import Deadly

    Path("photos/note.txt").write_text(str(tmp_path / "note.always"))
    monkeypatch.setattr(ray_batch, "RayWorker", Deadly)
    monkeypatch.setattr(ray_batch, "TASK_RETRIES", 1)
    result = batch("encode", "photos", "out")
    last = result.err.splitlines()[-1]
    assert (result.code, result.out) == (1, "")
    assert last.startswith("ray_batch: 2 of 10 pictures were given up, since each worker that took them died;")
    assert len(rows_of(tmp_path / "out")) == 8


def test_failures_are_rows_and_are_done_again_when_asked(batch, photos, tmp_path: Path, codec: Codec):
    good = Path("photos/3.png").read_bytes()
    Path("photos/3.png").write_bytes(good[:-3000])
    result = batch("encode", "photos", "out", "--json")
    assert (result.code, summary_of(result)) == (1, (10, 9, 0, 1))
    assert result.err.splitlines()[0].startswith("ray_batch: 3.png: ")
    (failed,) = [row for row in rows_of(tmp_path / "out") if row["error"]]
    assert (failed["path"], failed["bytes"], failed["width"]) == ("3.png", None, None)
    assert "cannot be decoded" in failed["error"]
    Path("photos/3.png").write_bytes(good)
    assert summary_of(batch("encode", "photos", "out", "--json")) == (10, 0, 10, 0)
    assert summary_of(batch("encode", "photos", "out", "--json", "--retry-failed")) == (10, 1, 9, 0)
    rows = {row["path"]: row for row in rows_of(tmp_path / "out")}
    assert len(rows) == len(rows_of(tmp_path / "out")) == 10
    assert rows["3.png"]["bytes"] == codec.encode(photos["3.png"])


def test_parquet_is_decoded_to_files_and_gone_on_with(batch, photos, tmp_path: Path, codec: Codec):
    streams = {f"{name}.mlic": codec.encode(photos[name]) for name in ("0.png", "1.png", "sub/2.png")}
    bad = {"../up.mlic": streams["0.png.mlic"], "none.mlic": None, "cut.mlic": streams["1.png.mlic"][:-9]}
    table = pa.table(
        {
            "name": [*streams, *bad],
            "image": [{"bytes": data, "path": "x"} for data in [*streams.values(), *bad.values()]],
            "label": [1] * 6,
        }
    )
    Path("in").mkdir()
    pq.write_table(table, "in/a.parquet", row_group_size=4)
    arguments = ("--output", "files", "--path-column", "name", "--bytes-column", "image", "--json")
    result = batch("decode", "in", f"file://{tmp_path}/out", *arguments)
    assert (result.code, summary_of(result)) == (1, (6, 3, 0, 3))
    for name, data in streams.items():
        with Image.open(Path("out", name.removesuffix(".mlic") + ".png")) as image:
            assert np.array_equal(np.asarray(image), codec.decode(data))
    errors = {row["path"]: row["error"] for row in rows_of(tmp_path / "out/_failed")}
    assert set(errors) == set(bad)
    assert "expected a relative path" in errors["../up.mlic"]
    assert "no bytes in column image" in errors["none.mlic"]
    assert not Path("up.png").exists()
    assert summary_of(batch("decode", "in", "out", *arguments)) == (6, 0, 6, 0)
    Path("out/1.png.png").unlink()
    assert summary_of(batch("decode", "in", "out", *arguments)) == (6, 1, 5, 0)
    assert "no column path; found name, image, label" in batch("decode", "in", "out2").error


def test_archive_is_read_by_fsspec(batch, photos, tmp_path: Path, codec: Codec):
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for name in ("0.png", "sub/1.png"):
            archive.write(Path("photos", name), name)
    result = batch("encode", f"zip://::file://{tmp_path}/photos.zip", "out", "--output", "files", "--json")
    assert (result.code, summary_of(result)) == (0, (2, 2, 0, 0))
    assert Path("out/sub/1.png.mlic").read_bytes() == codec.encode(photos["sub/1.png"])


def test_likely_mistakes_are_one_line(batch, photos, tmp_path: Path):
    Path("empty").mkdir()
    for arguments, problem in (
        (("encode", "empty", "out"), "no pictures in "),
        (("decode", "photos", "out"), "no .mlic in "),
        (("encode", "photos/0.png", "out"), "photos/0.png is a file; expected a folder, or a .parquet file"),
        (("encode", "empty", "out", "--input", "parquet"), "no Parquet with rows in "),
        (("encode", "nothing://x", "out"), "nothing://x: "),
        (("decode", "photos", "out", "--format", "gif"), "--format: no format for suffix '.gif'"),
    ):
        assert batch(*arguments).error.startswith(f"ray_batch: {problem}")
    assert not Path("out").exists()


def test_places_on_any_file_system_write_read_and_list(tmp_path: Path):
    for location in (str(tmp_path / "a"), f"file://{tmp_path}/b", "memory://c"):
        place = Place.of(location)
        assert place.files() == []
        (place / "x/one.bin").write(b"one")
        (place / "two.parquet").write_table(pa.table({"path": ["a", "b"], "n": [1, 2]}))
        (place / "_failed/three.bin").write(b"")
        assert place.files() == ["two.parquet", "x/one.bin"]
        assert (place / "x/one.bin").read() == b"one"
        assert (place / "two.parquet").read_table(["path"]).column("path").to_pylist() == ["a", "b"]
        assert (place / "two.parquet").num_rows == 2
        assert (place / "two.parquet").is_file
        (place / "two.parquet").remove()
        assert not (place / "two.parquet").is_file
    (tmp_path / "bad.parquet").write_bytes(b"bad")
    with pytest.raises(OSError, match=r"bad\.parquet"):
        (Place.of(str(tmp_path)) / "bad.parquet").read_table(["path"])


def test_failed_write_leaves_nothing(tmp_path: Path):
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="directory"):
        Place.of(str(tmp_path / "there")).write(b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_names_of_results_stay_in_their_folder_and_differ():
    assert result_name("a/b.png", ".mlic") == "a/b.png.mlic"
    assert result_name("a/./b.mlic", ".png") == "a/b.png"
    assert result_name("a.png", ".mlic") != result_name("a.jpg", ".mlic")
    for path in ("/a.png", "../a.png", "a/../../b.png", "s3://bucket/a.png", "", "."):
        with pytest.raises(ValueError, match="expected a relative path"):
            result_name(path, ".mlic")
    assert part_name(["a", "b"]) == part_name(["a", "b"]) != part_name(["ab"])
