"""An exported model directory, read and checked (``docs/bundle-format.md``)."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mlic.runtime.arrays import Tensors
from mlic.runtime.container import ARITHMETICS
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.errors import BundleError
from mlic.runtime.manifest import GraphFile, Manifest
from mlic.runtime.manifest_json import manifest_from_json
from mlic.runtime.wiring import wiring_problems

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 24  # a codec of 30 graphs has 30 kB
MAX_TABLES_BYTES = 1 << 28  # also after decompression; the released models have 100 kB


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest, tables and files have been checked.

    Attributes:
        folder: where it lies.
        manifest: what it says about itself.
        entropy: the tables.
    """

    folder: Path
    manifest: Manifest
    entropy: EntropyModel

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify_hashes: bool = True) -> Bundle:
        """Read and check a bundle.

        Args:
            path: the folder.
            verify_hashes: compare the SHA-256 of the graphs too, which reads every byte of them; that of the
                tables is always compared.

        Raises:
            BundleError: files are missing, damaged or outside the folder, the manifest or the tables are
                inconsistent, or the format is newer than this reader. Problems of one kind are listed
                together.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        where = f"bundle {manifest.name}"
        if manifest.arithmetic not in ARITHMETICS.values():
            raise BundleError(
                f"{where}: arithmetic {manifest.arithmetic!r}; this reader knows {', '.join(ARITHMETICS.values())}"
            )
        if problems := wiring_problems(manifest):
            raise BundleError(f"{where}: " + "; ".join(problems))
        files = [(manifest.tables_path, manifest.tables_sha256)]
        files += [(form.path, form.sha256) for graph in manifest.graphs.values() for form in graph.forms]
        _check_files(where, folder, [path for path, _ in files], files if verify_hashes else files[:1])
        entropy = _read_tables(where, folder / manifest.tables_path)
        if len(entropy.z) != manifest.z_channels:
            raise BundleError(
                f"{where}: tables have {len(entropy.z)} rows of z; the manifest has {manifest.z_channels} channels"
            )
        return cls(folder, manifest, entropy)

    def path_of(self, graph: GraphFile) -> Path:
        """Return where a graph's file lies: that of its plain form, from which engines find the other."""
        return self.folder / graph.path


def read_manifest(folder: Path) -> Manifest:
    """Read what a bundle says about itself, without a look at its other files.

    Raises:
        BundleError: the folder or its manifest is missing, damaged or inconsistent, or of a newer format.
    """
    path = folder / MANIFEST_NAME
    try:
        if not folder.is_dir():
            raise BundleError(f"bundle {folder}: there is no such folder")
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"bundle {folder}: cannot read {MANIFEST_NAME}: {error.strerror}") from error
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleError(f"bundle {folder}: {MANIFEST_NAME} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        return manifest_from_json(text)
    except BundleError as error:
        raise BundleError(f"bundle {folder}: {error}") from error


def _check_files(where: str, folder: Path, paths: list[str], hashes: list[tuple[str, str]]) -> None:
    """Check that all files are there and inside the folder, and compare the SHA-256 of some, given with their paths."""
    if outside := [path for path in paths if not _is_inside(folder, path)]:
        raise BundleError(f"{where}: paths lead out of the folder: {', '.join(outside)}")
    if missing := [path for path in paths if not (folder / path).is_file()]:
        raise BundleError(f"{where}: missing {', '.join(missing)}")
    try:
        # Each file is read once, however often it is named.
        found = {path: sha256_of(folder / path) for path in dict.fromkeys(path for path, _ in hashes)}
    except OSError as error:
        raise BundleError(f"{where}: cannot read {error.filename}: {error.strerror}") from error
    if changed := [path for path, sha256 in hashes if found[path] != sha256]:
        raise BundleError(f"{where}: SHA-256 differs from the manifest's: {', '.join(changed)}")


def _is_inside(folder: Path, path: str) -> bool:
    """Tell whether a path from the manifest stays in the folder, symbolic links included."""
    pure = PurePosixPath(path)
    if not path or "\0" in path or "\\" in path or pure.is_absolute() or ".." in pure.parts:
        return False
    return (folder / path).resolve().is_relative_to(folder.resolve())


def _read_tables(where: str, path: Path) -> EntropyModel:
    try:
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_TABLES_BYTES:
                raise BundleError(f"{where}: {path.name} unpacks to more than {MAX_TABLES_BYTES} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            # numpy gives a member that is no array as bytes
            members = {name: arrays[name] for name in arrays.files}
            tables: Tensors = {name: array for name, array in members.items() if isinstance(array, np.ndarray)}
    except BundleError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        raise BundleError(f"{where}: cannot read {path.name}: {error}") from error
    try:
        return EntropyModel.from_arrays(tables)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from error


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as lower-case hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
