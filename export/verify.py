"""Is every exported graph the model? Runs both on the same inputs, graph by graph, at several sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from mlic.export.errors import ExportError
from mlic.export.split.base import Split, Subgraph
from mlic.export.split.state import advance
from mlic.runtime.arrays import Array, Float32Array
from mlic.runtime.backends.base import Graph

# The traced size, the smallest, one with sides the other way round, and one far from the traced.
SIZES = ((192, 320), (64, 64), (256, 128), (512, 768))
ATOL = 5e-5  # fp32, of values of order 1; two correct engines differ by up to 1.5e-5
HALF_RMS = 0.02  # root mean square of the error of a half-precision graph, relative to that of its output
FLIPS = 0.002  # share of whole numbers that may differ by one: values next to a rounding tie


@dataclass(frozen=True)
class Check:
    """How far one graph is from the model at one size.

    Attributes:
        graph: its name.
        size: padded height and width.
        error: largest difference, over the larger of 1 and the largest value; for half precision the relative root
            mean square.
        passed: whether that is within what the precision allows.
    """

    graph: str
    size: tuple[int, int]
    error: float
    passed: bool


def picture(height: int, width: int) -> Float32Array:
    """Return a deterministic picture float32 [1, 3, H, W] in 0..1: smooth colours, edges and fine texture."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    channels = []
    for shift in (0.0, 1.3, 2.1):
        smooth = np.sin(rows / 37 + shift) * np.cos(columns / 53 - shift)
        edges = np.sign(np.sin(rows / 19 + columns / 31 + shift))
        texture = np.sin(rows * columns / 97 + shift) * np.sin(rows / 2.3) * np.cos(columns / 1.9)
        channels.append(0.5 + 0.25 * smooth + 0.12 * edges + 0.08 * texture)
    result: Float32Array = np.clip(np.stack(channels), 0, 1).astype(np.float32)[None]
    return result


def verify(
    split: Split,
    open_graph: Callable[[str], Graph],
    precisions: dict[str, str],
    sizes: Iterable[tuple[int, int]] = SIZES,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Compare every graph with its module, each fed with what the model's own modules gave before it.

    Args:
        split: the model in PyTorch.
        open_graph: returns the exported graph of a name, opened by an engine.
        precisions: ``fp32``, ``fp16`` or ``bf16`` (a file in fp32) for every graph name.
        sizes: padded heights and widths.
        progress: called with the name of each graph before it is checked.

    Returns:
        One check for every graph and size.
    """
    graphs = {subgraph.spec.name: open_graph(subgraph.spec.name) for subgraph in split.subgraphs}
    checks = []
    for size in sizes:
        state = {"x": torch.from_numpy(picture(*size))}
        for subgraph in split.subgraphs:
            name = subgraph.spec.name
            progress(name)
            inputs = {key: state[key].numpy() for key in subgraph.spec.inputs}
            with torch.no_grad():
                advance(split, subgraph, state)
            found = graphs[name].run(inputs)
            expected = {key: state[key].numpy() for key in subgraph.spec.outputs}
            checks.append(_check(subgraph, size, found, expected, precisions[name]))
    return checks


def require_passed(checks: Iterable[Check]) -> None:
    """Raise ExportError naming every graph that is not the model."""
    failed = [c for c in checks if not c.passed]
    if failed:
        text = "; ".join(f"graph {c.graph} at {c.size[1]}x{c.size[0]}: {c.error:.2g}" for c in failed[:4])
        raise ExportError(f"{len(failed)} checks against PyTorch failed: {text}")


def _check(
    subgraph: Subgraph,
    size: tuple[int, int],
    found: dict[str, Array],
    expected: dict[str, Array],
    precision: str,
) -> Check:
    worst, passed = 0.0, True
    for name, want in expected.items():
        have = found[name]
        if have.shape != want.shape or not np.isfinite(have).all():
            return Check(subgraph.spec.name, size, float("inf"), passed=False)
        difference = np.abs(have.astype(np.float64) - want)
        if name.endswith("symbols"):
            error = float((difference > 0).mean())
            passed &= bool(difference.max(initial=0) <= 1) and error <= FLIPS * (10 if precision == "fp16" else 1)
        elif precision != "fp16":
            error = float(difference.max(initial=0)) / max(1.0, float(np.abs(want).max(initial=0)))
            passed &= error <= ATOL
        else:
            error = float(np.sqrt((difference**2).mean()) / max(np.sqrt((want.astype(np.float64) ** 2).mean()), 1e-6))
            passed &= error <= HALF_RMS
        worst = max(worst, error)
    return Check(subgraph.spec.name, size, worst, passed)
