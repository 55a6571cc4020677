"""What of a transform can run in 8 bits: convolutions and products with constant weights, and window attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

from mlic.calibration.observe import Observation
from mlic.export.weights import normalisation_nodes

OPERATORS = ("Conv", "MatMul", "Gemm")
Role = Literal["normalisation", "first", "last", ""]


@dataclass(frozen=True)
class Layer:
    """One node that multiplies.

    Attributes:
        graph: its graph.
        node: its name there.
        title: for people: the weight's name in the checkpoint, or the node's.
        inputs: names of the activations it takes: one, or two for a product of activations.
        output: what it gives.
        weight_size: elements of its weight; 0 for a product of activations.
        role: ``normalisation`` for the sums of squares of a GDN, ``first`` if it takes the graph's input, ``last``
            if nothing that multiplies comes after it; else empty.
    """

    graph: str
    node: str
    title: str
    inputs: tuple[str, ...]
    output: str
    weight_size: int
    role: Role


def layers_of(graph: str, model: onnx.ModelProto) -> list[Layer]:
    """Return a graph's layers in the order of its nodes.

    Args:
        graph: its name.
        model: float32, with weights as initializers.
    """
    weights = {initializer.name: initializer for initializer in model.graph.initializer}
    constants = set(weights)
    normalising = set(normalisation_nodes(model))
    sources = {value.name for value in model.graph.input}
    heavy = [node for node in model.graph.node if node.op_type in OPERATORS]
    followed = _followed(model, {name for node in heavy for name in node.input if name not in constants})
    found = []
    for node in heavy:
        activations = tuple(name for name in node.input[:2] if name not in constants)
        weight = next((name for name in node.input[:2] if name in weights), None)
        role: Role = ""
        if node.name in normalising:
            role = "normalisation"
        elif sources & set(activations):
            role = "first"
        elif not followed[node.output[0]]:
            role = "last"
        size = int(np.prod(weights[weight].dims)) if weight else 0
        title = (weight or node.name).removesuffix(".weight") if weight else node.name
        found.append(Layer(graph, node.name, title, activations, node.output[0], size, role))
    return found


def default_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Return those that are worth 8 bits as a rule: all but divisive normalisation, the first and the last."""
    return [layer for layer in layers if not layer.role]


def products_per_pixel(layer: Layer, observations: Mapping[str, Observation], model: onnx.ModelProto) -> float:
    """Return how many multiplications a layer takes for each pixel of the picture."""
    elements = observations[layer.output].density
    if not layer.weight_size:
        return elements * _inner(layer, model)
    node = next(node for node in model.graph.node if node.name == layer.node)
    weight = next(i for i in model.graph.initializer if i.name in node.input[:2])
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)  # of Gemm
    channels = int(weight.dims[0] if node.op_type == "Conv" or transposed else weight.dims[-1])
    return elements * layer.weight_size / channels


def _inner(layer: Layer, model: onnx.ModelProto) -> float:
    """Return the length of the sums in a product of two activations: window attention has heads or windows of it."""
    for value in model.graph.value_info:
        if value.name == layer.inputs[0] and value.type.tensor_type.shape.dim:
            size = value.type.tensor_type.shape.dim[-1].dim_value
            if size:
                return float(size)
    return 32.0  # the width of a head in all three models


def _followed(model: onnx.ModelProto, taken: set[str]) -> dict[str, bool]:
    """Return, for every tensor, whether some node behind it takes one of ``taken``."""
    behind: dict[str, bool] = {}
    for node in reversed(model.graph.node):
        for output in node.output:
            behind.setdefault(output, output in taken)
        reaches = any(behind[output] for output in node.output)
        for name in node.input:
            behind[name] = behind.get(name, False) or reaches or name in taken
    return behind


def _target(cast: onnx.NodeProto) -> int:
    return next(int(attribute.i) for attribute in cast.attribute if attribute.name == "to")


def restore_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with float32 initializers where weights were stored in fewer bits (``store_compactly...``)."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    arrays = {initializer.name: numpy_helper.to_array(initializer) for initializer in result.graph.initializer}
    kept = []
    for node in result.graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays and _target(node) == onnx.TensorProto.FLOAT:
            arrays[node.output[0]] = arrays[node.input[0]].astype(np.float32)
        elif node.op_type == "Mul" and all(name in arrays for name in node.input):
            arrays[node.output[0]] = arrays[node.input[0]] * arrays[node.input[1]]
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    del result.graph.node[:]
    result.graph.node.extend(kept)
    del result.graph.initializer[:]
    result.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used
    )
    return result
