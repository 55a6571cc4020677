"""What one Ray worker does with a block of rows: read, encode or decode, write, and tell how it went."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from mlic.tools.file_jobs import Coder, Settings, failure_text, recorded_warnings
from mlic.tools.folders import SUFFIX
from mlic.tools.ray_storage import Place

FAILED = "_failed"  # the folder for rows that failed where results are files; readers pass over such names

RESULT_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "bytes": pa.large_binary(),
        "width": pa.int32(),
        "height": pa.int32(),
        "bpp": pa.float64(),
        "error": pa.string(),
    }
)
STATUS_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "status": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "bytes_in": pa.int64(),
        "bytes_out": pa.int64(),
        "seconds": pa.float64(),
        "error": pa.string(),
        "warnings": pa.list_(pa.string()),
    }
)


@dataclass(frozen=True)
class Work:
    """What all workers share.

    Attributes:
        settings: of the codec.
        source: folder that the paths belong to; None where pictures lie in Parquet.
        tables: the folder or file of Parquet; None where pictures are files.
        dest: folder of the results.
        output: ``parquet`` or ``files``.
        suffix: of pictures and of files.
        path_column: what tells rows apart, where they come from Parquet.
        bytes_column: contents of the files there, or a struct with a field ``bytes``.
        rows: of a block, which is written as one.
    """

    settings: Settings
    source: Place | None
    tables: Place | None
    dest: Place
    output: Literal["parquet", "files"]
    suffix: str
    path_column: str = "path"
    bytes_column: str = "bytes"
    rows: int = 32


@dataclass(frozen=True)
class Done:
    """What need not be done.

    Attributes:
        paths: of rows in the Parquet of the destination.
        names: of results that are files, relative to the destination.
    """

    paths: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def has(self, path: str, work: Work) -> bool:
        """Say whether a path has a result, or failed, before."""
        if path in self.paths:
            return True
        with contextlib.suppress(ValueError):  # the name will be refused when it is its turn
            return work.output == "files" and result_name(path, work.suffix) in self.names
        return False


def result_name(path: str, suffix: str) -> str:
    """Return the name of a result that is a file: no two paths give the same.

    Args:
        path: of the source, relative.
        suffix: of the result.

    Raises:
        ValueError: the path is absolute, leads out of its folder, or is an address.
    """
    if not path or path.startswith("/") or "://" in path or posixpath.normpath(path).split("/")[0] in ("..", "."):
        raise ValueError(f"{path!r} is no name of a file within a folder; expected a relative path")
    return posixpath.normpath(path.removesuffix(SUFFIX)) + suffix


def part_name(paths: Sequence[str]) -> str:
    """Return the name of the Parquet file with these rows: the same ones, done again, replace what they had."""
    return f"part-{hashlib.sha256(chr(0).join(paths).encode('utf-8', 'surrogateescape')).hexdigest()[:20]}.parquet"


class RayWorker:
    """An actor: holds a codec, takes blocks of rows and gives rows of ``STATUS_SCHEMA``.

    Results are written here, block by block, so that what was done before a stop is there afterwards. Ray gives the
    block of a worker that died to another one; what was written of it is not done again.

    Args:
        work: what all workers share.
        done: reference to a ``Done``.
    """

    def __init__(self, work: Work, done: ray.ObjectRef[Any]) -> None:
        self._work = work
        self._done: Done = ray.get(done)
        self._coder = Coder(work.settings)

    def __call__(self, items: pa.Table) -> Iterator[pa.Table]:
        """Do what the items name, block by block; what goes wrong with a row becomes its ``error``.

        Args:
            items: a path a row, or, where pictures lie in Parquet, ``file`` and ``row_group``.

        Yields:
            Rows of ``STATUS_SCHEMA``.
        """
        if self._work.source is not None:
            yield self._block(items.column("path").to_pylist())
            return
        for item in items.to_pylist():
            for paths, values in self._rows_of(item["file"], item["row_group"]):
                yield self._block(paths, values)

    def _rows_of(self, file: str, row_group: int) -> Iterator[tuple[list[str], list[Any]]]:
        """Yield paths and contents of a row group, ``rows`` at a time."""
        work = self._work
        assert work.tables is not None
        columns = [work.path_column, work.bytes_column]
        with work.tables.system.open_input_file(file) as opened:
            groups = pq.ParquetFile(opened).iter_batches(work.rows, row_groups=[row_group], columns=columns)
            for group in groups:
                yield [str(path) for path in group.column(columns[0]).to_pylist()], group.column(columns[1]).to_pylist()

    def _block(self, paths: Sequence[str], values: Sequence[Any] | None = None) -> pa.Table:
        """Do some rows, write their results, and return how it went."""
        work = self._work
        before = [self._done.has(path, work) for path in paths]
        numbers = [number for number, has in enumerate(before) if not has]
        statuses = [{"path": path, "status": "skipped"} for path, has in zip(paths, before, strict=True) if has]
        if not numbers:
            return pa.Table.from_pylist(statuses, STATUS_SCHEMA)
        part = (work.dest if work.output == "parquet" else work.dest / FAILED) / part_name([paths[i] for i in numbers])
        if work.output == "parquet" and part.is_file:
            statuses += _told_again(part.read_table([name for name in RESULT_SCHEMA.names if name != "bytes"]))
            return pa.Table.from_pylist(statuses, STATUS_SCHEMA)
        results = []
        for number in numbers:
            result, status = self._row(paths[number], None if values is None else values[number])
            results.append(result)
            statuses.append(status)
        if work.output == "parquet":
            part.write_table(pa.Table.from_pylist(results, RESULT_SCHEMA))
        elif failed := [result for result in results if result["error"] is not None]:
            part.write_table(pa.Table.from_pylist(failed, RESULT_SCHEMA))
        return pa.Table.from_pylist(statuses, STATUS_SCHEMA)

    def _row(self, path: str, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a row of ``RESULT_SCHEMA``, without bytes if they are in a file, and one of ``STATUS_SCHEMA``."""
        start = time.perf_counter()
        result: dict[str, Any] = {"path": path}
        status: dict[str, Any] = {"path": path, "status": "done"}
        with recorded_warnings(path) as warned:
            try:
                target = None
                if self._work.output == "files":
                    target = self._work.dest / result_name(path, self._work.suffix)
                data = self._contents(path, value)
                coded, width, height = self._code(data)
                mlic_size = len(coded) if self._work.settings.command == "encode" else len(data)
                result |= {"width": width, "height": height, "bpp": 8 * mlic_size / (width * height)}
                status |= {"width": width, "height": height, "bytes_in": len(data), "bytes_out": len(coded)}
                if target is None:
                    result["bytes"] = coded
                else:
                    target.write(coded)
            except Exception as error:  # of one row of millions
                result = {"path": path, "error": failure_text(error, path)}
                status |= {"status": "failed", "error": result["error"]}
        return {"error": None} | result, status | {"seconds": time.perf_counter() - start, "warnings": warned}

    def _contents(self, path: str, value: Any) -> bytes:
        if self._work.source is not None:
            return (self._work.source / path).read()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ValueError(f"no bytes in column {self._work.bytes_column}")
        return data

    def _code(self, data: bytes) -> tuple[bytes, int, int]:
        """Return the result of a file, and the picture's width and height."""
        if self._work.settings.command == "encode":
            return self._coder.encode(BytesIO(data))
        from mlic.runtime.image_files import write_image  # noqa: PLC0415 - loads Pillow

        pixels, metadata = self._coder.decode(data)
        buffer = BytesIO()
        write_image(buffer, pixels, metadata, self._work.suffix)
        return buffer.getvalue(), pixels.shape[1], pixels.shape[0]


def _told_again(table: pa.Table) -> list[dict[str, Any]]:
    """Return the status of rows that were written by a worker that died before it could tell."""
    return [
        {
            "path": row["path"],
            "status": "failed" if row["error"] is not None else "skipped",
            "width": row["width"],
            "height": row["height"],
            "error": row["error"],
        }
        for row in table.to_pylist()
    ]
