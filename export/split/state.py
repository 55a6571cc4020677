"""Runs a split model in PyTorch, encoding as it goes: the readable twin of the runtime's walk."""

import torch
from torch import Tensor

from mlic.export.models.checkerboard import squeeze
from mlic.export.split.base import Split, Subgraph
from mlic.runtime.manifest import StepSpec


def advance(split: Split, subgraph: Subgraph, state: dict[str, Tensor]) -> None:
    """Run the next graph on ``state`` and, if it is a step's, put that step's symbols there too."""
    subgraph.run(state)
    for step in split.steps:
        if step.graph == subgraph.spec.name:
            state[step.symbols] = torch.round(part_of_y(state["y"], step) - state[step.means])


def part_of_y(y: Tensor, step: StepSpec) -> Tensor:
    """Return the part of y [1, M, h, w] that a step codes."""
    part = y[:, step.channels[0] : step.channels[1]]
    return part if step.positions == "all" else squeeze(part, anchor=step.positions == "anchor")
