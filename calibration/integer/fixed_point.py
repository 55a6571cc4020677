"""Arithmetic on fixed-point tensors whose largest magnitude is known, so that nothing leaves 32 bits; and tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlic.calibration.errors import CalibrationError
from mlic.calibration.integer.emitter import FLOAT, INT32, INT64, UINT8, Emitter
from mlic.calibration.integer.grids import SIGNED_ZERO, TOP, Grid
from mlic.calibration.integer.statistics import Shape
from mlic.runtime.arrays import Array

INT32_MAX = 2**31 - 1
LEAST_FACTOR = 256  # of a multiplication in 32 bits; smaller ones would be rounded too coarsely
LARGEST_EXACT = (1 << 24) - 1  # of the integers that become a float32, which a multiplier then scales


class FixedPoint:
    """Emits int32 operators and keeps count of what their results can be.

    Args:
        emit: where nodes go.

    Attributes:
        emit: likewise.
        bound: largest magnitude of each fixed tensor.
    """

    def __init__(self, emit: Emitter) -> None:
        self.emit = emit
        self.bound: dict[str, int] = {}

    def fixed_constant(self, value: Array, bits: int) -> str:
        """Return a constant times 2^bits.

        Raises:
            CalibrationError: an element does not fit into 32 bits.
        """
        integers = np.rint(value.astype(np.float64) * 2.0**bits)
        if not np.all(np.abs(integers) <= INT32_MAX):
            largest = float(np.abs(value).max())
            raise CalibrationError(f"a constant of {largest:.6g} times 2^{bits} does not fit into 32 bits")
        made = self.emit.constant(integers.astype(np.int32))
        self.bound[made] = int(np.abs(integers).max(initial=0))
        return made

    def scaled_up(self, name: str, bits: int, graph: str) -> str:
        """Multiply by 2^bits, 0 or more of them."""
        assert bits >= 0
        if not bits:
            return name
        return self.arithmetic(graph, "Mul", name, self.fixed_constant(np.array(1), bits), self.bound[name] << bits)

    def arithmetic(self, graph: str, op: str, one: str, other: str, bound: int) -> str:
        """Add an int32 operator whose result has a known bound."""
        if bound > INT32_MAX:
            raise CalibrationError(f"graph {graph}: {op} may leave the range of 32 bits")
        made = self.emit.add(graph, op, [one, other], INT32)
        self.bound[made] = bound
        return made

    def shifted_down(self, name: str, bits: int, graph: str) -> str:
        """Divide an int32 tensor by 2^bits, rounding halves up."""
        if not bits:
            return name
        half, ceiling = 1 << (bits - 1), (self.bound[name] >> bits) + 2
        moved = self.arithmetic(
            graph, "Add", name, self.emit.int32((ceiling << bits) + half), self.bound[name] + (ceiling << bits) + half
        )
        divided = self.arithmetic(graph, "Div", moved, self.emit.int32(1 << bits), 2 * ceiling + 1)
        return self.arithmetic(graph, "Sub", divided, self.emit.int32(ceiling), ceiling)

    def multiplied(self, name: str, factor: Array, bound: int, graph: str) -> str:
        """Return an int32 tensor times a factor, rounded, in 64 bits between; ``factor`` broadcasts to it."""
        largest = float(np.max(np.abs(factor)))
        narrow = math.floor(math.log2(INT32_MAX / 4 / max(self.bound[name] * largest, bound, 1)))
        if narrow >= 0 and largest * 2.0**narrow >= LEAST_FACTOR:
            times = self.emit.constant(np.rint(np.asarray(factor, np.float64) * 2.0**narrow).astype(np.int32))
            product = self.arithmetic(
                graph, "Mul", name, times, math.ceil(self.bound[name] * largest * 2.0**narrow) + self.bound[name]
            )
            return self.shifted_down(product, narrow, graph)
        shift = 30 - max(0, math.ceil(math.log2(float(np.max(np.abs(factor))) + 1e-30)))
        shift = int(np.clip(shift, 1, 40))
        wide = self.emit.add(graph, "Cast", [name], INT64, to=INT64)
        times = self.emit.constant(np.rint(np.asarray(factor, np.float64) * 2.0**shift).astype(np.int64))
        product = self.emit.add(graph, "Mul", [wide, times], INT64)
        offset = (bound + 2) << shift
        moved = self.emit.add(graph, "Add", [product, self.emit.int64(offset + (1 << (shift - 1)))], INT64)
        divided = self.emit.add(graph, "Div", [moved, self.emit.int64(1 << shift)], INT64)
        back = self.emit.add(graph, "Sub", [divided, self.emit.int64(bound + 2)], INT64)
        made = self.emit.add(graph, "Cast", [back], INT32, to=INT32)
        self.bound[made] = bound
        return made

    def quantise(self, name: str, bits: int | Array, grid: Grid, graph: str, rank: int) -> str:
        """Return the codes of a fixed tensor: one float32 product of an exact integer, rounded with halves to even.

        Five times as fast as an integer division between two limits, and what convolutions do with their sums.

        Args:
            name: of the tensor.
            bits: of its fraction; a vector along the grid's axis where they differ.
            grid: of the codes.
            graph: that the nodes belong to.
            rank: of the tensor.

        Raises:
            CalibrationError: the grid is finer than the tensor, or too wide for its bits.
        """
        steps = np.asarray(grid.scale, np.float64) * 2.0**bits  # of the grid, in units of the tensor
        if np.any(steps < 1):
            raise CalibrationError(f"graph {graph}: a grid is finer than 2^-{bits}")
        zero = grid.common_zero
        if zero is None:  # is not a code, or differs between channels: moved to one that is
            zero = SIGNED_ZERO
            offset = np.broadcast_to(np.rint((grid.zero - SIGNED_ZERO) * steps), steps.shape).astype(np.int32)
            if grid.axis is not None:
                offset = offset.reshape([-1 if axis == grid.axis else 1 for axis in range(rank)])
            bound = self.bound[name] + int(np.abs(offset).max())
            name = self.arithmetic(graph, "Add", name, self.emit.constant(offset), bound)
        if self.bound[name] > LARGEST_EXACT and np.any(steps * (TOP + 1) > LARGEST_EXACT):
            raise CalibrationError(f"graph {graph}: a grid is too wide for fractions of {bits} bits")
        exact = self.limited(name, LARGEST_EXACT, graph)  # what lies beyond saturates all the same
        multiplier = self.emit.constant((1 / steps).astype(np.float32))
        axis: dict[str, Any] = {} if grid.axis is None else {"axis": grid.axis}
        scaled = self.emit.add(graph, "DequantizeLinear", [exact, multiplier], FLOAT, **axis)
        return self.emit.add(
            graph,
            "QuantizeLinear",
            [scaled, self.emit.constant(np.float32(1)), self.emit.constant(np.uint8(zero))],
            UINT8,
        )

    def limited(self, name: str, largest: int, graph: str) -> str:
        """Clip a tensor to a magnitude, where it may be larger."""
        if self.bound[name] <= largest:
            return name
        made = self.emit.add(graph, "Clip", [name, self.emit.int32(-largest), self.emit.int32(largest)], INT32)
        self.bound[made] = largest
        return made

    def looked_up(self, index: str, table: Array, graph: str, shape: Shape, kind: int) -> str:
        """Return an element of a table for each element of a tensor.

        ``GatherElements`` along rows is nine times as fast as ``Gather`` in ONNX Runtime, and it spreads rows over
        threads.

        Args:
            index: integers, [1, C, …] for a table of several rows.
            table: [C or 1, entries]; a single row serves all elements.
            graph: that the nodes belong to.
            shape: of ``index``.
            kind: element type of the table.
        """
        rows = len(table)
        if rows == 1:
            rows = math.gcd(8, math.prod(side if side is not None else 1 for side in shape))
            table = np.repeat(table, rows, axis=0)
        wide = index
        if self.emit.types[index] not in (INT32, INT64):
            wide = self.emit.add(graph, "Cast", [index], INT32, to=INT32)
        sides = self.emit.add(graph, "Shape", [index], INT64)
        flat = self.emit.add(graph, "Reshape", [wide, self.emit.int64([rows, -1])], self.emit.types[wide])
        found = self.emit.add(graph, "GatherElements", [self.emit.constant(table), flat], kind, axis=1)
        return self.emit.add(graph, "Reshape", [found, sides], kind)
