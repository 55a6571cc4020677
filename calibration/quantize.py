"""From ranges to Q/DQ nodes, by ONNX Runtime's quantiser, in the two forms that engines want.

- *unsigned*: activations in uint8 with a zero point, before and after each layer. ONNX Runtime's CPU kernels take a
  layer only so: signed activations are three times slower, and a layer whose result stays in float32 is not taken.
- *symmetric*: activations in int8 around zero, before each layer; its result stays in float32. TensorRT wants it so,
  and OpenVINO is as fast with it as with the other.

Weights are int8, symmetric, a scale for each output channel, in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import onnx
from onnx import helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from mlic.calibration.layers import OPERATORS, Layer
from mlic.calibration.ranges import Range

Form = Literal["unsigned", "symmetric"]
FORMS: tuple[Form, ...] = ("unsigned", "symmetric")
_PRIVATE = "_of_"  # between a tensor's name and that of the layer that takes it


def quantize(
    model: onnx.ModelProto, layers: Sequence[Layer], ranges: Mapping[str, Range], form: Form
) -> onnx.ModelProto:
    """Return the graph with some layers in 8 bits.

    Args:
        model: float32, with weights as initializers; not changed.
        layers: of this graph.
        ranges: of each layer's inputs and output.
        form: see above.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    if not layers:
        return result
    private = _give_private_inputs(result, layers)
    limits = {copy: ranges[name] for copy, name in private.items()}
    if form == "unsigned":
        limits |= {layer.output: ranges[layer.output] for layer in layers}
    unsigned = form == "unsigned"
    quantizer = QDQQuantizer(
        result,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if unsigned else QuantType.QInt8,
        tensors_range=TensorsData(
            CalibrationMethod.MinMax,
            {name: (np.float32(low), np.float32(high)) for name, (low, high) in limits.items()},
        ),
        nodes_to_quantize=[layer.node for layer in layers],
        nodes_to_exclude=[],
        op_types_to_quantize=list(OPERATORS),
        extra_options={
            "ActivationSymmetric": not unsigned,
            "WeightSymmetric": True,
            "QuantizeBias": unsigned,
            "ForceQuantizeNoInputCheck": True,
            "OpTypesToExcludeOutputQuantization": [] if unsigned else list(OPERATORS),
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: onnx.ModelProto = quantizer.model.model
    _drop_private_inputs(made, private)
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    return made


def _give_private_inputs(model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, str]:
    """Let each layer take copies of its inputs, and return what they are copies of.

    The quantiser would hand a rounded tensor to every node that takes it, skip connections among them.
    """
    nodes = {node.name: node for node in model.graph.node}
    sources: dict[str, str] = {}
    copying: dict[str, list[onnx.NodeProto]] = {}
    for layer in layers:
        node = nodes[layer.node]
        for index, name in enumerate(node.input):
            if name not in layer.inputs:
                continue
            copy = f"{name}{_PRIVATE}{layer.node}"
            if copy not in sources:
                sources[copy] = name
                copying.setdefault(layer.node, []).append(helper.make_node("Identity", [name], [copy], name=copy))
            node.input[index] = copy
    ordered = [new for node in model.graph.node for new in (*copying.get(node.name, []), node)]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return sources


def _drop_private_inputs(model: onnx.ModelProto, sources: Mapping[str, str]) -> None:
    """Remove the copies; where several were rounded alike, one does for all."""
    replaced: dict[str, str] = {}
    constants: dict[str, bytes] = {}
    for initializer in model.graph.initializer:
        content = onnx.TensorProto()
        content.CopyFrom(initializer)
        content.name = ""
        constants[initializer.name] = content.SerializeToString()
    made: dict[tuple[str, ...], str] = {}
    kept = []
    for node in model.graph.node:
        if node.op_type == "Identity" and node.output[0] in sources:
            continue
        for index, name in enumerate(node.input):
            node.input[index] = sources.get(name, replaced.get(name, name))
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] not in constants:
            key = (node.op_type, node.input[0], *(repr(constants[name]) for name in node.input[1:]))
            if key in made:
                replaced[node.output[0]] = made[key]
                continue
            made[key] = node.output[0]
        kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    initializers = [initializer for initializer in model.graph.initializer if initializer.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)
