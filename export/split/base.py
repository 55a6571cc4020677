"""What a model is cut into: modules with named inputs and outputs, and the step table."""

from dataclasses import dataclass

from torch import Tensor, nn

from mlic.runtime.manifest import GraphSpec, StepSpec


@dataclass(frozen=True)
class Subgraph:
    """One graph before it is traced.

    Attributes:
        spec: names and shapes; ``module`` takes the inputs in this order.
        module: in eval mode; returns one tensor, or a tuple in the order of ``spec.outputs``.
    """

    spec: GraphSpec
    module: nn.Module

    def run(self, state: dict[str, Tensor]) -> None:
        """Take the inputs from ``state`` and put the outputs into it, as the runtime does."""
        results = self.module(*(state[name] for name in self.spec.inputs))
        if isinstance(results, Tensor):
            results = (results,)
        state.update(zip(self.spec.outputs, results, strict=True))


@dataclass(frozen=True)
class Split:
    """A whole model, cut.

    Attributes:
        subgraphs: g_a, h_a, h_s, the steps, finish, g_s, in running order.
        steps: the step table, in coding order.
    """

    subgraphs: tuple[Subgraph, ...]
    steps: tuple[StepSpec, ...]
