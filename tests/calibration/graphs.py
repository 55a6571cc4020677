"""Graphs small enough to follow by hand, and a miniature bundle whose transforms are such graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from mlic.calibration.layers import Layer, layers_of
from mlic.calibration.observe import BINS, Observation, observe
from mlic.calibration.ranges import Range, min_max
from mlic.runtime.bundle import read_manifest
from mlic.runtime.bundle_files import sha256_of
from mlic.runtime.manifest_json import json_from_manifest
from tests.tiny_bundle import GAIN, Y_CHANNELS, build_tiny_bundle

WIDTH = 16  # channels inside the bodies
TRANSFORMS = ("g_a", "g_s")


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    source: tuple[str, Sequence[int | str | None]],
    target: tuple[str, Sequence[int | str | None]],
) -> onnx.ModelProto:
    """Return a checked graph with one input and one output, each a name and a shape."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (source, target)]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "test", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def conv(name: str, source: str, target: str, bias: bool = False, **attributes: object) -> onnx.NodeProto:
    """Return a convolution whose weights are called as in a checkpoint."""
    inputs = [source, f"{name}.weight", *([f"{name}.bias"] if bias else [])]
    return helper.make_node("Conv", inputs, [target], f"Conv_{name}", **attributes)


def body() -> list[onnx.NodeProto]:
    """Return what lies between the first and the last layer: ``h`` to ``sum``, with a skip connection beside."""
    return [
        conv("inner", "h", "wide", bias=True),
        helper.make_node("Gelu", ["wide"], ["active"], "Gelu_0"),
        conv("outer", "active", "back", bias=True),
        helper.make_node("Add", ["h", "back"], ["sum"], "Add_0"),
    ]


def body_constants(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "inner.weight": normal(rng, (WIDTH, Y_CHANNELS, 1, 1), 0.2),
        "inner.bias": normal(rng, (WIDTH,), 0.2),
        "outer.weight": normal(rng, (Y_CHANNELS, WIDTH, 1, 1), 0.1),
        "outer.bias": normal(rng, (Y_CHANNELS,), 0.2),
    }


def body_graph(rng: np.random.Generator) -> onnx.ModelProto:
    """Return the body between two further layers: x -> first -> body -> last -> y, all with six channels."""
    constants = {
        "first.weight": normal(rng, (Y_CHANNELS, Y_CHANNELS, 3, 3), 0.2),
        **body_constants(rng),
        "last.weight": normal(rng, (Y_CHANNELS, Y_CHANNELS, 3, 3), 0.2),
    }
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [conv("first", "x", "h", **pads), *body(), conv("last", "sum", "y", **pads)]
    return graph_of(nodes, constants, ("x", (1, Y_CHANNELS, "h", "w")), ("y", (1, Y_CHANNELS, "h", "w")))


def build_quantizable_bundle(folder: Path) -> Path:
    """Write the miniature bundle with a body, which adds a little, between its patterns and y, and y_hat and them.

    Returns:
        ``folder``.
    """
    manifest = read_manifest(build_tiny_bundle(folder, name="quantizable"))
    patterns = numpy_helper.to_array(onnx.load(folder / "onnx/g_a.onnx").graph.initializer[0])
    rng = np.random.default_rng(4)
    same = np.zeros((Y_CHANNELS, Y_CHANNELS, 3, 3), np.float32)
    same[range(Y_CHANNELS), range(Y_CHANNELS), 1, 1] = 1
    pads = {"pads": [1, 1, 1, 1]}
    x, y = (1, 3, "height", "width"), (1, Y_CHANNELS, "height/16", "width/16")
    blocks = patterns * np.float32(256 / GAIN**2)
    models = {
        "g_a": graph_of(
            [conv("first", "x", "h", strides=[16, 16]), *body(), conv("last", "sum", "y", **pads)],
            {"first.weight": patterns, **body_constants(rng), "last.weight": same},
            ("x", x),
            ("y", y),
        ),
        "g_s": graph_of(
            [
                conv("first", "y_hat", "h", **pads),
                *body(),
                conv("last", "sum", "blocks"),
                helper.make_node("DepthToSpace", ["blocks"], ["x_hat"], "Shuffle_0", blocksize=16, mode="CRD"),
            ],
            {
                "first.weight": same,
                **body_constants(rng),
                "last.weight": np.ascontiguousarray(blocks.reshape(Y_CHANNELS, -1).T)[:, :, None, None],
            },
            ("y_hat", y),
            ("x_hat", x),
        ),
    }
    for name, model in models.items():
        path = folder / f"onnx/{name}.onnx"
        onnx.save(model, path)
        manifest.graphs[name] = dataclasses.replace(manifest.graphs[name], sha256=sha256_of(path))
    (folder / "manifest.json").write_text(json_from_manifest(manifest))
    return folder


def normal(rng: np.random.Generator, shape: Sequence[int], spread: float = 1.0) -> np.ndarray:
    return rng.normal(0, spread, shape).astype(np.float32)


def run(model: onnx.ModelProto, array: np.ndarray) -> np.ndarray:
    """Return a graph's output."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {model.graph.input[0].name: array})
    return found


def optimised(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Return what ONNX Runtime makes of a graph when it opens it."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3  # it warns that the file is for this processor
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def observation_of(values: np.ndarray) -> Observation:
    """Return what observing one tensor with these values gives."""
    low, high = float(values.min()), float(values.max())
    counts = np.histogram(values, BINS, (low, high))[0] if high > low else np.zeros(BINS, np.int64)
    return Observation(low, high, counts, 1.0)


def ranges_of(model: onnx.ModelProto, array: np.ndarray) -> dict[str, Range]:
    """Return least and largest value of every tensor that a layer takes or gives."""
    tensors = sorted({name for layer in layers_of("g", model) for name in (*layer.inputs, layer.output)})
    return {name: min_max(found) for name, found in observe(model, tensors, [array], [1], 1).items()}


def named(layers: Sequence[Layer], *titles: str) -> list[Layer]:
    """Return the layers with these titles."""
    found = {layer.title: layer for layer in layers}
    return [found[title] for title in titles]


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files in a folder and the folders below it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
