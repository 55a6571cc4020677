"""A checkpoint becomes a bundle: trace, store, check, and only then take the final name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch

from mlic.export.checkpoints import Checkpoint
from mlic.export.compression import store_graph
from mlic.export.identity import model_id
from mlic.export.new_folder import new_bundle_folder
from mlic.export.shuffle import shuffles_as_transpositions
from mlic.export.split.base import Split
from mlic.export.tables import bottleneck_tables, default_scale_table, gaussian_tables
from mlic.export.tiling import derive_tilings
from mlic.export.trace import trace
from mlic.export.verify import SIZES, Check, require_passed, verify
from mlic.export.weights import half_precision, store_compactly_where_exact
from mlic.runtime.arrays import Array
from mlic.runtime.backends import open_backend
from mlic.runtime.bundle import Bundle
from mlic.runtime.manifest import DEFAULT_SIZES, GraphFile, Manifest, Padding, SizeRange, Tiling
from mlic.runtime.manifest_json import json_from_manifest
from mlic.runtime.version import VERSION

ARITHMETIC = "float32-syndrome"
TOOLS = ("torch", "onnx", "onnxscript", "onnxslim")
Engine = Literal["fp32", "fp16", "bf16"]  # bf16: files in fp32, for engines that can compute the transforms in it


@dataclass(frozen=True)
class Export:
    """What an export produced.

    Attributes:
        path: the bundle's folder.
        manifest: as written.
        size_bytes: of all files.
        checks: every comparison with PyTorch.
    """

    path: Path
    manifest: Manifest
    size_bytes: int
    checks: list[Check]


def export_bundle(
    checkpoint: Checkpoint,
    output: Path,
    engine: Engine = "fp32",
    name: str | None = None,
    fill: Literal["zeros", "edge"] = "zeros",
    overwrite: bool = False,
    progress: Callable[[str, str], None] = lambda stage, graph: None,
    threads: int | None = None,
    sizes: SizeRange = DEFAULT_SIZES,
    compress: bool = False,
) -> Export:
    """Write a bundle.

    Args:
        checkpoint: model and where it comes from.
        output: folder to make; its parent must exist.
        engine: precision of g_a, h_a and g_s; the entropy path is always strict fp32.
        name: of the bundle; default: the folder's.
        fill: what encoders put around a picture whose sides are no multiples of 64.
        overwrite: replace ``output`` if it is a bundle.
        progress: called with ``trace`` or ``check`` and a graph's name before each.
        threads: of the engine that checks the graphs.
        sizes: of pictures that engines built from the bundle are for.
        compress: store graphs as ``.onnx.gz``.

    Returns:
        What was written; every graph was compared with PyTorch.

    Raises:
        ExportError: a graph could not be traced or differs from the model, or ``output`` exists.
    """
    split = checkpoint.architecture.split(checkpoint.model)
    with new_bundle_folder(output, overwrite) as work:
        name = name or output.resolve().name
        manifest = _write(checkpoint, split, work, engine, name, fill, progress, sizes, compress)
        bundle, backend = Bundle.open(work), open_backend("onnxruntime", threads)
        checks = verify(
            split,
            lambda graph: backend.open(bundle.path_of(manifest.graphs[graph]), manifest.graphs[graph]),
            {graph: file.precision for graph, file in manifest.graphs.items()},
            SIZES,
            lambda graph: progress("check", graph),
        )
        require_passed(checks)
        size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    return Export(output, manifest, size, checks)


def _write(
    checkpoint: Checkpoint,
    split: Split,
    folder: Path,
    engine: Engine,
    name: str,
    fill: Literal["zeros", "edge"],
    progress: Callable[[str, str], None],
    sizes: SizeRange,
    compress: bool,
) -> Manifest:
    files = {}
    for subgraph in split.subgraphs:
        spec = subgraph.spec
        progress("trace", spec.name)
        model = trace(subgraph)
        precision = "fp32" if spec.exact else engine
        if precision == "fp16":
            model = half_precision(model)
        if precision == "fp32" and not spec.exact:
            shuffles_as_transpositions(model)
        store_compactly_where_exact(model)
        onnx.checker.check_model(model)
        form = store_graph(folder, f"onnx/{spec.name}.onnx", model.SerializeToString(deterministic=True), compress)
        files[spec.name] = GraphFile(spec, form.path, form.sha256, precision)
    for graph, tiling in _tilings(split).items():
        files[graph] = replace(files[graph], tiling=tiling)
    tables = model_tables(checkpoint)
    np.savez_compressed(folder / "tables.npz", **tables)  # type: ignore[arg-type]  # none is called allow_pickle
    outputs = {spec.spec.name: spec.spec.outputs for spec in split.subgraphs}
    manifest = Manifest(
        name=name,
        architecture=checkpoint.architecture.name,
        variant=_variant(checkpoint),
        model_id=model_id(checkpoint, tables, split.steps, ARITHMETIC),
        arithmetic=ARITHMETIC,
        engine=engine,
        padding=Padding(64, checkpoint.architecture.placement, fill),
        y_channels=int(outputs["g_a"]["y"].shape[1]),
        z_channels=int(outputs["h_a"]["z_symbols"].shape[1]),
        tables_path="tables.npz",
        tables_sha256=hashlib.sha256((folder / "tables.npz").read_bytes()).hexdigest(),
        graphs=files,
        steps=split.steps,
        sizes=sizes,
        details={
            "widths": _widths(checkpoint),
            "provenance": {
                "checkpoint": {"name": checkpoint.name, "sha256": checkpoint.sha256},
                "tools": {"mlic": VERSION} | {tool: version(tool) for tool in TOOLS},
            },
        },
    )
    (folder / "manifest.json").write_text(json_from_manifest(manifest), encoding="utf-8")
    return manifest


def _tilings(split: Split) -> dict[str, Tiling]:
    """Return how the transforms may be run over tiles: of the float32 modules, whatever precision is exported."""
    modules = {subgraph.spec.name: subgraph.module for subgraph in split.subgraphs}

    def run(graph: str, values: Array) -> Array:
        with torch.no_grad():
            result: Array = modules[graph](torch.from_numpy(values)).numpy()
        return result

    return derive_tilings({subgraph.spec.name: subgraph.spec for subgraph in split.subgraphs}, run)


def model_tables(checkpoint: Checkpoint) -> dict[str, Array]:
    """Return the arrays of ``tables.npz``; the scale table is the checkpoint's, or the released models'."""
    stored = checkpoint.model.get_buffer("gaussian_conditional.scale_table").numpy()
    scale_table = stored if stored.size else default_scale_table()
    bottleneck: Any = checkpoint.model.get_submodule("entropy_bottleneck")
    return {"scale_table": scale_table, **gaussian_tables(scale_table), **bottleneck_tables(bottleneck)}


def _variant(checkpoint: Checkpoint) -> str:
    return "old" if getattr(getattr(checkpoint.model, "widths", None), "old", False) else "current"


def _widths(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what sizes the model; for information, since graphs carry their shapes."""
    parts = [getattr(checkpoint.model, name, None) for name in ("widths", "transforms")]
    fields = {name: value for part in parts if is_dataclass(part) for name, value in vars(part).items()}
    # Tuples as lists, so that the manifest read back equals this one.
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
