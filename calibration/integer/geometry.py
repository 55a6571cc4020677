"""Masks and places: what follows from the picture's size alone, in the integers that it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlic.calibration.errors import CalibrationError
from mlic.calibration.integer.emitter import BOOL, FLOAT, INT64
from mlic.calibration.integer.float_chain import Node

if TYPE_CHECKING:
    from mlic.calibration.integer.lowering import Lowering


def mask(lowering: Lowering, name: str) -> str:
    """Make a tensor of zeros and ones as truth values."""
    node = lowering.node(name)
    graph = node.graph
    if node.op == "Cast":
        source = lowering.geometry(node.inputs[0])
        return (
            source if lowering.emit.types[source] == BOOL else lowering.emit.add(graph, "Cast", [source], BOOL, to=BOOL)
        )
    if node.op == "Sub":
        return lowering.emit.add(graph, "Not", [lowering.mask(node.inputs[1])], BOOL)
    rest = [lowering.geometry(given) for given in node.inputs[1:]]
    return lowering.emit.add(graph, node.op, [lowering.mask(node.inputs[0]), *rest], BOOL, **node.attributes)


def geometry(lowering: Lowering, name: str) -> str:
    """Make an integer tensor that follows the picture's size as it is in the float chain."""
    node = lowering.node(name)
    graph, kind = node.graph, lowering.chain.types[name]
    if node.op == "Shape":
        return lowering.emit.add(graph, "Shape", [lowering.any_form(node.inputs[0])], INT64, **node.attributes)
    if node.op == "Cast" and lowering.chain.types[node.inputs[0]] == FLOAT:
        return _floored_division(lowering, node)
    inputs = [lowering.geometry(given) if given else "" for given in node.inputs]
    return lowering.emit.add(graph, node.op, inputs, kind, **node.attributes)


def _floored_division(lowering: Lowering, node: Node) -> str:
    """Return what PyTorch's exporter writes as Cast(Floor(Div(Cast(x), c))), in integers."""
    floor = lowering.node(node.inputs[0])
    division = lowering.node(floor.inputs[0]) if floor.op == "Floor" else floor
    if floor.op != "Floor" or division.op != "Div" or lowering.node(division.inputs[0]).op != "Cast":
        raise CalibrationError(f"graph {node.graph}: floating-point numbers decide on places in the picture")
    divisor = int(lowering.chain.constants[division.inputs[1]].reshape(-1)[0])
    whole = lowering.geometry(lowering.node(division.inputs[0]).inputs[0])
    far = 1 << 24
    moved = lowering.emit.add(node.graph, "Add", [whole, lowering.emit.int64(far * divisor)], INT64)
    divided = lowering.emit.add(node.graph, "Div", [moved, lowering.emit.int64(divisor)], INT64)
    return lowering.emit.add(node.graph, "Sub", [divided, lowering.emit.int64(far)], INT64)
