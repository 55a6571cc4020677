"""A float bundle and photos become an int8 bundle of the same model: observe, choose, write, and only then name it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from mlic.calibration.errors import CalibrationError
from mlic.calibration.judge import Effect, Judge
from mlic.calibration.layers import Layer, default_layers, layers_of, products_per_pixel, restore_weights
from mlic.calibration.observe import observe
from mlic.calibration.quantize import FORMS, Form
from mlic.calibration.ranges import METHODS
from mlic.calibration.sensitivity import Budget, Sensitivity, Transform, choose, measure_layers, num_choices
from mlic.export.compression import copy_file, copy_graph, store_graph
from mlic.export.new_folder import new_bundle_folder
from mlic.export.weights import store_compactly_where_exact
from mlic.runtime.arrays import Float32Array, UInt8Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.manifest import GraphFile, GraphForm, Manifest
from mlic.runtime.manifest_json import json_from_manifest

TRANSFORMS = ("g_a", "g_s")  # h_a is a hundredth of the work
JUDGES = 24  # pictures that layers are judged on, of those that ranges come from
SMALLEST_WEIGHT = 64  # elements; below, a layer is not worth its Q/DQ nodes


@dataclass(frozen=True)
class Calibration:
    """What a calibration produced.

    Attributes:
        path: the bundle's folder.
        manifest: as written.
        size_bytes: of all files.
        layers: of both transforms, by form, with their effects where a budget was given.
        effects: of both transforms in 8 bits on the judging pictures, by form.
    """

    path: Path
    manifest: Manifest
    size_bytes: int
    layers: dict[Form, list[Sensitivity]]
    effects: dict[Form, Effect]


def calibrate_bundle(
    bundle: Bundle,
    pictures: Sequence[UInt8Array],
    output: Path,
    method: str = "mse",
    budget: Budget | None = None,
    name: str | None = None,
    overwrite: bool = False,
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
    compress: bool = False,
) -> Calibration:
    """Write an int8 bundle.

    Args:
        bundle: with transforms in float32.
        pictures: uint8 [H, W, 3], both sides multiples of 64 pixels.
        output: folder to make; its parent must exist.
        method: how ranges come from what was observed, a key of ``ranges.METHODS``.
        budget: of both transforms together; without one, all layers but the first and the last of each are quantised
            and nothing is measured on the way.
        name: of the bundle; default: the folder's.
        overwrite: replace ``output`` if it is a bundle.
        threads: of the engine.
        progress: called with a few words as each stage begins, ``num_stages`` times at most.
        compress: store graphs as ``.onnx.gz``; without it all are plain, whatever the bundle's are.

    Raises:
        CalibrationError: the bundle is not in float32, the method is unknown, or no layer keeps the budget.
        ExportError: ``output`` exists or has no parent.
    """
    if method not in METHODS:
        raise CalibrationError(f"no way {method} to find ranges; there are {', '.join(METHODS)}")
    for graph in TRANSFORMS:
        found = bundle.manifest.graphs[graph].precision
        if found != "fp32":
            raise CalibrationError(
                f"bundle {bundle.manifest.name}: graph {graph} is {found}; calibrate the fp32 bundle"
            )
    with new_bundle_folder(output, overwrite) as work:
        progress("encode in float32")
        judge = Judge(bundle, pictures, threads)
        judging = judge if len(pictures) <= JUDGES else Judge(bundle, pictures[:: -(-len(pictures) // JUDGES)], threads)
        inputs = {"g_a": judge.x, "g_s": judge.y_hat}
        pixels = [picture.shape[0] * picture.shape[1] for picture in pictures]
        transforms = []
        for graph in TRANSFORMS:
            progress(f"observe {graph}")
            transforms.append(_transform(bundle, graph, inputs[graph], pixels, method, threads))
        layers, quantized, effects = {}, {}, {}
        for form in FORMS:
            if budget is None:
                layers[form] = _usual(transforms)
            else:
                layers[form] = _chosen(transforms, form, judging, budget, progress)
            quantized[form] = {
                transform.name: transform.quantized(_in_int8(layers[form], transform.name), form)
                for transform in transforms
            }
            progress(f"measure {form} form")
            effects[form] = judging.measure(**quantized[form])
        if not any(one.chosen for form in FORMS for one in layers[form]):
            hint = "it has none that is worth it" if budget is None else "none keeps the limits: allow more loss"
            raise CalibrationError(f"bundle {bundle.manifest.name}: no layer would run in 8 bits; {hint}")
        name = name or output.resolve().name
        manifest = _write(bundle, work, quantized, name, _provenance(method, pictures, budget), compress)
        size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
        Bundle.open(work)
    return Calibration(output, manifest, size, layers, effects)


def num_stages(bundle: Bundle, budget: Budget | None) -> int:
    """Return how often ``calibrate_bundle`` calls ``progress`` at most."""
    stages = 1 + len(TRANSFORMS) + len(FORMS)
    if budget is None:
        return stages
    count = sum(len(_candidates(graph, _float_model(bundle, graph))) for graph in TRANSFORMS)
    return stages + len(FORMS) * (count + num_choices(count))


def _float_model(bundle: Bundle, graph: str) -> onnx.ModelProto:
    return restore_weights(onnx.load_from_string(bundle.read_graph(bundle.manifest.graphs[graph])))


def _candidates(graph: str, model: onnx.ModelProto) -> list[Layer]:
    """Return the layers that may be quantised: sums of squares leave the range of 8 bits, small layers are no use."""
    return [
        layer
        for layer in layers_of(graph, model)
        if layer.role != "normalisation" and (layer.weight_size >= SMALLEST_WEIGHT or not layer.weight_size)
    ]


def _transform(
    bundle: Bundle, graph: str, inputs: Sequence[Float32Array], pixels: Sequence[int], method: str, threads: int
) -> Transform:
    model = _float_model(bundle, graph)
    layers = _candidates(graph, model)
    tensors = sorted({name for layer in layers for name in (*layer.inputs, layer.output)})
    observations = observe(model, tensors, inputs, pixels, threads)
    ranges = {tensor: METHODS[method](observation) for tensor, observation in observations.items()}
    return Transform(graph, model, layers, observations, ranges)


def _chosen(
    transforms: Sequence[Transform], form: Form, judge: Judge, budget: Budget, progress: Callable[[str], None]
) -> list[Sensitivity]:
    found: list[Sensitivity] = []
    for transform in transforms:
        found += measure_layers(transform, form, judge, progress)
    return choose(transforms, form, found, judge, budget, progress)


def _in_int8(layers: Sequence[Sensitivity], graph: str) -> list[Layer]:
    return [one.layer for one in layers if one.chosen and one.layer.graph == graph]


def _usual(transforms: Sequence[Transform]) -> list[Sensitivity]:
    """Return all layers, of which those are chosen that are worth 8 bits as a rule."""
    found = []
    for transform in transforms:
        usual = {layer.node for layer in default_layers(transform.layers)}
        for layer in transform.layers:
            products = products_per_pixel(layer, transform.observations, transform.model)
            found.append(Sensitivity(layer, products, None, layer.node in usual))
    return found


def pictures_sha256(pictures: Sequence[UInt8Array]) -> str:
    """Return the hash of all pixels, lower-case hex."""
    return hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()


def _provenance(method: str, pictures: Sequence[UInt8Array], budget: Budget | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ranges": method,
        "pictures": len(pictures),
        "pictures_sha256": pictures_sha256(pictures),
    }
    if budget is not None:
        found |= {"max_psnr_loss_db": budget.psnr_loss_db, "max_rate_percent": budget.rate_percent}
    return found


def _write(
    bundle: Bundle,
    folder: Path,
    quantized: dict[Form, dict[str, onnx.ModelProto]],
    name: str,
    provenance: dict[str, Any],
    compress: bool,
) -> Manifest:
    """Fill a folder: the bundle's other files as they are, the transforms in both forms, the manifest."""
    manifest = bundle.manifest
    files = dict(manifest.graphs)
    for graph, file in manifest.graphs.items():
        if graph in TRANSFORMS:
            plain = _store(folder, f"onnx/{graph}.onnx", quantized["unsigned"][graph], compress)
            symmetric = _store(folder, f"onnx/{graph}.symmetric.onnx", quantized["symmetric"][graph], compress)
            files[graph] = GraphFile(file.spec, plain.path, plain.sha256, "int8", symmetric, file.tiling)
        else:
            files[graph] = copy_graph(bundle, folder, file, compress)
    copy_file(bundle, folder, manifest.tables_path)
    if manifest.certificate is not None:
        copy_file(bundle, folder, manifest.certificate.path)
    details = dict(manifest.details)
    details["provenance"] = {**details.get("provenance", {}), "calibration": provenance}
    result = replace(manifest, name=name, engine="int8", graphs=files, details=details)
    (folder / "manifest.json").write_text(json_from_manifest(result), encoding="utf-8")
    return result


def _store(folder: Path, path: str, model: onnx.ModelProto, compress: bool) -> GraphForm:
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    store_compactly_where_exact(stored)
    onnx.checker.check_model(stored)
    return store_graph(folder, path, stored.SerializeToString(deterministic=True), compress)
