"""One layer of the float chain in integers: its nodes as they were lowered, between conversions from floats and back.

What the layer takes is rounded as the integer chain rounds it, the layer computes in integers, and its result becomes
floats again. Everything else of the graph stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mlic.calibration.integer.chain_builder import IntegerChain, layer_of
from mlic.calibration.integer.emitter import BOOL, FLOAT, INT32, UINT8
from mlic.calibration.integer.float_chain import Node
from mlic.calibration.integer.grids import TOP, Grid
from mlic.calibration.integer.lowering import MAX_SYMBOL, Y_BITS, Lowering
from mlic.calibration.integer.softmax import DIGIT_BITS, TOP_FEW, TOP_MANY, softmax_axis
from mlic.runtime.arithmetic import INTEGER
from mlic.runtime.arrays import Array
from mlic.runtime.manifest import StepSpec

OPERATORS = ("Conv", "Gemm", "MatMul")
_FORMS = ("code", "fixed", "mask", "symbols", "digit")
_ROUNDED_ANEW = ("QLinearConv", "MatMulInteger", "GatherElements")  # products and tables; other nodes move and divide
_INDEXES = "indexes"  # a form that only steps put out
_PREFIX = "integer/"  # of tensors of the integer chain in a float graph


@dataclass(frozen=True)
class Result:
    """What a layer gives.

    Attributes:
        tensor: of the float chain, that is computed in integers instead.
        made: the integer tensor that stands for it.
        form: its key in ``Lowering.made``; ``indexes`` for indexes of scales, which have no way back to floats.
    """

    tensor: str
    made: str
    form: tuple[str, ...]


@dataclass(frozen=True)
class ChainLayer:
    """One product of the entropy path.

    Attributes:
        node: of the float chain.
        title: for people: the weight's name in the checkpoint, or that of the tensor that the layer gives.
        results: one, or the scales and means of a step.
    """

    node: Node
    title: str
    results: tuple[Result, ...]


def layers_of_chain(lowered: IntegerChain, steps: Sequence[StepSpec]) -> list[ChainLayer]:
    """Return all products of a chain that its results depend on, in running order."""
    lowering = lowered.lowering
    forms: dict[str, list[tuple[str, ...]]] = {}
    for key in lowering.made:
        if key[0] in ("code", "fixed"):
            forms.setdefault(key[1], []).append(key)
    given: dict[str, list[Result]] = {}  # by what the convolution puts out
    for step in steps:
        fixed = ("fixed", step.means, str(Y_BITS))
        for result in (
            Result(step.scales, INTEGER.output(step), (_INDEXES,)),
            Result(step.means, lowering.made[fixed], fixed),
        ):
            given.setdefault(layer_of(lowering, result.tensor)[0].outputs[0], []).append(result)
    found = []
    for node in lowering.chain.nodes:
        if node.op not in OPERATORS:
            continue
        results = given.get(node.outputs[0])
        if results is None:
            results = [
                Result(tensor, lowering.made[form], form)
                for tensor in _given_by(lowering, node, forms)
                for form in [_form_of(lowering, node, tensor, forms[tensor])]
            ]
        if results:
            found.append(ChainLayer(node, _title(lowering, node), tuple(results)))
    return _with_own_titles(found)


def _given_by(lowering: Lowering, node: Node, forms: Collection[str]) -> list[str]:
    """Return the tensors that have forms because of a layer: its result, or what only moves or cuts it."""
    name = node.outputs[0]
    if name in forms:
        return [name]
    moved = [taker for taker in lowering.chain.consumers.get(name, ()) if taker.op in ("Transpose", "Slice", "Split")]
    return [output for taker in moved for output in taker.outputs if output in forms]


def _form_of(lowering: Lowering, node: Node, tensor: str, forms: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the form that stands for a layer's result; others are made of it, or differ in how fine they are.

    Codes, if the layer gives 8 bits: a convolution does, other products where one function alone takes the result.
    """
    codes = [form for form in forms if form[0] == "code"]
    fixed = [form for form in forms if form[0] == "fixed"]
    if codes and (not fixed or node.op == "Conv" or len(lowering.chain.consumers[tensor]) == 1):
        return max(codes, key=lambda form: float(np.mean(lowering.grids[form[2]].scale)))
    return max(fixed, key=lambda form: int(form[2]))


def _title(lowering: Lowering, node: Node) -> str:
    constants = [name for name in node.inputs[:2] if lowering.chain.is_constant(name)]
    return (constants[0] if constants else node.outputs[0]).removeprefix(f"{node.graph}/").removesuffix(".weight")


def _with_own_titles(layers: Sequence[ChainLayer]) -> list[ChainLayer]:
    """Tell layers of a graph that share weights apart by what they give."""
    titles = [(layer.node.graph, layer.title) for layer in layers]
    return [
        ChainLayer(layer.node, f"{layer.title} ({_local(layer.node.graph, layer.node.outputs[0])})", layer.results)
        if titles.count(title) > 1
        else layer
        for layer, title in zip(layers, titles, strict=True)
    ]


def spliced(model: onnx.ModelProto, lowered: IntegerChain, layer: ChainLayer) -> onnx.ModelProto:
    """Return a float graph with one layer in integers.

    Args:
        model: of the layer's graph in the float chain; stays as it is.
        lowered: the integer chain.
        layer: which.

    Returns:
        A graph with the same inputs and outputs, and ``indexes_NN`` as a further output where the layer gives scales.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    splice = _Splice(lowered.lowering, layer, made)
    for result in layer.results:
        splice.add(result)
    graph, name = made.graph, layer.node.graph
    replaced = {_local(name, result.tensor) for result in layer.results if result.form[0] != _INDEXES}
    for node in graph.node:
        node.output[:] = [f"{output}/float" if output in replaced else output for output in node.output]
    nodes = _sorted([*graph.node, *splice.nodes])
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(splice.initializers.values())
    graph.output.extend(helper.make_tensor_value_info(output, UINT8, None) for output in splice.indexes)
    return made


def _sorted(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return nodes in an order in which each follows what it takes; as they are, where that is so."""
    producers = {output: i for i, node in enumerate(nodes) for output in node.output}
    done: set[int] = set()
    order: list[onnx.NodeProto] = []
    for number in range(len(nodes)):
        stack = [number]
        while stack:
            top = stack[-1]
            waiting = [producers[name] for name in nodes[top].input if name in producers]
            if missing := [other for other in waiting if other not in done]:
                stack += missing
                continue
            stack.pop()
            if top not in done:
                done.add(top)
                order.append(onnx.NodeProto.FromString(nodes[top].SerializeToString()))
    return order


class _Splice:
    """Collects the nodes of one layer."""

    def __init__(self, lowering: Lowering, layer: ChainLayer, model: onnx.ModelProto) -> None:
        self._lowering = lowering
        self._layer = layer
        own = {*layer.node.outputs, *(result.tensor for result in layer.results)}
        known = {value.name for value in model.graph.input} | {
            name for node in model.graph.node for name in node.output
        }
        self._entries: dict[str, tuple[str, ...]] = {}  # forms of other tensors of this graph, by the integer tensor
        for key, name in lowering.made.items():
            if key[0] not in _FORMS or key[1] in own or _local(layer.node.graph, key[1]) not in known:
                continue
            if key[1] in layer.node.inputs or name not in self._entries:
                self._entries[name] = key
        self._producers = {node.output[0]: node for nodes in lowering.emit.nodes.values() for node in nodes}
        self._done: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.indexes: list[str] = []

    def add(self, result: Result) -> None:
        """Add what computes a result, and give it the name of the float tensor."""
        made = self._computed(result.made)
        target = _local(self._layer.node.graph, result.tensor)
        if result.form[0] == _INDEXES:
            self._emit("Identity", [made], result.made)
            self.indexes.append(result.made)
            return
        value = self._emit("Cast", [made], to=FLOAT)
        if result.form[0] == "fixed":
            self._emit("Mul", [value, self._constant(np.float32(2.0 ** -int(result.form[2])))], target)
            return
        grid = self._lowering.grids[result.form[2]]
        rank = len(self._lowering.shape(result.tensor))
        centred = self._emit("Sub", [value, self._along(grid.zero, grid, rank)])
        self._emit("Mul", [centred, self._along(grid.scale, grid, rank)], target)

    def _computed(self, name: str) -> str:
        """Return the name, in the float graph, of an integer tensor; add what computes it from floats."""
        inside = _PREFIX + name
        if not name or inside in self._done:
            return inside if name else ""
        self._done.add(inside)
        constant = self._lowering.emit.initializer(name)
        if constant is not None:
            self.initializers[inside] = onnx.TensorProto.FromString(constant.SerializeToString())
            self.initializers[inside].name = inside
        elif name in self._entries and not self._is_divided(name):
            self._enter(self._entries[name], inside)
        else:
            node = onnx.NodeProto()
            node.CopyFrom(self._producers[name])
            node.input[:] = [self._computed(given) for given in node.input]
            node.output[:] = [inside]
            node.name = ""
            self.nodes.append(node)
        return inside

    def _is_divided(self, name: str) -> bool:
        """Say whether codes come from fixed values of this graph, perhaps moved: the division is taken in then."""
        if self._entries[name][0] != "code":
            return False
        waiting, seen = [name], set()
        while waiting:
            node = self._producers.get(waiting.pop())
            if node is None or node.op_type in _ROUNDED_ANEW:
                return False
            for given in node.input:
                is_known = not given or given in self._entries or self._lowering.emit.initializer(given) is not None
                if not is_known and given not in seen:
                    seen.add(given)
                    waiting.append(given)
        return True

    def _enter(self, key: tuple[str, ...], target: str) -> None:
        """Make a form of a float tensor, rounding it."""
        form, name = key[:2]
        value = _local(self._layer.node.graph, name)
        if form == "mask":
            self._emit("Cast", [value], target, to=BOOL)
        elif form == "digit":
            self._digit(key, value, target)
        elif form == "code":
            grid, rank = self._lowering.grids[key[2]], len(self._lowering.shape(name))
            scaled = self._emit("Div", [value, self._along(grid.scale, grid, rank)])
            moved = self._emit("Add", [self._emit("Round", [scaled]), self._along(grid.zero, grid, rank)])
            self._emit("Cast", [self._clipped(moved, 0, TOP)], target, to=UINT8)
        else:
            if form == "symbols":
                value = self._clipped(value, -MAX_SYMBOL, MAX_SYMBOL)
            bits = int(key[2]) if form == "fixed" else 0
            scaled = self._emit("Mul", [value, self._constant(np.float32(2.0**bits))])
            self._emit("Cast", [self._emit("Round", [scaled])], target, to=INT32)

    def _digit(self, key: tuple[str, ...], shares: str, target: str) -> None:
        """Make a digit of a softmax's numerators from its shares: the largest share is that of the largest weight."""
        place, is_few = int(key[2]), key[3] == "True"
        axis = softmax_axis(self._lowering, self._lowering.chain.producer[key[1]])
        largest = self._emit("ReduceMax", [shares, self._constant(np.array([axis], np.int64))], keepdims=1)
        scaled = self._emit(
            "Mul",
            [self._emit("Div", [shares, largest]), self._constant(np.float32(TOP_FEW if is_few else TOP_MANY))],
        )
        weight = self._emit("Round", [scaled])
        if not is_few:
            base = self._constant(np.float32(1 << DIGIT_BITS))
            high = self._emit("Floor", [self._emit("Div", [weight, base])])
            weight = high if place > 1 else self._emit("Sub", [weight, self._emit("Mul", [high, base])])
        self._emit("Cast", [weight], target, to=UINT8)

    def _clipped(self, value: str, low: int, high: int) -> str:
        return self._emit("Clip", [value, *(self._constant(np.float32(limit)) for limit in (low, high))])

    def _along(self, values: Array, grid: Grid, rank: int) -> str:
        """Return a constant with a grid's numbers along its axis."""
        shape = [1] * rank
        if grid.axis is not None and np.ndim(values):
            shape[grid.axis] = -1
        return self._constant(np.asarray(values, np.float32).reshape(shape if np.ndim(values) else ()))

    def _constant(self, value: Array | np.generic) -> str:
        name = f"{_PREFIX}constant_{len(self.initializers)}"
        self.initializers[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _emit(self, op: str, inputs: Sequence[str], target: str | None = None, **attributes: Any) -> str:
        name = target or f"{_PREFIX}value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name


def _local(graph: str, name: str) -> str:
    """Return a tensor's name inside a graph."""
    return name.removeprefix(f"{graph}/")
