"""The walk over the steps, shared by both directions, and the state that flows along it.

The *state* is one dictionary of named arrays. A graph takes its inputs from it by name and puts its outputs
into it by name; no name is given twice, and an array that no later graph takes is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mlic.runtime.arithmetic import FLOAT32_SYNDROME, Arithmetic
from mlic.runtime.arrays import Array, Float32Array, Tensors
from mlic.runtime.backends.base import Graph
from mlic.runtime.checkerboard import part_of_y
from mlic.runtime.manifest import GraphSpec, StepSpec


@dataclass(frozen=True)
class Step:
    """What lies between two uses of the entropy coder.

    Attributes:
        spec: names, channels and positions.
        graph: gives the means, and scales or indexes.
        arithmetic: tells which of the two.
        given: name of that output.
    """

    spec: StepSpec
    graph: Graph
    arithmetic: Arithmetic = FLOAT32_SYNDROME
    given: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "given", self.arithmetic.output(self.spec))


class Coder(Protocol):
    """One direction of the entropy coder."""

    def code(self, step: StepSpec, given: Array, means: Float32Array, part: Float32Array | None) -> Float32Array:
        """Encode or decode one step's symbols.

        Args:
            step: whose turn it is.
            given: [1, C, H, W or W/2], what the arithmetic has: float32 scales, standard deviations of any sign, or
                uint8 indexes of table rows.
            means: float32, same shape; may still lie on a device, and only an encoder needs them.
            part: float32, same shape: the step's part of y when encoding; None when decoding.

        Returns:
            float32, same shape, whole numbers: the symbols, equal on both sides.
        """


class State:
    """The named arrays that later graphs still need.

    Args:
        chain: all graphs that will run, in order.
        arrays: what is there at the beginning.
        progress: called with the name of each stage before it begins: a graph's name, or ``coder``.
    """

    def __init__(
        self, chain: Sequence[GraphSpec], arrays: Tensors, progress: Callable[[str], None] = lambda _: None
    ) -> None:
        self._needed = needed_after(chain)
        self._progress = progress
        self._position = 0
        self._arrays = dict(arrays)

    def fork(self) -> State:
        """Return a state that goes on from here on its own."""
        other = copy(self)
        other._arrays = dict(self._arrays)  # the arrays themselves are never written to
        return other

    def begin(self, stage: str) -> None:
        """Say that a stage begins that is no graph."""
        self._progress(stage)

    def run(self, graph: Graph) -> dict[str, Array]:
        """Run the next graph of the chain, keep what is needed later, and return all of its outputs."""
        self._progress(graph.spec.name)
        outputs = graph.run(self._arrays)
        needed = self._needed[self._position]
        self._position += 1
        self._arrays = {name: array for name, array in (self._arrays | outputs).items() if name in needed}
        return outputs

    def put(self, name: str, array: Array) -> None:
        """Set an array that does not come from a graph, if it is needed later."""
        if name in self._needed[self._position - 1]:
            self._arrays[name] = array

    def names(self) -> set[str]:
        """Return the names of the arrays that are held."""
        return set(self._arrays)


def walk(steps: Iterable[Step], coder: Coder, state: State, y: Float32Array | None = None) -> State:
    """Visit every step in coding order.

    Encoding and decoding visit steps alike; only ``coder`` differs, and ``y`` is there or not. A decoder that may have
    to go back to an earlier step walks with ``backtrack.decode_walk``.

    Args:
        steps: in coding order.
        coder: encodes or decodes.
        state: holds what ``h_s`` gave.
        y: float32 [1, M, H, W] when encoding; None when decoding.

    Returns:
        ``state``, which now holds what ``finish`` takes.
    """
    for step in steps:
        visit(step, coder, state, y)
    return state


def visit(step: Step, coder: Coder, state: State, y: Float32Array | None = None) -> None:
    """Visit one step: run its graph, code its symbols, and keep them; see ``walk``."""
    outputs = state.run(step.graph)
    spec = step.spec
    # What lies on a device is waited for and copied when it is looked at.
    given = np.asarray(outputs[step.given])
    state.begin("coder")
    part = None if y is None else part_of_y(y, spec.channels, spec.positions)
    state.put(spec.symbols, coder.code(spec, given, outputs[spec.means], part))


def needed_after(chain: Sequence[GraphSpec]) -> list[frozenset[str]]:
    """Return, for each graph, the names that later graphs take."""
    needed: list[frozenset[str]] = []
    later: frozenset[str] = frozenset()
    for graph in reversed(chain):
        needed.append(later)
        later |= frozenset(graph.inputs)
    return needed[::-1]
