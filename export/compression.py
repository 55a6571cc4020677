"""A bundle's graphs as files, plain or compressed; and bundles with compressed graphs made of others."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

from mlic.export.new_folder import new_bundle_folder, require_new
from mlic.runtime.bundle import MANIFEST_NAME, Bundle
from mlic.runtime.bundle_files import PACKED_SUFFIX, SUFFIX
from mlic.runtime.gzip_file import packed
from mlic.runtime.manifest import GraphFile, GraphForm
from mlic.runtime.manifest_json import json_from_manifest


def store_graph(folder: Path, path: str, model: bytes, compress: bool) -> GraphForm:
    """Write a graph's file.

    Args:
        folder: of the bundle.
        path: in it, as of a plain file: ``onnx/g_a.onnx``. The folder in it is made.
        model: the ONNX file.
        compress: write ``onnx/g_a.onnx.gz``, the same bytes every time.

    Returns:
        Path and SHA-256 for the manifest.
    """
    data = packed(model) if compress else model
    path = path.removesuffix(SUFFIX) + (PACKED_SUFFIX if compress else SUFFIX)
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return GraphForm(path, hashlib.sha256(data).hexdigest())


def copy_graph(bundle: Bundle, folder: Path, graph: GraphFile, compress: bool) -> GraphFile:
    """Write a graph of a bundle into another folder, in all of its forms, however it lies in the bundle.

    Args:
        bundle: opened.
        folder: of the other bundle.
        graph: its entry in the manifest.
        compress: as in ``store_graph``.

    Returns:
        Its entry in the other manifest.

    Raises:
        BundleError: a file cannot be read or unpacked.
    """
    forms = []
    for form in graph.forms:
        path = form.path.removesuffix(PACKED_SUFFIX).removesuffix(SUFFIX) + SUFFIX
        forms.append(store_graph(folder, path, bundle.read_graph(graph, form), compress))
    return replace(graph, path=forms[0].path, sha256=forms[0].sha256, symmetric=forms[1] if forms[1:] else None)


def copy_file(bundle: Bundle, folder: Path, path: str) -> None:
    """Copy a file of a bundle, named relative to it, into another folder."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle.folder / path, target)


def compress_bundle(bundle: Bundle, output: Path, overwrite: bool = False) -> Bundle:
    """Write a copy of a bundle with compressed graphs: the same model, tables and certificate, without ``engines/``.

    Args:
        bundle: opened.
        output: folder to make; its parent must exist.
        overwrite: replace ``output`` if it is a bundle.

    Returns:
        The copy, opened.

    Raises:
        ExportError: ``output`` exists, has no parent, or would replace the bundle.
        BundleError: a graph cannot be read, or is smaller once compressed than readers accept.
    """
    require_new(output, overwrite, [bundle.folder])
    manifest = bundle.manifest
    with new_bundle_folder(output, overwrite) as work:
        copy_file(bundle, work, manifest.tables_path)
        if manifest.certificate is not None:
            copy_file(bundle, work, manifest.certificate.path)
        graphs = {name: copy_graph(bundle, work, graph, compress=True) for name, graph in manifest.graphs.items()}
        text = json_from_manifest(replace(manifest, graphs=graphs))
        (work / MANIFEST_NAME).write_text(text, encoding="utf-8")
        Bundle.open(work)
    return Bundle.open(output)
