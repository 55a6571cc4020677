"""A graph's file as engines take it: the path of a plain one, the contents of a compressed one, ``.onnx.gz``.

Engines map a plain file into memory or read it as they like. A compressed one is unpacked when it is opened, once, and
that is also when its contents are looked at: ``Bundle.open`` has compared its SHA-256 and bounded what it unpacks to.
"""

from __future__ import annotations

from pathlib import Path

from mlic.runtime.bundle_files import MAX_GRAPH_BYTES, PACKED_SUFFIX, open_regular
from mlic.runtime.errors import BundleError
from mlic.runtime.external_data import has_entry
from mlic.runtime.gzip_file import unpacked
from mlic.runtime.manifest import GraphFile


def source_of(path: Path, graph: GraphFile) -> str | bytes:
    """Return what an engine opens: the path of a plain file, the bytes of the ONNX file in a compressed one.

    Args:
        path: of the graph's file.
        graph: its entry in the manifest, for errors.

    Raises:
        BundleError: a compressed file cannot be read, or is none that may be opened.
    """
    return unpacked_graph(path, graph.spec.name) if path.name.endswith(PACKED_SUFFIX) else str(path)


def read_graph(path: Path, graph: str) -> bytes:
    """Return the ONNX file of a graph, from a plain file or a compressed one.

    Args:
        path: of the graph's file.
        graph: its name, for errors.

    Raises:
        BundleError: as ``source_of``, or a plain file cannot be read.
    """
    if path.name.endswith(PACKED_SUFFIX):
        return unpacked_graph(path, graph)
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise BundleError(f"graph {graph}: cannot read {path.name}: {error.strerror}") from error


def unpacked_graph(path: Path, graph: str) -> bytes:
    """Return the ONNX file in a compressed one, which has all of its data in itself.

    Args:
        path: of the compressed file.
        graph: its name, for errors.

    Raises:
        BundleError: it cannot be read, is no gzip file of one member, cut or damaged, unpacks to more than it names or
            than the limits, or keeps weights in other files.
    """
    try:
        with open_regular(path) as file:
            data = unpacked(file, MAX_GRAPH_BYTES)
    except OSError as error:
        raise BundleError(f"graph {graph}: cannot read {path.name}: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"graph {graph}: cannot unpack {path.name}: {error}") from error
    if has_entry(data):
        raise BundleError(f"graph {graph}: {path.name} keeps weights in other files")
    return data
