"""What is known of operators: how each gives codes or fixed values, and what can be said of its result.

Filled by the modules that know them; ``lowering.py`` asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlic.calibration.integer.float_chain import Node
from mlic.calibration.integer.grids import Grid

if TYPE_CHECKING:
    from mlic.calibration.integer.lowering import Lowering

Handler = Callable[["Lowering", Node, str, int], str]
CodeHandler = Callable[["Lowering", Node, str, Grid], str | None]


class Handlers:
    """What is known of operators; filled by the modules that know them."""

    def __init__(self) -> None:
        self.code: dict[str, CodeHandler] = {}
        self.fixed: dict[str, Handler] = {}
        self.natural: dict[str, Callable[[Lowering, Node], Grid | None]] = {}
        self.bits: dict[str, Callable[[Lowering, Node], int | None]] = {}
        self.part: dict[str, Callable[[Lowering, Node, str], tuple[str, slice | None] | None]] = {}

    def natural_grid(self, lowering: Lowering, node: Node) -> Grid | None:
        """Return the grid on which a node's result comes by itself."""
        handler = self.natural.get(node.op)
        return None if handler is None else handler(lowering, node)

    def part_of(self, lowering: Lowering, node: Node, name: str) -> tuple[str, slice | None] | None:
        """Return the tensor that a node moves maps of, and which channels it keeps; None if it does something else."""
        handler = self.part.get(node.op)
        return None if handler is None else handler(lowering, node, name)


HANDLERS = Handlers()
