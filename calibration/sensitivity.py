"""Which layers can run in 8 bits: what each costs alone, and the set that saves most within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx

from mlic.calibration.judge import Effect, Judge
from mlic.calibration.layers import Layer, products_per_pixel
from mlic.calibration.observe import Observation
from mlic.calibration.quantize import Form, quantize
from mlic.calibration.ranges import Range


@dataclass(frozen=True)
class Budget:
    """What all layers together may cost.

    Attributes:
        psnr_loss_db: of the decoded pictures.
        rate_percent: of additional bits.
    """

    psnr_loss_db: float
    rate_percent: float

    def share(self, effect: Effect) -> float:
        """Return what part of the budget an effect takes, of the limit that it is nearer to; above 1 is too much."""
        return max(_part(effect.psnr_loss_db, self.psnr_loss_db), _part(effect.rate_percent, self.rate_percent))


@dataclass(frozen=True)
class Sensitivity:
    """What one layer costs and saves.

    Attributes:
        layer: which.
        products: multiplications per pixel that it takes.
        effect: of this layer alone in 8 bits; None if it was not measured.
        chosen: whether it is in the set.
    """

    layer: Layer
    products: float
    effect: Effect | None
    chosen: bool = False

    def share(self, budget: Budget) -> float:
        """Return what part of a budget the layer takes alone."""
        return 0.0 if self.effect is None else budget.share(self.effect)


@dataclass(frozen=True)
class Transform:
    """A transform and what calibration knows of it.

    Attributes:
        name: ``g_a`` or ``g_s``.
        model: float32, with weights as initializers.
        layers: that may be quantised.
        observations: by tensor.
        ranges: by tensor.
    """

    name: str
    model: onnx.ModelProto
    layers: Sequence[Layer]
    observations: Mapping[str, Observation]
    ranges: Mapping[str, Range]

    def quantized(self, layers: Sequence[Layer], form: Form) -> onnx.ModelProto:
        """Return the graph with these layers in 8 bits."""
        return quantize(self.model, layers, self.ranges, form)


def measure_layers(
    transform: Transform, form: Form, judge: Judge, progress: Callable[[str], None] = lambda _: None
) -> list[Sensitivity]:
    """Return what each layer of a transform costs alone.

    Args:
        transform: which.
        form: what engines it is for.
        judge: of the same bundle.
        progress: called with each layer's title before it is measured.
    """
    found = []
    for layer in transform.layers:
        progress(layer.title)
        effect = judge.measure(**{transform.name: transform.quantized([layer], form)})
        found.append(Sensitivity(layer, products_per_pixel(layer, transform.observations, transform.model), effect))
    return found


def choose(
    transforms: Sequence[Transform],
    form: Form,
    sensitivities: Sequence[Sensitivity],
    judge: Judge,
    budget: Budget,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Sensitivity]:
    """Choose the layers that save most within a budget, which the chosen set as a whole is measured to keep.

    Layers are taken in the order of what they cost for each product they save. Costs do not quite add up, so the
    longest run of them within the budget is found by bisection; then each of the others is tried in addition.

    Args:
        transforms: all that share the budget.
        form: what engines they are for.
        sensitivities: of their layers, measured.
        judge: of the same bundle.
        budget: of all together.
        progress: called before each set is measured.

    Returns:
        The same list with ``chosen`` set.
    """
    order = sorted(sensitivities, key=lambda one: max(one.share(budget), 0) / max(one.products, 1e-9))

    def fits(chosen: Sequence[Sensitivity]) -> bool:
        if not chosen:
            return True
        progress(f"{len(chosen)} of {len(order)} layers")
        models = {}
        for transform in transforms:
            layers = [one.layer for one in chosen if one.layer.graph == transform.name]
            models[transform.name] = transform.quantized(layers, form)
        return budget.share(judge.measure(**models)) <= 1

    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(order[:middle]) else (low, middle - 1)
    chosen = list(order[:low])
    for one in order[low + 1 :]:  # the one at `low` does not fit
        if one.share(budget) <= 1 and fits([*chosen, one]):
            chosen.append(one)
    found = {(one.layer.graph, one.layer.node) for one in chosen}
    return [replace(one, chosen=(one.layer.graph, one.layer.node) in found) for one in sensitivities]


def num_choices(layers: int) -> int:
    """Return how many sets ``choose`` measures at most."""
    return math.ceil(math.log2(layers + 1)) + layers


def _part(cost: float, limit: float) -> float:
    """Return what part of a limit, which may be 0, a cost takes."""
    if limit > 0:
        return cost / limit
    return math.inf if cost > 0 else 0.0
