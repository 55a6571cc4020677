"""The miniature bundle with an entropy path in integers: what its chain computes is equal on every correct engine.

Values of y_hat are int32 in units of 1/256, what networks see of them are int8 in units of 1/4. A step looks at the
hyper latents and at what was decoded by one quantised convolution for the table indexes and another for the means.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from mlic.export.identity import integer_model_id
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.certificate import certificate_of, chain_names, write_certificate
from mlic.runtime.manifest import GraphFile, GraphSpec, Manifest, TensorSpec
from mlic.runtime.manifest_json import json_from_manifest, manifest_from_json
from tests.tiny_bundle import (
    HYPER,
    SCALES,
    STEPS,
    Y_CHANNELS,
    Z_CHANNELS,
    Builder,
    build_tiny_bundle,
    latent,
    part_of,
    span,
    step_spec,
)

LIMIT = 1 << 15  # of symbols, as the chain sees them
UNIT = 1 / 256
MEAN_UNIT = 8  # 1/32, of means in int8


def build_integer_bundle(folder: Path, seed: int = 0, **options: Any) -> Path:
    """Write a bundle; further options as ``build_tiny_bundle`` has them."""
    build_tiny_bundle(folder, seed=seed, **{"name": f"tiny-{seed}-integer"} | options)
    manifest = manifest_from_json((folder / "manifest.json").read_text())
    rng = np.random.default_rng(seed + 1000)
    graphs = dict(manifest.graphs)
    for builder in (_h_s(rng), *(_step(index, rng) for index in range(len(STEPS))), _finish()):
        spec, model = builder.finish()
        path = f"onnx/{spec.name}.onnx"
        (folder / path).write_bytes(model)
        graphs[spec.name] = GraphFile(spec, path, hashlib.sha256(model).hexdigest(), "int8")
    certify(folder, replace(manifest, arithmetic="integer", graphs=graphs))
    return folder


def certify(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest with the identity and the certificate that its graphs ask for."""
    backend = OnnxRuntimeBackend(1)
    files = {name: manifest.graphs[name] for name in chain_names(manifest)}
    opened = {name: backend.open(folder / file.path, file) for name, file in files.items()}
    with np.load(folder / manifest.tables_path) as tables:
        identity = integer_model_id({name: file.sha256 for name, file in files.items()}, dict(tables), manifest.steps)
    certificate = write_certificate(folder, certificate_of(opened, manifest))
    manifest = replace(manifest, model_id=identity, certificate=certificate)
    (folder / "manifest.json").write_text(json_from_manifest(manifest))
    return manifest


def _h_s(rng: np.random.Generator) -> Builder:
    spec = GraphSpec("h_s", {"z_symbols": latent(Z_CHANNELS, 64)}, {"hyper.code": _map("int8", HYPER)}, exact=True)
    builder = Builder(spec)
    code = builder.op("Cast", _clipped(builder, "z_symbols", 127), to=TensorProto.INT8)
    mixed = _convolution(builder, code, rng, (Z_CHANNELS, HYPER, 1), 1 / 16)
    shape = builder.op("Shape", mixed)
    for axis in (3, 5):
        mixed = builder.op("Unsqueeze", mixed, np.array([axis], np.int64))
    wide = builder.op("Tile", mixed, np.array([1, 1, 1, 4, 1, 4], np.int64))
    builder.op("Reshape", wide, builder.op("Mul", shape, np.array([1, 1, 4, 4], np.int64)), out="hyper.code")
    return builder


def _step(index: int, rng: np.random.Generator) -> Builder:
    """Return a step: complete what the step before coded, look at it and at hyper, give indexes and means."""
    (first, end), positions = STEPS[index]
    step, part = step_spec(index), part_of(end - first, positions)
    indexes, means = f"indexes_{index:02d}", step.means
    outputs = {indexes: TensorSpec("uint8", part.shape), means: part}
    inputs = {"hyper.code": _map("int8", HYPER)}
    if index:
        inputs |= _taken(index)
        outputs[f"y_hat_{index:02d}.code"] = _map("int32", STEPS[index - 1][0][1])
    builder = Builder(GraphSpec(step.graph, inputs, outputs, exact=True))
    seen, channels = "hyper.code", HYPER
    if index:
        decoded = _complete(builder, index, f"y_hat_{index:02d}.code")
        small = builder.op("Div", decoded, np.array(64, np.int32))
        small = builder.op("Clip", small, np.array(-128, np.int32), np.array(127, np.int32))
        seen = builder.op("Concat", seen, builder.op("Cast", small, to=TensorProto.INT8), axis=1)
        channels += STEPS[index - 1][0][1]
    rows = _convolution(builder, seen, rng, (channels, end - first, 3), 1 / 64)
    rows = builder.op("Add", builder.op("Cast", rows, to=TensorProto.INT32), np.array(128, np.int32))
    rows = builder.op("Cast", builder.op("Div", rows, np.array(256 // SCALES, np.int32)), to=TensorProto.UINT8)
    centre = _convolution(builder, seen, rng, (channels, end - first, 3), 1 / 64)
    centre = builder.op("Cast", centre, to=TensorProto.FLOAT)
    centre = builder.op("Mul", centre, np.array(MEAN_UNIT * UNIT, np.float32))
    for values, out in ((rows, indexes), (centre, means)):
        builder.op("Identity", values if positions == "all" else builder.squeeze(values, positions), out=out)
    return builder


def _finish() -> Builder:
    builder = Builder(GraphSpec("finish", _taken(len(STEPS)), {"y_hat": latent(Y_CHANNELS, 16)}, exact=True))
    code = _complete(builder, len(STEPS), "")
    builder.op("Mul", builder.op("Cast", code, to=TensorProto.FLOAT), np.array(UNIT, np.float32), out="y_hat")
    return builder


def _taken(index: int) -> dict[str, TensorSpec]:
    (first, end), positions = STEPS[index - 1]
    before = step_spec(index - 1)
    taken = {name: part_of(end - first, positions) for name in (before.symbols, before.means)}
    if index > 1:
        taken[f"y_hat_{index - 1:02d}.code"] = _map("int32", STEPS[index - 2][0][1])
    return taken


def _complete(builder: Builder, index: int, out: str) -> str:
    """Append the nodes that add the step before ``index`` to what was decoded earlier, in int32."""
    (first, _), positions = STEPS[index - 1]
    before = step_spec(index - 1)
    values = builder.op("Add", _clipped(builder, before.symbols, LIMIT), before.means)
    values = builder.op("Cast", builder.op("Mul", values, np.array(256, np.float32)), to=TensorProto.INT32)
    if positions != "all":
        values = builder.unsqueeze(values, positions, np.int32)
    earlier = f"y_hat_{index - 1:02d}.code"
    if index == 1:
        return builder.op("Identity", values, out=out)
    if positions != "nonanchor":  # new channels
        return builder.op("Concat", earlier, values, axis=1, out=out)
    if first:  # the other half of channels that are already there
        zeros = builder.op("Mul", builder.op("Slice", earlier, *span(0, first)), np.array(0, np.int32))
        values = builder.op("Concat", zeros, values, axis=1)
    return builder.op("Add", earlier, values, out=out)


def _convolution(
    builder: Builder, values: str, rng: np.random.Generator, sizes: tuple[int, int, int], gain: float
) -> str:
    """Append a quantised convolution of int8 whose output saturates now and then."""
    channels, filters, side = sizes
    weights = rng.integers(-32, 33, (filters, channels, side, side)).astype(np.int8)
    one, zero = np.array(1, np.float32), np.array(0, np.int8)
    bias = rng.integers(-200, 201, filters).astype(np.int32)
    given = (values, one, zero, weights, np.array(gain, np.float32), zero, one, zero, bias)
    return builder.op("QLinearConv", *given, pads=[side // 2] * 4)


def _clipped(builder: Builder, values: str, limit: float) -> str:
    return builder.op("Clip", values, np.array(-limit, np.float32), np.array(limit, np.float32))


def _map(dtype: str, channels: int) -> TensorSpec:
    return TensorSpec(dtype, latent(channels, 16).shape)
