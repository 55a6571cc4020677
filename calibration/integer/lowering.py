"""From the float chain to the integer one, on demand: each tensor is made in the forms that its consumers ask for.

A tensor of the float chain can be had in these forms:

- *code*: uint8 on a ``Grid``, what products take;
- *fixed*: int32, its value times 2^F;
- *mask*: truth values, of tensors that hold zeros and ones because of where they come from;
- *geometry*: as it is, for tensors of integers that depend on the picture's size alone.

A form belongs to the graph of the float node whose result it is, so graphs hand on what later ones need.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mlic.calibration.errors import CalibrationError
from mlic.calibration.integer import geometry
from mlic.calibration.integer.emitter import BOOL, FLOAT, INT16, INT32, UINT8, Emitter
from mlic.calibration.integer.fixed_point import FixedPoint
from mlic.calibration.integer.float_chain import FloatChain, Node
from mlic.calibration.integer.functions import Function, function_of
from mlic.calibration.integer.grids import SIGNED_ZERO, TOP, Grid, free, positive, symmetric
from mlic.calibration.integer.handlers import HANDLERS
from mlic.calibration.integer.statistics import Shape, Source, Statistics
from mlic.runtime.arrays import Array

Y_BITS = 8  # fraction bits of means, symbols and y_hat
MAX_SYMBOL = 1 << 14  # larger ones are taken as this; y_hat stays exact as a float32
TABLE_BITS = 12  # of the index into a table of a function of a fixed value
MOST_BITS = 14  # of the fraction of a fixed value


class Lowering(FixedPoint):
    """Makes forms of tensors.

    Args:
        chain: the float chain.
        source: statistics of its tensors.

    Attributes:
        primary: tensors that have one fixed form, and its bits.
        grids: of all codes, by their keys.
    """

    def __init__(self, chain: FloatChain, source: Source) -> None:
        super().__init__(Emitter(chain.graphs))
        self.chain = chain
        self.source = source
        self._made: dict[tuple[str, ...], str] = {}
        self.primary: dict[str, tuple[str, int]] = {}
        self.grids: dict[str, Grid] = {}
        self._grids: dict[tuple[str, str, str], Grid] = {}

    # Requests

    def code(self, name: str, grid: Grid) -> str:
        """Return a tensor's codes on a grid: name of a uint8 tensor."""
        key = grid.key
        self.grids[key] = grid
        return self.once(("code", name, key), lambda: self._code(name, grid))

    def fixed(self, name: str, bits: int) -> str:
        """Return a tensor times 2^bits, rounded: name of an int32 tensor, whose ``bound`` is known."""
        return self.once(("fixed", name, str(bits)), lambda: self._fixed(name, bits))

    def mask(self, name: str) -> str:
        """Return a tensor of zeros and ones as truth values: name of a bool tensor."""
        return self.once(("mask", name), lambda: geometry.mask(self, name))

    def geometry(self, name: str) -> str:
        """Return an integer tensor as it is."""
        if name in self.chain.constants:
            return self.emit.constant(self.chain.constants[name])
        return self.once(("geometry", name), lambda: geometry.geometry(self, name))

    # What is known of tensors

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape; None for sides that follow the picture."""
        if name in self.chain.constants:
            return self.chain.constants[name].shape
        return self.source.shape(name)

    def _channel_axis(self, name: str) -> int | None:
        """Return the axis of a map's channels, which may have a grid each; None for other tensors."""
        shape = self.shape(name)
        return 1 if len(shape) == 4 and shape[0] == 1 and shape[1] is not None else None

    def node(self, name: str) -> Node:
        """Return the node that gives a tensor."""
        return self.chain.producer[name]

    def bits_for(self, name: str, levels: int = 20) -> int:
        """Return the fraction bits at which a tensor's largest value takes ``levels`` bits."""
        return int(np.clip(levels - math.ceil(math.log2(self.source.of(name, None).largest)), 2, MOST_BITS))

    def input_grid(self, name: str, axis: int | None) -> Grid:
        """Return the grid on which a product should take a tensor; its zero is a code and common to all channels."""
        if (natural := self.natural_grid(name)) is not None:
            return natural
        if axis == 1 and (moved := self._grid_of_source(name)) is not None:
            return moved
        root, function = self.root_of(name)
        if root != name and function.is_positive:
            return self._grid("positive", name, axis, lambda statistics: positive(statistics, axis))
        return self.symmetric_grid(name, axis)

    def _grid_of_source(self, name: str) -> Grid | None:
        """Return the grid of what a tensor of maps is moved from, so that all that is moved from it shares codes."""
        node = self.chain.producer.get(name)
        if node is None or len(self.shape(name)) != 4:
            return None
        if node.op == "Concat":
            parts = [self.input_grid(source, 1) for source in node.inputs]
            if any(part.common_zero != SIGNED_ZERO for part in parts):
                return None
            sides = [static(self.shape(source), 1) for source in node.inputs]
            scales = [np.broadcast_to(part.scale, (side,)) for part, side in zip(parts, sides, strict=True)]
            return Grid(np.concatenate(scales), np.asarray(SIGNED_ZERO), 1)
        found = HANDLERS.part_of(self, node, name)
        if found is None:
            return None
        source, channels = found
        grid = self.input_grid(source, 1)
        return grid if channels is None else grid.part(channels)

    def symmetric_grid(self, name: str, axis: int | None) -> Grid:
        """Return the best grid for a tensor with 0.0 in the middle."""
        return self._grid("symmetric", name, axis, lambda statistics: symmetric(statistics, axis))

    def _grid(self, kind: str, name: str, axis: int | None, make: Callable[[Statistics], Grid]) -> Grid:
        key = (kind, name, str(axis))
        if key not in self._grids:
            self._grids[key] = make(self.source.of(name, axis))
        return self._grids[key]

    def natural_grid(self, name: str) -> Grid | None:
        """Return the grid of a mean weighed by a softmax: that of the values, where it costs no product."""
        node = self.chain.producer.get(name)
        while node is not None and node.op in ("Reshape", "Transpose", "Resize", "Mul"):
            if node.op == "Mul" and not self.is_mask(node.inputs[1]):
                return None
            node = self.chain.producer.get(node.inputs[0])
        if node is None or node.op != "MatMul":
            return None
        return HANDLERS.natural_grid(self, node)

    def natural_bits(self, name: str) -> int | None:
        """Return the fraction bits that a sum of tensors has by itself: those of a product in it; None without one."""
        node = self.chain.producer.get(name)
        if node is None:
            return None
        if node.op in ("Add", "Concat", "Reshape", "Transpose", "Unsqueeze"):
            found = [self.natural_bits(source) for source in node.inputs]
            return next((bits for bits in found if bits is not None), None)
        handler = HANDLERS.bits.get(node.op)
        return None if handler is None else handler(self, node)

    def root_of(self, name: str) -> tuple[str, Function]:
        """Return the tensor of which ``name`` is an elementwise function, and the function; itself at worst."""
        function = Function.identity()
        while (node := self.chain.producer.get(name)) is not None:
            step = function_of(node, self.chain.constants)
            if step is None:
                break
            source, outer = step
            function = outer.after_this(function)
            name = source
        return name, function

    def is_mask(self, name: str) -> bool:
        """Say whether a tensor holds zeros and ones because of how it is made."""
        node = self.chain.producer.get(name)
        if node is None:
            return False
        if node.op == "Cast":
            source = node.inputs[0]
            if self.chain.types.get(source) == BOOL:
                return True
            before = self.chain.producer.get(source)
            return before is not None and before.op == "Mod" and self.is_number(before.inputs[1], 2)
        if node.op == "Sub":
            return self.is_number(node.inputs[0], 1) and self.is_mask(node.inputs[1])
        return node.op in ("Slice", "Unsqueeze", "Reshape", "Squeeze", "Transpose") and self.is_mask(node.inputs[0])

    def is_number(self, name: str, value: float) -> bool:
        """Say whether a tensor is a constant of one element with this value."""
        constant = self.chain.constants.get(name)
        return constant is not None and constant.size == 1 and float(constant.reshape(-1)[0]) == value

    # Making forms

    def once(self, key: tuple[str, ...], make: Callable[[], str]) -> str:
        """Return what was made for a key; make it the first time."""
        if key not in self._made:
            self._made[key] = make()
            if key[0] in ("code", "fixed", "mask", "geometry", "symbols"):
                self.emit.call(self._made[key], f"{key[1]}.{key[0]}")
        return self._made[key]

    @property
    def made(self) -> Mapping[tuple[str, ...], str]:
        """What was made: by the form, the float tensor, and what else tells one from another."""
        return self._made

    def _code(self, name: str, grid: Grid) -> str:
        if name in self.chain.constants:
            codes = np.clip(np.rint(self.chain.constants[name] / grid.scale) + grid.zero, 0, TOP).astype(np.uint8)
            return self.emit.constant(codes)
        node = self.chain.producer.get(name)
        if node is not None:
            root, function = self.root_of(name)
            if root != name:
                return self._function_code(name, root, function, grid)
            handler = HANDLERS.code.get(node.op)
            if handler is not None and (found := handler(self, node, name, grid)) is not None:
                return found
        finest = float(np.min(grid.scale))
        bits = int(np.clip(math.ceil(math.log2(32 / finest)), 2, self.bits_for(name, 24)))
        return self.quantise(self.fixed(name, bits), bits, grid, self.chain.owner(name), len(self.shape(name)))

    def _fixed(self, name: str, bits: int) -> str:
        if name in self.chain.constants:
            return self.fixed_constant(self.chain.constants[name], bits)
        if name in self.primary:
            made, own = self.primary[name]
            graph = self.chain.owner(name)
            return (
                self.scaled_up(made, bits - own, graph) if bits >= own else self.shifted_down(made, own - bits, graph)
            )
        node = self.chain.producer.get(name)
        if node is None:
            return self._outside(name, bits)
        if self.is_mask(name):
            return self._fixed_mask(name, bits)
        root, function = self.root_of(name)
        if root != name:
            return self._function_fixed(name, root, function, bits)
        handler = HANDLERS.fixed.get(node.op)
        if handler is None:
            raise CalibrationError(f"graph {node.graph}: no integer form of operator {node.op} is known")
        return handler(self, node, name, bits)

    def _outside(self, name: str, bits: int) -> str:
        """Take symbols, which travel as float32."""
        graph = self.chain.owner(name)
        symbols = self.once(("symbols", name), lambda: self._symbols(name, graph))
        return self.scaled_up(symbols, bits, graph)

    def _symbols(self, name: str, graph: str) -> str:
        self.emit.outside(name, graph, FLOAT)
        whole = self.emit.add(graph, "Cast", [name], INT32, to=INT32)
        limits = [self.emit.int32(-MAX_SYMBOL), self.emit.int32(MAX_SYMBOL)]
        made = self.emit.add(graph, "Clip", [whole, *limits], INT32)
        self.bound[made] = MAX_SYMBOL
        return made

    def _fixed_mask(self, name: str, bits: int) -> str:
        graph = self.chain.owner(name)
        made = self.emit.add(graph, "Cast", [self.mask(name)], INT32, to=INT32)
        self.bound[made] = 1
        return self.scaled_up(made, bits, graph)

    # Functions, by tables

    def _function_input(self, name: str, root: str, function: Function) -> tuple[str, Array]:
        """Return the index into the table of a function, and the values of its rows [C or 1, entries].

        The index is the code of the root, or of more bits where the function is steep.
        """
        axis = self._channel_axis(root)
        if function.is_steep:
            return self._fine_index(root)
        grid = self._grid(f"for {name}", root, axis, lambda statistics: free(statistics, axis, function))
        return self.code(root, grid), grid.values()

    def _fine_index(self, root: str) -> tuple[str, Array]:
        statistics = self.source.of(root, None)
        graph, entries = self.chain.owner(root), 1 << TABLE_BITS
        low, high = float(statistics.low[0]), float(statistics.high[0])
        bits = math.floor(math.log2((entries - 1) / max(high - low, 2.0**-8)))
        start = math.floor(low * 2.0**bits)
        value = self.fixed(root, bits)
        moved = self.arithmetic(graph, "Sub", value, self.emit.int32(start), self.bound[value] + abs(start))
        floored = self.arithmetic(graph, "Max", moved, self.emit.int32(0), self.bound[moved])
        index = self.arithmetic(graph, "Min", floored, self.emit.int32(entries - 1), entries - 1)
        values = (np.arange(entries)[None] + start) * 2.0**-bits
        return index, np.maximum(values, low)

    def _function_code(self, name: str, root: str, function: Function, grid: Grid) -> str:
        index, values = self._function_input(name, root, function)
        table = grid.codes(np.broadcast_to(function(values), (max(len(values), np.size(grid.scale)), values.shape[1])))
        if grid.axis is not None and len(values) == 1 and not (grid.axis == 1 and len(self.shape(name)) == 4):
            raise CalibrationError(f"{name}: a function of tokens on a grid for each channel")
        return self.looked_up(index, table, self.chain.owner(name), self.shape(name), UINT8)

    def _function_fixed(self, name: str, root: str, function: Function, bits: int) -> str:
        if self.is_mask(root):
            graph = self.chain.owner(name)
            both = [self.fixed_constant(function(np.array(value)), bits) for value in (1.0, 0.0)]
            made = self.emit.add(graph, "Where", [self.mask(root), *both], INT32)
            self.bound[made] = max(self.bound[one] for one in both)
            return made
        index, values = self._function_input(name, root, function)
        table = np.rint(function(values) * 2.0**bits)
        return self._fixed_looked_up(name, index, table)

    def _fixed_looked_up(self, name: str, index: str, table: Array) -> str:
        graph, shape, bound = self.chain.owner(name), self.shape(name), int(np.abs(table).max())
        if bound < 1 << 15:  # half the size
            made = self.looked_up(index, table.astype(np.int16), graph, shape, INT16)
            made = self.emit.add(graph, "Cast", [made], INT32, to=INT32)
        else:
            made = self.looked_up(index, table.astype(np.int32), graph, shape, INT32)
        self.bound[made] = bound
        return made

    def fixed_from_code(self, name: str, bits: int) -> str:
        """Return the fixed form of a tensor that comes as codes, one entry of a table for each code."""
        axis = self._channel_axis(name)
        grid = self.natural_grid(name) or self.symmetric_grid(name, axis)
        codes = self.code(name, grid)
        table = np.rint(grid.values() * 2.0**bits)
        return self._fixed_looked_up(name, codes, table)

    def any_form(self, name: str) -> str:
        """Return some form of a tensor, for its shape."""
        if name in self.chain.outside:
            return self.once(("symbols", name), lambda: self._symbols(name, self.chain.owner(name)))
        for key, made in self._made.items():
            if key[0] in ("code", "fixed", "mask", "geometry") and key[1] == name:
                return made
        if self.is_mask(name):
            return self.mask(name)
        if self.chain.types[name] != FLOAT:
            return self.geometry(name)
        return self.fixed(name, Y_BITS)


def static(shape: Sequence[int | None], axis: int) -> int:
    """Return a side that does not follow the picture."""
    side = shape[axis]
    assert side is not None
    return side
