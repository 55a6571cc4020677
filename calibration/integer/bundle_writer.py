"""A bundle with a float chain and photos become a bundle with an integer chain: another model, with other files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mlic.calibration.bundle_writer import pictures_sha256
from mlic.calibration.integer.chain_builder import IntegerChain, Pieces, build
from mlic.calibration.integer.float_chain import FloatChain
from mlic.calibration.integer.judge import ChainEffect, judge_chain
from mlic.calibration.integer.photos import ChainRuns
from mlic.calibration.integer.reference import run_graph
from mlic.calibration.integer.sensitivity import ChainSensitivity, measure_chain, num_layers
from mlic.calibration.integer.specs import specs_of
from mlic.calibration.integer.statistics import Measured, Recorder, measure, shapes_of
from mlic.export.compression import copy_file, copy_graph, store_graph
from mlic.export.identity import integer_model_id
from mlic.export.new_folder import new_bundle_folder
from mlic.runtime.arithmetic import INTEGER
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import certificate_of, write_certificate
from mlic.runtime.manifest import GraphFile, Manifest
from mlic.runtime.manifest_json import json_from_manifest

STAGES = ("shapes", "plan", "encode", "observe", "lower", "write", "certify", "judge")
SHAPE_SIZES = ((192, 128), (128, 256))  # height and width of crops that shapes are read off


@dataclass(frozen=True)
class ChainCalibration:
    """What a calibration of the chain produced.

    Attributes:
        path: the bundle's folder.
        manifest: as written.
        size_bytes: of all files.
        effect: of the integers on the photos of calibration.
        sensitivity: of the layers, if they were measured.
    """

    path: Path
    manifest: Manifest
    size_bytes: int
    effect: ChainEffect
    sensitivity: ChainSensitivity | None = None


def lower_chain(
    bundle: Bundle,
    pictures: Sequence[UInt8Array],
    threads: int = 1,
    pieces: Pieces | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> IntegerChain:
    """Return the integer chain of a bundle.

    Args:
        bundle: with a float chain.
        pictures: uint8 [H, W, 3] with sides of 64 pixels and more, from which the ranges of activations come.
        threads: of the engine that runs the float chain.
        pieces: of the results of steps.
        progress: called with a few words as each of five stages begins.

    Raises:
        CalibrationError: the chain is not a float one, an operator has no integer form, or no bound holds.
    """
    chain = FloatChain.of(bundle)
    steps, table = bundle.manifest.steps, bundle.entropy.scale_table
    progress("shapes")
    blank = [np.zeros((*size, 3), np.uint8) for size in SHAPE_SIZES]
    small = ChainRuns(bundle, chain, blank, threads)
    shapes = shapes_of([run() for run in small.runs(small.all_names())])
    progress("plan")
    recorder = Recorder(shapes)
    build(chain, steps, table, recorder, pieces)
    progress("encode")
    runs = ChainRuns(bundle, chain, pictures, threads)
    progress("observe")
    measured = Measured(shapes, measure(list(recorder.keys), runs.runs))
    progress("lower")
    return build(chain, steps, table, measured, pieces)


def calibrate_chain(
    bundle: Bundle,
    pictures: Sequence[UInt8Array],
    output: Path,
    name: str | None = None,
    overwrite: bool = False,
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
    compress: bool = False,
    with_layers: bool = False,
) -> ChainCalibration:
    """Write a bundle with an integer chain; its transforms, in whatever precision, stay as they are.

    Args:
        bundle: with a float chain.
        pictures: uint8 [H, W, 3], both sides multiples of 64 pixels.
        output: folder to make; its parent must exist.
        name: of the bundle; default: the folder's.
        overwrite: replace ``output`` if it is a bundle.
        threads: of the engine.
        progress: called with a few words as each stage begins, ``num_stages`` times at most.
        compress: store graphs as ``.onnx.gz``; without it all are plain, whatever the bundle's are.
        with_layers: measure what each layer costs, which takes about as long as the rest.

    Raises:
        CalibrationError: as ``lower_chain``.
        ExportError: ``output`` exists or has no parent.
    """
    with new_bundle_folder(output, overwrite) as work:
        lowered = lower_chain(bundle, pictures, threads, progress=progress)
        progress("write")
        manifest = _write(bundle, work, lowered.models, name or output.resolve().name, pictures, compress)
        progress("certify")
        manifest = _certify(work, manifest, lowered.models)
        progress("judge")
        effect = judge_chain(bundle, Bundle.open(work), pictures, threads)
        sensitivity = measure_chain(bundle, lowered, pictures, threads, progress) if with_layers else None
        size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    return ChainCalibration(output, manifest, size, effect, sensitivity)


def num_stages(bundle: Bundle, with_layers: bool) -> int:
    """Return how often ``calibrate_chain`` calls ``progress`` at most.

    Raises:
        CalibrationError: the bundle's chain is not a float one.
    """
    return len(STAGES) + (num_layers(bundle) if with_layers else 0)


def _write(
    bundle: Bundle,
    folder: Path,
    models: Mapping[str, onnx.ModelProto],
    name: str,
    pictures: Sequence[UInt8Array],
    compress: bool,
) -> Manifest:
    """Fill a folder with all but the certificate; the manifest is not written yet."""
    manifest = bundle.manifest
    specs = specs_of(models, manifest.steps, manifest.z_channels)
    files, contents = dict(manifest.graphs), {}
    for graph, file in manifest.graphs.items():
        if graph in models:
            data = models[graph].SerializeToString(deterministic=True)
            contents[graph] = hashlib.sha256(data).hexdigest()  # the model's identity, however its files are stored
            form = store_graph(folder, f"onnx/{graph}.onnx", data, compress)
            files[graph] = GraphFile(specs[graph], form.path, form.sha256, "int8")
        else:
            files[graph] = copy_graph(bundle, folder, file, compress)
    copy_file(bundle, folder, manifest.tables_path)
    with np.load(bundle.folder / manifest.tables_path, allow_pickle=False) as arrays:
        tables = {key: arrays[key] for key in arrays.files}
    details: dict[str, Any] = dict(manifest.details)
    details["provenance"] = {
        **details.get("provenance", {}),
        "chain": {
            "float_model_id": manifest.model_id.hex(),
            "pictures": len(pictures),
            "pictures_sha256": pictures_sha256(pictures),
        },
    }
    identity = integer_model_id({graph: contents[graph] for graph in models}, tables, manifest.steps)
    return replace(manifest, name=name, model_id=identity, arithmetic=INTEGER.name, graphs=files, details=details)


def _certify(folder: Path, manifest: Manifest, models: Mapping[str, onnx.ModelProto]) -> Manifest:
    """Write the certificate, as numpy computes it and no engine, and the manifest."""
    certificate = certificate_of({graph: partial(run_graph, model) for graph, model in models.items()}, manifest)
    manifest = replace(manifest, certificate=write_certificate(folder, certificate))
    (folder / "manifest.json").write_text(json_from_manifest(manifest), encoding="utf-8")
    return manifest
