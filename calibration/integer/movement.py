"""Operators that move elements: on codes as on fixed values, with the grid's axis followed back."""

from __future__ import annotations

import math

import numpy as np

from mlic.calibration.integer import convolution
from mlic.calibration.integer.emitter import INT32, INT64, UINT8
from mlic.calibration.integer.float_chain import Node
from mlic.calibration.integer.grids import Grid
from mlic.calibration.integer.handlers import HANDLERS
from mlic.calibration.integer.lowering import Lowering
from mlic.calibration.integer.statistics import Shape


def _move(lowering: Lowering, node: Node, source: str, zero: int) -> str:
    """Emit a node on another form of its first input."""
    emit, kind = lowering.emit, lowering.emit.types[source]
    rest = [lowering.geometry(given) if given else "" for given in node.inputs[1:]]
    if node.op == "Pad":
        value = np.array(zero, np.uint8 if kind == UINT8 else np.int32)
        rest = [rest[0], emit.constant(value)]
    if node.op == "Resize":  # scales are floats, exact ones
        rest = ["", emit.constant(lowering.chain.constants[node.inputs[2]])]
    return emit.add(node.graph, node.op, [source, *rest], kind, **node.attributes)


def moved_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str | None:
    """Move codes instead of values, if the grid can be followed back through the node."""
    source = node.inputs[0]
    axis = None
    if grid.axis is not None:
        axis = axis_before(node, grid.axis, lowering.shape(source), lowering.shape(name), lowering)
        if axis is None:
            return None
    if node.op == "Pad" and grid.common_zero is None:
        return None
    before = grid.moved(axis)
    return _move(lowering, node, lowering.code(source, before), grid.common_zero or 0)


def moved_fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Move fixed values."""
    source = lowering.fixed(node.inputs[0], bits)
    made = _move(lowering, node, source, 0)
    lowering.bound[made] = lowering.bound[source]
    return made


def axis_before(node: Node, axis: int, before: Shape, after: Shape, lowering: Lowering) -> int | None:
    """Return which axis of the input becomes an axis of the output, with the same elements; None if none does."""
    if node.op == "Transpose":
        return int(node.attributes["perm"][axis])
    if node.op == "Reshape":
        return _axis_before_reshape(axis, before, after)
    if node.op in ("Unsqueeze", "Squeeze"):
        axes = [int(a) for a in lowering.chain.constants[node.inputs[1]].reshape(-1)]
        wider = len(after) if node.op == "Unsqueeze" else len(before)
        gone = {a % wider for a in axes}
        kept = [a for a in range(wider) if a not in gone]
        return kept.index(axis) if node.op == "Unsqueeze" else kept[axis]
    if node.op == "Gather":
        index = lowering.shape(node.inputs[1])
        along = int(node.attributes.get("axis", 0)) % len(before)
        if axis < along:
            return axis
        return axis - len(index) + 1 if axis >= along + len(index) else None
    return axis if node.op in ("Pad", "Resize") and before[axis] == after[axis] else None


def _axis_before_reshape(axis: int, before: Shape, after: Shape) -> int | None:
    if any(side is None for side in after[: axis + 1]):
        return None
    ahead = math.prod(side or 0 for side in after[:axis])
    for candidate, side in enumerate(before):
        sides = before[:candidate]
        if None not in sides and math.prod(s or 0 for s in sides) == ahead and side == after[axis]:
            return candidate
    return None


def cut_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str | None:
    """Cut channels out of codes, where all of them lie on the grid that is asked for."""
    found = channels_of(lowering, node, name)
    if found is None:
        return None
    source, channels = found
    if channels is None:
        return None
    whole = lowering.input_grid(source, 1)
    if whole.part(channels).key != grid.key:
        before = lowering.chain.producer.get(source)
        if before is None or before.op != "Conv":
            return None
        return convolution.channels_code(lowering, before, np.arange(channels.start, channels.stop), grid)
    ends = [lowering.emit.int64([value]) for value in (channels.start, channels.stop, 1)]
    return lowering.emit.add(node.graph, "Slice", [lowering.code(source, whole), *ends], UINT8)


def channels_of(lowering: Lowering, node: Node, name: str) -> tuple[str, slice | None] | None:
    """Return what a Slice or Split cuts channels from, and which; None if it cuts anything else."""
    source = node.inputs[0]
    if len(lowering.shape(name)) != 4:
        return None
    if node.op == "Split":
        first, end, axis = split_part(lowering, node, name)
    else:
        limits = [lowering.chain.constants[given].reshape(-1) for given in node.inputs[1:]]
        if any(limit.size != 1 for limit in limits) or (len(limits) == 4 and limits[3][0] != 1):
            return None
        first, end, axis = (int(limit[0]) for limit in limits[:3])
    return (source, slice(first, min(end, lowering.shape(source)[1] or 0))) if axis == 1 and first >= 0 else None


def concatenated_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str:
    """Put the codes of all parts together, each on its share of the grid."""
    rank = len(lowering.shape(name))
    axis = int(node.attributes["axis"]) % rank
    parts, start = [], 0
    for source in node.inputs:
        if grid.axis == axis:
            end = start + (lowering.shape(source)[axis] or 0)
            part, natural = grid.part(slice(start, end)), lowering.natural_grid(source)
            parts.append(lowering.code(source, natural if natural is not None and natural.equals(part) else part))
            start = end
        else:
            parts.append(lowering.code(source, grid))
    return lowering.emit.add(node.graph, "Concat", parts, UINT8, axis=axis)


def concatenated_fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Put fixed values together."""
    parts = [lowering.fixed(source, bits) for source in node.inputs]
    made = lowering.emit.add(node.graph, "Concat", parts, INT32, **node.attributes)
    lowering.bound[made] = max(lowering.bound[part] for part in parts)
    return made


def cut_fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Cut fixed values; channels of a convolution come from their own codes."""
    found = channels_of(lowering, node, name)
    before = None if found is None else lowering.chain.producer.get(found[0])
    if before is not None and before.op == "Conv":
        return lowering.fixed_from_code(name, bits)
    return moved_fixed(lowering, node, name, bits) if node.op == "Slice" else split_fixed(lowering, node, name, bits)


def split_fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Cut one part out of fixed values."""
    source = lowering.fixed(node.inputs[0], bits)
    first, end, axis = split_part(lowering, node, name)
    made = lowering.emit.add(
        node.graph, "Slice", [source, *(lowering.emit.int64([value]) for value in (first, end, axis))], INT32
    )
    lowering.bound[made] = lowering.bound[source]
    return made


def split_part(lowering: Lowering, node: Node, name: str) -> tuple[int, int, int]:
    """Return where a part of a Split begins and ends, and along which axis."""
    shape = lowering.shape(node.inputs[0])
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    sizes = [lowering.shape(output)[axis] or 0 for output in node.outputs]
    number = node.outputs.index(name)
    return sum(sizes[:number]), sum(sizes[: number + 1]), axis


def shuffled_code(lowering: Lowering, node: Node, name: str, grid: Grid) -> str:
    """Pixel shuffle: each channel comes from block² neighbours, which share its grid."""
    block = int(node.attributes["blocksize"])
    assert node.attributes.get("mode") == "CRD"
    before = grid
    if grid.axis is not None:
        zero = grid.zero if np.ndim(grid.zero) == 0 else np.repeat(grid.zero, block**2)
        before = Grid(np.repeat(grid.scale, block**2), zero, 1)
    return _shuffle(lowering, node, lowering.code(node.inputs[0], before), block)


def shuffled_fixed(lowering: Lowering, node: Node, name: str, bits: int) -> str:
    """Pixel shuffle of fixed values."""
    source = lowering.fixed(node.inputs[0], bits)
    made = _shuffle(lowering, node, source, int(node.attributes["blocksize"]))
    lowering.bound[made] = lowering.bound[source]
    return made


def _shuffle(lowering: Lowering, node: Node, source: str, block: int) -> str:
    """Emit a pixel shuffle by reshaping, since engines take DepthToSpace of few types."""
    emit, graph, kind = lowering.emit, node.graph, lowering.emit.types[source]
    channels = (lowering.shape(node.inputs[0])[1] or 0) // block**2
    sides = emit.add(graph, "Shape", [source], INT64, start=2, end=4)
    split = emit.add(graph, "Concat", [emit.int64([channels, block, block]), sides], INT64, axis=0)
    apart = emit.add(graph, "Reshape", [source, split], kind)
    turned = emit.add(graph, "Transpose", [apart], kind, perm=[0, 3, 1, 4, 2])
    grown = emit.add(graph, "Mul", [sides, emit.int64([block, block])], INT64)
    target = emit.add(graph, "Concat", [emit.int64([1, channels]), grown], INT64, axis=0)
    return emit.add(graph, "Reshape", [turned, target], kind)


for _op in ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Pad", "Resize"):
    HANDLERS.code[_op] = moved_code
    HANDLERS.fixed[_op] = moved_fixed
for _op in ("Slice", "Split"):
    HANDLERS.code[_op] = cut_code
    HANDLERS.part[_op] = channels_of
HANDLERS.part["Resize"] = lambda lowering, node, name: (node.inputs[0], None)
HANDLERS.fixed["Slice"] = HANDLERS.fixed["Split"] = cut_fixed
HANDLERS.code["Concat"] = concatenated_code
HANDLERS.fixed["Concat"] = concatenated_fixed
HANDLERS.code["DepthToSpace"] = shuffled_code
HANDLERS.fixed["DepthToSpace"] = shuffled_fixed
