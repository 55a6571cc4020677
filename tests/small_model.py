"""A small MLIC++ with every kind of graph, and its bundle, exported once for all tests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import pytest
import torch

from mlic.export import bundle_writer
from mlic.export.bundle_writer import Export, export_bundle
from mlic.export.checkpoints import Checkpoint, load_checkpoint
from mlic.export.models.mlicpp import Mlicpp, MlicppWidths
from mlic.export.split.base import Subgraph

SLIM = MlicppWidths(n=16, m=64, entropy_parameters=(24, 20, 16), lrp=(20, 12), channel_context=(12, 10))


def small_model(seed: int = 0) -> Mlicpp:
    """Return a model whose latents reach some units, so that symbols are not all zero."""
    torch.manual_seed(seed)
    model = Mlicpp(SLIM).eval()
    with torch.no_grad():
        model.g_a.get_parameter("analysis_transform.6.weight").mul_(40)
        for name, parameter in model.h_a.named_parameters():
            if name.endswith("weight"):
                parameter.mul_(1.7)
    return model


@dataclass
class SmallBundle:
    """What the session's export left.

    Attributes:
        checkpoint: the file.
        loaded: as ``load_checkpoint`` returns it.
        export: as ``export_bundle`` returns it.
        traced: each graph as ``trace`` returned it.
        stages: what progress was called with.
    """

    checkpoint: Path
    loaded: Checkpoint
    export: Export
    traced: dict[str, onnx.ModelProto]
    stages: list[tuple[str, str]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.export.path

    def without_tracing(
        self, change: Callable[[onnx.ModelProto], None] = lambda _: None
    ) -> AbstractContextManager[object]:
        """Return a context in which exports of this model take the traced graphs from here, changed by ``change``."""

        def recall(subgraph: Subgraph) -> onnx.ModelProto:
            model = copy.deepcopy(self.traced[subgraph.spec.name])
            change(model)
            return model

        return _patched(recall)


def export_small_bundle(folder: Path) -> SmallBundle:
    """Save a checkpoint and export it into ``folder``."""
    checkpoint = folder / "small.pth"
    torch.save({"epoch": 1, "state_dict": small_model().state_dict()}, checkpoint)
    loaded = load_checkpoint(checkpoint)
    traced: dict[str, onnx.ModelProto] = {}
    stages: list[tuple[str, str]] = []
    trace = bundle_writer.trace

    def remember(subgraph: Subgraph) -> onnx.ModelProto:
        model = trace(subgraph)
        traced[subgraph.spec.name] = copy.deepcopy(model)
        return model

    with _patched(remember):
        export = export_bundle(
            loaded, folder / "bundle", progress=lambda stage, graph: stages.append((stage, graph)), threads=1
        )
    return SmallBundle(checkpoint, loaded, export, traced, stages)


class _patched(AbstractContextManager[None]):  # noqa: N801 - used like a function
    """Puts another function in the place of the writer's ``trace``."""

    def __init__(self, function: Callable[[Subgraph], onnx.ModelProto]) -> None:
        self.function = function
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> None:
        self.patch.setattr(bundle_writer, "trace", self.function)

    def __exit__(self, *_: object) -> None:
        self.patch.undo()
