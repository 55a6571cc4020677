"""The entropy path run again on known symbols with some graphs replaced, and what that costs in bits.

The float chain runs once on each picture and leaves its symbols. Then graphs are replaced by others, which see the same
symbols: what is measured is how well the changed chain predicts the values that the float chain coded. Symbols that
are chosen anew would hide it, because a value that falls on the other side of a rounding costs or saves bits by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from mlic.calibration.integer.information import Cost, Information
from mlic.calibration.judge import bits_of
from mlic.calibration.observe import session
from mlic.runtime.arithmetic import INTEGER
from mlic.runtime.arrays import Array
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.manifest import StepSpec

SymbolsOf = Callable[[StepSpec, Array], Array]  # of a step and its means float32 [1, C, h, w]: float32, as large


@dataclass(frozen=True)
class Known:
    """What the float chain computed and coded for one picture.

    Attributes:
        state: all tensors that graphs take and give, symbols included.
        rows: uint8, of the coder's tables, by graph of a step.
        bits: of all symbols, those of z included, by the coder's tables.
    """

    state: Mapping[str, Array]
    rows: Mapping[str, Array]
    bits: float


class Opened:
    """A graph ready to run.

    Args:
        model: float or integer.
        threads: of the engine.
    """

    def __init__(self, model: onnx.ModelProto, threads: int) -> None:
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]
        self._session = session(model, threads)

    def run(self, state: Mapping[str, Array]) -> dict[str, Array]:
        """Return what the graph gives."""
        found = self._session.run(self.outputs, {name: state[name] for name in self.inputs})
        return dict(zip(self.outputs, found, strict=True))


class Replay:
    """Runs a chain on pictures that the float chain has coded.

    Args:
        models: the float chain, in running order; ``finish``, which no symbol depends on, is not run.
        steps: in coding order.
        entropy: the coder's tables.
        pictures: z_symbols float32 [1, N, h/4, w/4] of each, and what chooses its other symbols.
        threads: of the engine.

    Attributes:
        known: of each picture.
        bits: of all of them.
    """

    def __init__(
        self,
        models: Mapping[str, onnx.ModelProto],
        steps: Sequence[StepSpec],
        entropy: EntropyModel,
        pictures: Sequence[tuple[Array, SymbolsOf]],
        threads: int,
    ) -> None:
        self._steps = {step.graph: step for step in steps}
        self._entropy = entropy
        self._floats = {name: Opened(model, threads) for name, model in models.items() if name != "finish"}
        self._information = Information(entropy)
        self.known = [self._coded(*picture) for picture in pictures]
        self.bits = sum(known.bits for known in self.known)

    def percent(self, replaced: Mapping[str, Opened]) -> Cost:
        """Return how many more bits all pictures take with some graphs replaced, in percent.

        Args:
            replaced: by name; either they are all, or they give what float graphs take. Where they give indexes of
                scales, these are taken as they are.
        """
        return sum((self._more(known, replaced) for known in self.known), Cost(0, 0)).percent_of(self.bits)

    def _coded(self, z_symbols: Array, symbols_of: SymbolsOf) -> Known:
        state: dict[str, Array] = {"z_symbols": z_symbols}
        channels = np.broadcast_to(np.arange(z_symbols.shape[1])[:, None, None], z_symbols.shape[1:])
        rows, bits = {}, bits_of(self._entropy.z, z_symbols, channels)
        for graph, opened in self._floats.items():
            state |= opened.run(state)
            step = self._steps.get(graph)
            if step is not None:
                state[step.symbols] = symbols_of(step, state[step.means])
                rows[graph] = self._entropy.build_indexes(state[step.scales])
                bits += bits_of(self._entropy.y, state[step.symbols], rows[graph])
        return Known(state, rows, bits)

    def _more(self, known: Known, replaced: Mapping[str, Opened]) -> Cost:
        """Return the bits of a picture; graphs that take what has not changed are left out."""
        changed: dict[str, Array] = {}
        cost = Cost(0, 0)
        for graph, as_it_was in self._floats.items():
            opened = replaced.get(graph, as_it_was)
            if graph not in replaced and not changed.keys() & set(opened.inputs):
                continue
            for name, array in opened.run({**known.state, **changed}).items():
                if name not in known.state or not np.array_equal(array, known.state[name]):
                    changed[name] = array
            if graph in self._steps:
                cost += self._more_of_step(self._steps[graph], known, changed)
        return cost

    def _more_of_step(self, step: StepSpec, known: Known, changed: Mapping[str, Array]) -> Cost:
        rows, means = known.rows[step.graph], known.state[step.means]
        if INTEGER.output(step) in changed:
            rows = changed[INTEGER.output(step)]
        elif step.scales in changed:
            rows = self._entropy.build_indexes(changed[step.scales])
        shift = means - changed.get(step.means, means)
        return self._information.more(known.state[step.symbols], known.state[step.scales], rows, shift)
