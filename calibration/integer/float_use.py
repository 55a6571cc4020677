"""Where an integer graph may hold floats, and what it holds beyond that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlic.calibration.integer.reference_operators import OPERATORS

INTEGERS = (
    TensorProto.BOOL,
    TensorProto.UINT8,
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
)
_TRUTHS = ("And", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not")
_FACTORS = {  # inputs that may be constants in float32
    "QLinearConv": (1, 4, 6),
    "Resize": (2,),
    "DequantizeLinear": (1,),
    "QuantizeLinear": (1,),
}


def complaints(model: onnx.ModelProto) -> list[str]:
    """Return what keeps a graph from being one of integers, a line each: operators and floats that do not belong.

    Floats belong where ``reference`` says and nowhere else.
    """
    return _Graph(model).complaints()


class _Graph:
    """A graph whose tensors have types.

    Args:
        model: types of inputs are known.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: Sequence[onnx.NodeProto] = list(model.graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.inputs = {given.name for given in model.graph.input}
        self.outputs = {result.name for result in model.graph.output}
        self.types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        self.types |= {given.name: given.type.tensor_type.elem_type for given in model.graph.input}
        self.producer = {node.output[0]: node for node in self.nodes}
        self.consumers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            for number, name in enumerate(node.input):
                self.consumers.setdefault(name, []).append((node, number))
            self.types[node.output[0]] = self._type_of_result(node)

    def complaints(self) -> list[str]:
        """See above."""
        unknown = [f"operator {node.op_type} ({node.name})" for node in self.nodes if node.op_type not in OPERATORS]
        floats = [name for name, kind in self.types.items() if kind not in INTEGERS and not self._belongs(name)]
        return unknown + [f"{self._title(name)} is a float" for name in floats]

    def _title(self, name: str) -> str:
        if name in self.producer:
            return f"what {self.producer[name].op_type} ({self.producer[name].name}) gives"
        takers = ", ".join(node.op_type for node, _ in self.consumers.get(name, []))
        return f"{'constant' if name in self.constants else 'input'} {name} of {takers}"

    def _belongs(self, name: str) -> bool:
        """Say whether a tensor of floats may be one."""
        takers = self.consumers.get(name, [])
        if self.types[name] != TensorProto.FLOAT:
            return False
        if name in self.constants:
            return all(number in _FACTORS.get(n.op_type, ()) or self._is_last_step(n.output[0]) for n, number in takers)
        if name in self.inputs:  # symbols
            return all(self._casts_to(node, TensorProto.INT32) for node, _ in takers)
        if name in self.outputs:
            return self._is_last_step(name)
        return self._belongs_between(self.producer[name], [node for node, _ in takers])

    def _belongs_between(self, node: onnx.NodeProto, takers: Sequence[onnx.NodeProto]) -> bool:
        """Say whether what a node gives to others may be floats: around a root, toward codes, before an output."""
        if node.op_type == "DequantizeLinear":
            return all(taker.op_type == "QuantizeLinear" for taker in takers)
        if node.op_type == "Sqrt":
            return all(self._casts_to(taker, TensorProto.INT64) for taker in takers)
        before = self.types[node.input[0]] if node.op_type == "Cast" else TensorProto.UNDEFINED
        if before == TensorProto.INT64:
            return all(taker.op_type == "Sqrt" for taker in takers)
        return before == TensorProto.INT32 and all(self._is_last_step(taker.output[0]) for taker in takers)

    def _is_last_step(self, name: str) -> bool:
        """Say whether a tensor is an output that an integer becomes by a product with a power of two."""
        node = self.producer[name]
        if node.op_type != "Mul" or name not in self.outputs or name in self.consumers:
            return False
        cast, factor = self.producer.get(node.input[0]), self.constants.get(node.input[1])
        if cast is None or cast.op_type != "Cast" or self.types[cast.input[0]] != TensorProto.INT32:
            return False
        return factor is not None and factor.size == 1 and float(np.frexp(factor)[0]) == 0.5

    def _casts_to(self, node: onnx.NodeProto, kind: int) -> bool:
        return node.op_type == "Cast" and self.types.get(node.output[0], self._type_of_result(node)) == kind

    def _type_of_result(self, node: onnx.NodeProto) -> int:
        if node.op_type == "Cast":
            return next(int(helper.get_attribute_value(a)) for a in node.attribute if a.name == "to")
        if node.op_type in _TRUTHS:
            return TensorProto.BOOL
        if node.op_type in ("Shape", "MatMulInteger"):
            return TensorProto.INT64 if node.op_type == "Shape" else TensorProto.INT32
        if node.op_type == "DequantizeLinear":
            return TensorProto.FLOAT
        deciding = {"Where": 1, "QLinearConv": 7, "QuantizeLinear": 2}.get(node.op_type, 0)
        result: int = self.types[node.input[deciding]]
        return result
