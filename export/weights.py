"""How weights lie in an ONNX file: in half precision where that loses nothing, or the whole graph in half precision."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlic.export.errors import ExportError

SMALLEST = 64  # values; below this the Cast costs more than it saves
FP16_MAX = 65504.0


def store_half_where_exact(model: onnx.ModelProto) -> None:
    """Store float32 weights whose values all are half-precision numbers as such, followed by a Cast.

    Engines fold the Cast when they load the graph, so they compute with the same float32 values from a file of half
    the size.
    """
    casts = []
    for initializer in model.graph.initializer:
        if initializer.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initializer)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if values.size < SMALLEST or not np.array_equal(half.astype(np.float32), values):
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], name=f"Cast_{name}", to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph computing in float16, with float32 inputs and outputs.

    Divisive normalisation stays in float32: its sums of squares leave the range of half precision.

    Raises:
        ExportError: onnxruntime, which holds the converter, is not installed, or a weight is out of range.
    """
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415 - an extra
        from onnxruntime.transformers.onnx_model import OnnxModel  # noqa: PLC0415
    except ImportError as error:
        raise ExportError(f"--engine fp16 needs ONNX Runtime ({error}); pip install mlic-deploy[cpu]") from error
    name = model.graph.name
    for initializer in model.graph.initializer:
        if initializer.data_type == TensorProto.FLOAT:
            largest = float(np.abs(numpy_helper.to_array(initializer)).max(initial=0.0))
            if largest > FP16_MAX:
                raise ExportError(f"graph {name}: a weight of {largest:g} is beyond half precision")
    kept = normalisation_nodes(model)
    result: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
    _drop_repeated(result)
    _join(result, set(kept))
    OnnxModel(result).topological_sort(is_deterministic=True)  # the converter appends its casts
    result.graph.name = name
    return result


def _drop_repeated(model: onnx.ModelProto) -> None:
    """Remove the second of two casts with one output: the converter adds one for each use by a node that squares."""
    seen: set[str] = set()
    kept = []
    for node in model.graph.node:
        if node.op_type != "Cast" or node.output[0] not in seen:
            kept.append(node)
        seen.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _join(model: onnx.ModelProto, kept: set[str]) -> None:
    """Let the nodes that stay in float32 hand on float32 to each other.

    The converter casts what each of them gives to half precision, and back for the next: squares would overflow there.
    """
    nodes = model.graph.node
    producers = {output: node for node in nodes for output in node.output}
    for node in nodes:
        if node.name not in kept:
            continue
        for index, name in enumerate(node.input):
            widened = producers.get(name)
            narrowed = producers.get(widened.input[0]) if widened is not None and widened.op_type == "Cast" else None
            if narrowed is None or narrowed.op_type != "Cast":
                continue
            source = producers.get(narrowed.input[0])
            if source is not None and source.name in kept:
                node.input[index] = narrowed.input[0]
    _drop_unused_casts(model)


def _drop_unused_casts(model: onnx.ModelProto) -> None:
    while True:
        used = {name for node in model.graph.node for name in node.input}
        used |= {value.name for value in model.graph.output}
        rest = [node for node in model.graph.node if node.op_type != "Cast" or node.output[0] in used]
        if len(rest) == len(model.graph.node):
            return
        del model.graph.node[:]
        model.graph.node.extend(rest)


def normalisation_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes of every GDN: square, weighted sum, root, perhaps its inverse, product."""
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    found = []
    for square in model.graph.node:
        if square.op_type != "Mul" or square.input[0] != square.input[1]:
            continue
        sums = [n for n in consumers.get(square.output[0], []) if n.op_type == "Conv"]
        roots = [n for s in sums for n in consumers.get(s.output[0], []) if n.op_type == "Sqrt"]
        inverse = [n for r in roots for n in consumers.get(r.output[0], []) if n.op_type == "Reciprocal"]
        results = [n for r in roots + inverse for n in consumers.get(r.output[0], []) if n.op_type in ("Mul", "Div")]
        if roots:
            found += [node.name for node in (square, *sums, *roots, *inverse, *results)]
    return found
