"""How weights lie in an ONNX file: in fewer bits where that loses nothing, or the whole graph in half precision."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlic.export.errors import ExportError
from mlic.runtime.arrays import Array, Float32Array

SMALLEST = 64  # values; below this the Cast costs more than it saves
FP16_MAX = 65504.0


def store_compactly_where_exact(model: onnx.ModelProto) -> None:
    """Store float32 weights in the fewest bits that hold them exactly, followed by the nodes that restore them.

    Weights that are whole multiples, -127..127, of one half-precision number an output channel become int8 and these
    numbers (Cast, Mul); weights that are half-precision numbers become such (Cast). Engines fold the nodes when they
    load the graph, so they compute with the same float32 values from a file of a quarter or half of the size.
    """
    restoring: list[onnx.NodeProto] = []
    added: list[onnx.TensorProto] = []
    for initializer in model.graph.initializer:
        if initializer.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initializer)
        if values.size < SMALLEST:
            continue
        name = initializer.name
        if found := eight_bits_from_values(values):
            integers, steps = found
            initializer.CopyFrom(numpy_helper.from_array(integers, f"{name}_int8"))
            added.append(numpy_helper.from_array(steps, f"{name}_steps"))
            restoring += [
                _cast_to_float(f"{name}_int8", f"{name}_integers"),
                _cast_to_float(f"{name}_steps", f"{name}_steps_float"),
                helper.make_node("Mul", [f"{name}_integers", f"{name}_steps_float"], [name], name=f"Mul_{name}"),
            ]
        elif np.array_equal(half := _half(values), values):
            initializer.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
            restoring.append(_cast_to_float(f"{name}_half", name))
    model.graph.initializer.extend(added)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*restoring, *nodes])


def _cast_to_float(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"Cast_{target}", to=TensorProto.FLOAT)


def _half(values: Float32Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def eight_bits_from_values(values: Float32Array) -> tuple[Array, Array] | None:
    """Return int8 of the shape of ``values`` and float16 steps whose product is exactly ``values``, or None.

    Args:
        values: float32 [output channels, ...], or with the output channels last, as matrices of Linear layers lie.

    Returns:
        Integers in -127..127, and one step a channel, of a shape that broadcasts.
    """
    if values.ndim < 2:
        return None
    for axis in (0, values.ndim - 1):
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        if (steps := _steps(rows)) is not None:
            shape = [1] * values.ndim
            shape[axis] = -1
            steps = steps.reshape(shape)
            return np.rint(values / steps.astype(np.float32)).astype(np.int8), steps
    return None


def _steps(rows: Float32Array) -> Array | None:
    """Return float16 [rows], of which each row's values are whole multiples, at most 127; None if there is none.

    The largest value of a row need not be 127 steps: graphs hold parts of layers.
    """
    largest = np.abs(rows).max(axis=1)
    steps = np.where(largest == 0, np.float16(1), np.float16(0))
    for count in range(127, 0, -1):
        left = np.flatnonzero(steps == 0)
        if not left.size:
            return steps
        # Exact where it matters: a half-precision number times at most 127 has 18 significant bits.
        candidates = _half(largest[left] / np.float32(count))
        known = np.flatnonzero(candidates.astype(np.float32) * np.float32(count) == largest[left])
        chosen = candidates[known].astype(np.float32)[:, None]
        part = rows[left[known]]
        with np.errstate(divide="ignore", invalid="ignore"):
            fits = np.all(np.rint(part / chosen) * chosen == part, axis=1)
        steps[left[known[fits]]] = candidates[known[fits]]
    return None if (steps == 0).any() else steps


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
        raise ExportError(f"--engine fp16 needs ONNX Runtime ({error}); pip install 'mlic-deploy[cpu]'") from error
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
