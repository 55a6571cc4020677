"""The entropy path of a bundle as one graph: its nodes with constants folded, and which graph each belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from mlic.calibration.errors import CalibrationError
from mlic.runtime.arrays import Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import chain_names


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
        graph: where it stands: ``h_s``, ``step_NN``, ``finish``.
        op: its type.
        inputs: names of tensors, empty where an optional one is left out.
        outputs: likewise.
        attributes: by name.
    """

    graph: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass
class FloatChain:
    """All graphs of the entropy path, joined by the names of their tensors.

    Names of tensors inside a graph are prefixed with it; the chain's state keeps its names.

    Attributes:
        graphs: names, in running order.
        nodes: in running order.
        constants: arrays that do not depend on the picture.
        producer: the node that gives a tensor.
        consumers: the nodes that take it.
        types: ONNX element type of each tensor that is not constant.
        outside: tensors that no graph gives: symbols.
    """

    graphs: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    producer: dict[str, Node] = field(default_factory=dict)
    consumers: dict[str, list[Node]] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, bundle: Bundle) -> FloatChain:
        """Read the entropy path of a bundle.

        Raises:
            CalibrationError: it is not in float32.
        """
        manifest = bundle.manifest
        if manifest.arithmetic != "float32-syndrome":
            raise CalibrationError(f"bundle {manifest.name}: its chain is {manifest.arithmetic}; expected a float one")
        return cls.joined(
            {graph: onnx.load_from_string(bundle.read_graph(manifest.graphs[graph])) for graph in chain_names(manifest)}
        )

    @classmethod
    def joined(cls, models: Mapping[str, onnx.ModelProto]) -> FloatChain:
        """Join graphs: what one takes and another gives, or none, travels under its name.

        Args:
            models: by name, in running order.
        """
        chain = cls(tuple(models))
        state = {value.name for model in models.values() for value in (*model.graph.input, *model.graph.output)}
        for graph, model in models.items():
            chain._add(graph, model, state)
        given = set(chain.producer) | set(chain.constants)
        chain.outside = sorted({name for node in chain.nodes for name in node.inputs if name} - given)
        return chain

    def is_constant(self, name: str) -> bool:
        """Say whether a tensor does not depend on the picture."""
        return name in self.constants

    def owner(self, name: str) -> str:
        """Return the graph that gives a tensor; of one from outside, the first that takes it."""
        if name in self.producer:
            return self.producer[name].graph
        return self.consumers[name][0].graph

    def _add(self, graph: str, model: onnx.ModelProto, state: set[str]) -> None:
        inferred = onnx.shape_inference.infer_shapes(model)
        kinds = {
            value.name: value.type.tensor_type.elem_type
            for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
        }

        def named(name: str) -> str:
            return name if not name or name in state else f"{graph}/{name}"

        for initializer in model.graph.initializer:
            self.constants[named(initializer.name)] = numpy_helper.to_array(initializer)
        for value in model.graph.input:
            self.types[named(value.name)] = value.type.tensor_type.elem_type
        for proto in model.graph.node:
            if all(not name or named(name) in self.constants for name in proto.input):
                self._fold(proto, named)
                continue
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
            node = Node(
                graph,
                proto.op_type,
                tuple(map(named, proto.input)),
                tuple(map(named, proto.output)),
                {key: _plain(value) for key, value in attributes.items()},
            )
            self.nodes.append(node)
            for name in proto.output:
                self.producer[named(name)] = node
                self.types[named(name)] = kinds[name]
            for name in dict.fromkeys(node.inputs):
                self.consumers.setdefault(name, []).append(node)

    def _fold(self, proto: onnx.NodeProto, named: Any) -> None:
        inputs = {name: self.constants[named(name)] for name in proto.input if name}
        values = _evaluate(proto, inputs)
        for name, value in zip(proto.output, values, strict=True):
            self.constants[named(name)] = np.asarray(value)


def _evaluate(proto: onnx.NodeProto, inputs: Mapping[str, Array]) -> Sequence[Array]:
    """Return what a node makes of constants."""
    given = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    results = [onnx.ValueInfoProto(name=name) for name in proto.output]
    graph = onnx.helper.make_graph([proto], "constant", given, results)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    found = ReferenceEvaluator(model).run(None, dict(inputs))
    return [np.asarray(value) for value in found]


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
