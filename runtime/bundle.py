"""An exported model directory, read and checked (``docs/bundle-format.md``)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from mlic.runtime.arithmetic import INTEGER
from mlic.runtime.bundle_files import check_graph_files, read_limited
from mlic.runtime.certificate import MAX_BYTES, Certificate, certificate_from_json
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.errors import BundleError, listed, one_line
from mlic.runtime.graph_bytes import read_graph
from mlic.runtime.manifest import GraphFile, GraphForm, Manifest
from mlic.runtime.manifest_json import manifest_from_json
from mlic.runtime.npz import arrays_from_npz
from mlic.runtime.wiring import wiring_problems

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 22  # a codec of 30 graphs has 30 kB
MAX_TABLES_BYTES = 1 << 24  # the released models have 100 kB
MAX_UNPACKED_BYTES = 1 << 26  # twice what tables of MAX_ENTRIES (entropy_model.py) need


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest, tables and files have been checked.

    Attributes:
        folder: where it lies.
        manifest: what it says about itself.
        entropy: the tables.
        certificate: of its entropy path; None where that is in floats.
    """

    folder: Path
    manifest: Manifest
    entropy: EntropyModel
    certificate: Certificate | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify_hashes: bool = True) -> Bundle:
        """Read and check a bundle.

        Args:
            path: the folder.
            verify_hashes: read every byte of the graphs, to compare their SHA-256 and to see that plain ones refer to
                no other files; False only for a folder of one's own. Compressed graphs are looked at when they are
                unpacked, and hashes of tables and certificate compared, in any case.

        Raises:
            BundleError: files are missing, damaged or outside the folder, the manifest or the tables are
                inconsistent, or the format is newer than this reader. Problems of one kind are listed
                together.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        where = f"bundle {manifest.name}"
        if problems := wiring_problems(manifest):
            raise BundleError(f"{where}: {listed(problems)}")
        files = [(form.path, form.sha256) for graph in manifest.graphs.values() for form in graph.forms]
        check_graph_files(where, folder, files, verify_hashes)
        entropy = _read_tables(where, folder, manifest.tables_path, manifest.tables_sha256)
        if len(entropy.z) != manifest.z_channels:
            raise BundleError(
                f"{where}: tables have {len(entropy.z)} rows of z; the manifest has {manifest.z_channels} channels"
            )
        return cls(folder, manifest, entropy, _read_certificate(where, folder, manifest))

    def path_of(self, graph: GraphFile) -> Path:
        """Return where a graph's file lies: that of its plain form, from which engines find the other."""
        return self.folder / graph.path

    def read_graph(self, graph: GraphFile, form: GraphForm | None = None) -> bytes:
        """Return the ONNX file of a graph, unpacked if it lies compressed in the bundle.

        Args:
            graph: its entry in the manifest.
            form: one of ``graph.forms``; default: the plain one.

        Raises:
            BundleError: the file cannot be read or unpacked.
        """
        return read_graph(self.folder / (form or graph.forms[0]).path, graph.spec.name)


def read_manifest(folder: Path) -> Manifest:
    """Read what a bundle says about itself, without a look at its other files.

    Raises:
        BundleError: the folder or its manifest is missing, damaged or inconsistent, or of a newer format.
    """
    where = f"bundle {folder}"
    if not folder.is_dir():
        raise BundleError(f"{where}: there is no such folder; name one that mlic-export made")
    if not os.path.lexists(folder / MANIFEST_NAME):
        raise BundleError(f"{where}: there is no {MANIFEST_NAME} in it; name a folder that mlic-export made")
    text = read_limited(where, folder, MANIFEST_NAME, MAX_MANIFEST_BYTES)
    try:
        return manifest_from_json(text)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from error


def _read_tables(where: str, folder: Path, path: str, sha256: str) -> EntropyModel:
    data = _read_hashed(where, folder, path, sha256, MAX_TABLES_BYTES)
    try:
        tables = arrays_from_npz(data, MAX_UNPACKED_BYTES)
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
        raise BundleError(f"{where}: cannot read {path}: {one_line(error)}") from error
    try:
        return EntropyModel.from_arrays(tables)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from error


def _read_certificate(where: str, folder: Path, manifest: Manifest) -> Certificate | None:
    if manifest.arithmetic != INTEGER.name:
        return None
    assert manifest.certificate is not None  # wiring.py asks for it
    data = _read_hashed(where, folder, manifest.certificate.path, manifest.certificate.sha256, MAX_BYTES)
    try:
        return certificate_from_json(data, manifest)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from error


def _read_hashed(where: str, folder: Path, path: str, sha256: str, limit: int) -> bytes:
    data = read_limited(where, folder, path, limit)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(f"{where}: SHA-256 differs from the manifest's: {path}")
    return data
