"""Where a run over many machines reads and writes: any file system that Arrow or fsspec knows."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from mlic.runtime.errors import MlicError


@dataclass(frozen=True)
class Place:
    """A file or folder on a file system; can be sent to other machines.

    Attributes:
        system: the file system.
        path: on it, without a slash at the end.
    """

    system: fs.FileSystem
    path: str

    @classmethod
    def of(cls, location: str) -> Place:
        """Return the place that a path or an address names.

        Args:
            location: a path, an address that Arrow opens (``file:``, ``s3:``, ``gs:``, ``hdfs:``), or one that fsspec
                opens, such as ``zip://photos::file:///archive.zip``.

        Raises:
            MlicError: neither knows it, or the package for it is not installed.
        """
        try:
            if "::" not in location and urlsplit(location).scheme in ("", "file", "s3", "gs", "hdfs"):
                if "://" not in location:
                    location = posixpath.abspath(location)
                system, path = fs.FileSystem.from_uri(location)
            else:
                from fsspec.core import url_to_fs  # noqa: PLC0415 - comes with ray[data]

                opened, path = url_to_fs(location)
                system = fs.PyFileSystem(fs.FSSpecHandler(opened))
        except (ValueError, ImportError, OSError, pa.ArrowException) as error:
            raise MlicError(f"{location}: {' '.join(str(error).split())}") from error
        return cls(system, path.rstrip("/") or path)

    def __truediv__(self, name: str) -> Place:
        return Place(self.system, f"{self.path}/{name}" if self.path else name)

    @property
    def is_folder(self) -> bool:
        """Whether it is there and a folder."""
        return bool(self._kind() == fs.FileType.Directory)

    @property
    def is_file(self) -> bool:
        """Whether it is there and a file."""
        return bool(self._kind() == fs.FileType.File)

    def files(self) -> list[str]:
        """Return the files in a folder and those within, relative to it, sorted; none if it is missing.

        Hidden ones, whose names or folders begin with a dot or an underscore, are left out, as readers of Parquet do.
        """
        selector = fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        found = [info.path for info in self.system.get_file_info(selector) if info.type == fs.FileType.File]
        start = len(self.path) + 1 if self.path else 0
        names = [path[start:] for path in found]
        return sorted(name for name in names if not any(part[0] in "._" for part in name.split("/")))

    def read(self) -> bytes:
        """Return a file's contents.

        Raises:
            OSError: it cannot be read.
        """
        with self.system.open_input_stream(self.path) as file:
            return bytes(file.read())

    def write(self, data: bytes) -> None:
        """Write a file as a whole or not at all, together with its folder.

        Raises:
            OSError: it cannot be written.
        """
        folder, _, name = self.path.rpartition("/")
        self.system.create_dir(folder, recursive=True)
        # Object stores show a file when it is complete; on disks it takes its name then.
        temporary = f"{folder}/.{name[:40]}.{secrets.token_hex(6)}.tmp"
        direct = not isinstance(self.system, fs.LocalFileSystem)
        path = self.path if direct else temporary
        try:
            with self.system.open_output_stream(path) as file:
                file.write(data)
            if not direct:
                self.system.move(temporary, self.path)
        except BaseException:
            if not direct and self.system.get_file_info(temporary).type == fs.FileType.File:
                self.system.delete_file(temporary)
            raise

    def write_table(self, table: pa.Table) -> None:
        """Write a Parquet file as a whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self.write(sink.getvalue().to_pybytes())

    def read_table(self, columns: list[str]) -> pa.Table:
        """Return some columns of a Parquet file.

        Raises:
            OSError: it cannot be read, or is no Parquet file.
        """
        try:
            with self.system.open_input_file(self.path) as file:
                return pq.read_table(file, columns=columns)
        except pa.ArrowInvalid as error:
            raise OSError(f"{self.path}: {' '.join(str(error).split())}") from error

    @property
    def num_rows(self) -> int:
        """How many rows a Parquet file has.

        Raises:
            OSError: it cannot be read.
        """
        with self.system.open_input_file(self.path) as file:
            return int(pq.read_metadata(file).num_rows)

    def remove(self) -> None:
        """Remove a file.

        Raises:
            OSError: it cannot be removed.
        """
        self.system.delete_file(self.path)

    def _kind(self) -> fs.FileType:
        return self.system.get_file_info(self.path).type


def tables(folder: Place) -> Iterator[Place]:
    """Yield the Parquet files in a folder, sorted."""
    for name in folder.files():
        if name.endswith(".parquet"):
            yield folder / name
