"""What each product of the entropy path costs in bits if it alone runs in 8 bits, and what the whole chain costs.

Each layer takes its turn: the float chain runs with this layer as the integer chain has it, its inputs, weights and,
where it gives codes, its result on their grids. The symbols stay those of the float chain. A rounding between two
layers counts for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from mlic.calibration.integer.chain_builder import IntegerChain
from mlic.calibration.integer.float_chain import FloatChain
from mlic.calibration.integer.information import Cost
from mlic.calibration.integer.photos import ChainRuns
from mlic.calibration.integer.replay import Opened, Replay, SymbolsOf
from mlic.calibration.integer.splice import OPERATORS, layers_of_chain, spliced
from mlic.runtime.arrays import Array, UInt8Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import chain_names
from mlic.runtime.checkerboard import part_of_y
from mlic.runtime.manifest import StepSpec

JUDGES = 8  # crops that layers are judged on


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs alone.

    Attributes:
        graph: that it stands in.
        layer: for people: the weight's name in the checkpoint, or the node's.
        operator: one of ``OPERATORS``.
        percent: additional bits with this layer alone in 8 bits, of all bits.
    """

    graph: str
    layer: str
    operator: str
    percent: Cost


@dataclass(frozen=True)
class ChainSensitivity:
    """What all layers cost.

    Attributes:
        layers: in running order.
        chain: additional bits with the integer chain as it is, in percent, measured in the same way.
        pictures: how many it was measured on.
    """

    layers: tuple[LayerCost, ...]
    chain: Cost
    pictures: int

    @property
    def total(self) -> Cost:
        """What all layers alone add up to, in percent."""
        return sum((layer.percent for layer in self.layers), Cost(0, 0))

    def worst_first(self) -> list[LayerCost]:
        """Return the layers in the order of the bits that they are expected to cost."""
        return sorted(self.layers, key=lambda layer: -layer.percent.expected)


def measure_chain(
    bundle: Bundle,
    lowered: IntegerChain,
    pictures: Sequence[UInt8Array],
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> ChainSensitivity:
    """Measure the layers of a bundle's integer chain.

    Args:
        bundle: with the float chain.
        lowered: its integer chain.
        pictures: uint8 [H, W, 3] each, both sides multiples of 64 pixels; ``JUDGES`` of them are taken at most.
        threads: of the engine.
        progress: called with each layer's title before it is measured.
    """
    manifest = bundle.manifest
    chosen = pictures[:: -(-len(pictures) // JUDGES)]

    def symbols_of(y: Array) -> SymbolsOf:
        return lambda step, means: np.rint(part_of_y(y, step.channels, step.positions) - means).astype(np.float32)

    latents = ChainRuns(bundle, lowered.lowering.chain, chosen, threads).latents
    models = {
        graph: onnx.load_from_string(bundle.read_graph(manifest.graphs[graph])) for graph in chain_names(manifest)
    }
    replay = Replay(models, manifest.steps, bundle.entropy, [(z, symbols_of(y)) for y, z in latents], threads)
    return measure_layers(models, lowered, manifest.steps, replay, threads, progress)


def measure_layers(
    models: Mapping[str, onnx.ModelProto],
    lowered: IntegerChain,
    steps: Sequence[StepSpec],
    replay: Replay,
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> ChainSensitivity:
    """Measure the layers of an integer chain.

    Args:
        models: the float chain, in running order.
        lowered: the integer one.
        steps: in coding order.
        replay: of the float chain on pictures.
        threads: of the engine.
        progress: called with each layer's title before it is measured.
    """
    found = []
    for layer in layers_of_chain(lowered, steps):
        graph = layer.node.graph
        progress(f"{graph} {layer.title}")
        cost = Cost(0, 0)
        if graph != "finish":  # which comes after the last symbol
            cost = replay.percent({graph: Opened(spliced(models[graph], lowered, layer), threads)})
        found.append(LayerCost(graph, layer.title, layer.node.op, cost))
    integers = {graph: Opened(model, threads) for graph, model in lowered.models.items() if graph != "finish"}
    return ChainSensitivity(tuple(found), replay.percent(integers), len(replay.known))


def num_layers(bundle: Bundle) -> int:
    """Return how often ``measure_chain`` calls ``progress`` at most.

    Raises:
        CalibrationError: the bundle's chain is not a float one.
    """
    return sum(node.op in OPERATORS for node in FloatChain.of(bundle).nodes)
