"""Integer nodes as they are made, each for the graph of the float node that it stands for; and the graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlic.runtime.arrays import Array

OPSET = 20
IR_VERSION = 9

BOOL, FLOAT, DOUBLE = TensorProto.BOOL, TensorProto.FLOAT, TensorProto.DOUBLE
UINT8, INT16, INT32, INT64 = TensorProto.UINT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64


@dataclass
class Emitter:
    """Collects nodes; tensors have names that are unique in the whole chain.

    Attributes:
        graphs: in running order.
        nodes: by graph.
        owner: the graph that gives a tensor.
        types: ONNX element type of each tensor.
    """

    graphs: Sequence[str]
    nodes: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    _constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _titles: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def constant(self, value: Array | np.generic) -> str:
        """Return the name of a constant; equal ones share one."""
        value = np.asarray(value, order="C")  # ascontiguousarray would make vectors of scalars
        key = hashlib.sha256(f"{value.dtype.str}{value.shape}".encode() + value.tobytes()).hexdigest()[:20]
        name = f"c_{key}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(value, name)
            self.types[name] = self._constants[name].data_type
        return name

    def initializer(self, name: str) -> onnx.TensorProto | None:
        """Return a constant by its name; None for other tensors."""
        return self._constants.get(name)

    def int32(self, *values: int) -> str:
        """Return the name of an int32 constant: a number, or a vector of several."""
        return self.constant(np.array(values[0] if len(values) == 1 else values, np.int32))

    def int64(self, values: int | Sequence[int] | Array) -> str:
        """Return the name of an int64 constant."""
        return self.constant(np.array(values, np.int64))

    def outside(self, name: str, graph: str, kind: int) -> str:
        """Declare a tensor that comes from outside the chain."""
        self.types[name] = kind
        self.owner.setdefault(name, "")
        return name

    def add(
        self, graph: str, op: str, inputs: Sequence[str], kind: int, name: str | None = None, **attributes: Any
    ) -> str:
        """Add a node with one output to a graph and return the output's name.

        Args:
            graph: that the node belongs to.
            op: of ai.onnx.
            inputs: names.
            kind: element type of the output.
            name: of the output; default: a new one.
            attributes: of the node.
        """
        if name is None:
            name = f"t_{self._count}"
            self._count += 1
        assert name not in self.owner, name
        inputs = [self._usable(graph, given) for given in inputs]
        self.nodes.setdefault(graph, []).append(helper.make_node(op, inputs, [name], **attributes))
        self.owner[name] = graph
        self.types[name] = kind
        return name

    def _usable(self, graph: str, name: str) -> str:
        """Return a tensor as this graph takes it: truth values travel between graphs as uint8."""
        if not name or name not in self.owner or self.types[name] != BOOL or self.owner[name] == graph:
            return name
        travelling = f"{name}_u8"
        if travelling not in self.owner:
            self.add(self.owner[name], "Cast", [name], UINT8, travelling, to=UINT8)
            self.call(travelling, self._titles.get(name, travelling))
        local = f"{name}_in_{graph}"
        if local not in self.owner:
            self.add(graph, "Cast", [travelling], BOOL, local, to=BOOL)
        return local

    def models(self, results: Mapping[str, Sequence[str]]) -> dict[str, onnx.ModelProto]:
        """Return a model for each graph, without nodes that nothing needs.

        Args:
            results: tensors that leave the chain, by graph.
        """
        made: dict[str, onnx.ModelProto] = {}
        wanted: set[str] = set()
        parts: dict[str, tuple[list[onnx.NodeProto], list[str], list[str], list[onnx.TensorProto]]] = {}
        for graph in reversed(self.graphs):
            needed = {name for name in wanted if self.owner.get(name) == graph} | set(results.get(graph, ()))
            outputs = [*results.get(graph, ())]
            outputs += sorted(needed - set(outputs))
            kept = []
            for node in reversed(self.nodes.get(graph, [])):
                if node.output[0] in needed:
                    kept.append(node)
                    needed |= {name for name in node.input if name}
            taken = dict.fromkeys(name for node in reversed(kept) for name in node.input if name)
            inside = {node.output[0] for node in kept}
            inputs = [name for name in taken if name not in inside and name not in self._constants]
            wanted |= set(inputs)
            initializers = [self._constants[name] for name in taken if name in self._constants]
            parts[graph] = (kept[::-1], inputs, outputs, initializers)
        names = self._travelling_names(wanted)
        for graph in self.graphs:
            nodes, inputs, outputs, initializers = parts[graph]
            made[graph] = _model(graph, nodes, inputs, outputs, initializers, self.types, names)
        return made

    def call(self, name: str, title: str) -> None:
        """Say what a tensor should be called where it travels from graph to graph."""
        self._titles.setdefault(name, title.replace("/", "."))

    def _travelling_names(self, wanted: Collection[str]) -> dict[str, str]:
        """Return the names under which tensors travel; those from outside keep theirs."""
        names: dict[str, str] = {}
        for name in sorted(wanted, key=lambda name: (len(name), name)):
            if self.owner[name]:
                title = self._titles.get(name, name)
                same = sum(other == title or other.startswith(f"{title}.") for other in names.values())
                names[name] = f"{title}.{same + 1}" if same else title
        return names


def _model(
    graph: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[str],
    outputs: Sequence[str],
    initializers: Sequence[onnx.TensorProto],
    types: Mapping[str, int],
    names: Mapping[str, str],
) -> onnx.ModelProto:
    """Return a graph, its tensors renamed."""
    renamed = []
    for number, node in enumerate(nodes):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{node.op_type}_{number}"
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names.get(name, name) for name in node.output]
        renamed.append(copy)
    given = [helper.make_tensor_value_info(names.get(name, name), types[name], None) for name in inputs]
    results = [helper.make_tensor_value_info(names.get(name, name), types[name], None) for name in outputs]
    proto = helper.make_graph(renamed, graph, given, results, list(initializers))
    return helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="mlic"
    )
