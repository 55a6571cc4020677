"""The miniature bundle with its transforms in int8, each in both forms that ``GraphFile`` describes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mlic.runtime.bundle import read_manifest
from mlic.runtime.bundle_files import sha256_of
from mlic.runtime.manifest import GraphForm
from mlic.runtime.manifest_json import json_from_manifest
from tests.tiny_bundle import build_tiny_bundle

REACH = {"x": 1.0, "y": 32.0, "y_hat": 32.0, "x_hat": 1.25}  # no values of these tensors are larger
TRANSFORMS = ("g_a", "g_s")


def build_int8_bundle(folder: Path) -> Path:
    """Write the bundle; ``onnx/g_a.onnx`` is plain and ``onnx/g_a.symmetric.onnx`` symmetric, g_s likewise.

    Returns:
        ``folder``.
    """
    manifest = read_manifest(build_tiny_bundle(folder, name="tiny-int8"))
    for name in TRANSFORMS:
        path, other = folder / f"onnx/{name}.onnx", folder / f"onnx/{name}.symmetric.onnx"
        model = onnx.load(path)
        onnx.save(quantised(model, symmetric=True), other)
        onnx.save(quantised(model, symmetric=False), path)
        form = GraphForm(f"onnx/{other.name}", sha256_of(other))
        manifest.graphs[name] = dataclasses.replace(
            manifest.graphs[name], sha256=sha256_of(path), precision="int8", symmetric=form
        )
    (folder / "manifest.json").write_text(json_from_manifest(dataclasses.replace(manifest, engine="int8")))
    return folder


def quantised(model: onnx.ModelProto, symmetric: bool) -> onnx.ModelProto:
    """Return a graph of one convolution, transposed or not, with Q/DQ nodes around it."""
    model = onnx.ModelProto.FromString(model.SerializeToString())  # a copy, to be changed
    (convolution,) = model.graph.node
    source, weights, target = convolution.input[0], convolution.input[1], convolution.output[0]
    axis = 1 if convolution.op_type == "ConvTranspose" else 0
    constants = _quantised_weights(numpy_helper.to_array(model.graph.initializer[0]), axis)
    nodes = [helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], [weights], "dequantize_w", axis=axis)]
    convolution.input[0], convolution.output[0] = f"{source}_dequantized", target if symmetric else f"{target}_float"
    nodes += [*_rounding(source, source, convolution.input[0]), convolution]
    if not symmetric:
        nodes += _rounding(target, convolution.output[0], target)
    for name in {source} if symmetric else {source, target}:
        signed = symmetric or name != "x"  # pictures have no values below 0
        levels = 127 if signed else 255
        zero = np.int8(0) if symmetric else np.uint8(128 if signed else 0)
        constants |= {f"{name}_scale": np.float32(REACH[name] / levels), f"{name}_zero": zero}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, tensors)
    result = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(result, full_check=True)
    return result


def _quantised_weights(weights: np.ndarray, axis: int) -> dict[str, np.ndarray]:
    """Return int8, a scale and a zero for each output channel."""
    others = tuple(index for index in range(weights.ndim) if index != axis)
    scales = np.max(np.abs(weights), axis=others, keepdims=True) / 127
    integers = np.rint(weights / scales).astype(np.int8)
    return {"w": integers, "w_scale": scales.ravel(), "w_zero": np.zeros(scales.size, np.int8)}


def _rounding(scale: str, source: str, target: str) -> list[Any]:
    """Return the nodes that round to 8 bits and back."""
    names = [f"{scale}_scale", f"{scale}_zero"]
    return [
        helper.make_node("QuantizeLinear", [source, *names], [f"{scale}_8"], f"quantize_{scale}"),
        helper.make_node("DequantizeLinear", [f"{scale}_8", *names], [target], f"dequantize_{scale}"),
    ]
