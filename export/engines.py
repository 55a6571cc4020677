"""A bundle's ONNX files become engines, graph by graph, with a report of each.

Needs neither PyTorch nor onnx, so that ``mlic-run verify`` can use it where only the runtime is installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mlic.runtime.arithmetic import INTEGER
from mlic.runtime.backends.tensorrt_engine import BuildOptions, build_plan
from mlic.runtime.backends.tensorrt_flavour import Flavour, installed_flavour, polygraphy_for
from mlic.runtime.backends.tensorrt_plans import options_from, plan_name, store_plan, timing_cache
from mlic.runtime.bundle import Bundle
from mlic.runtime.device.probe import probe
from mlic.runtime.errors import BackendError, GraphRefusedError
from mlic.runtime.manifest import GraphFile, Manifest, SizeRange


@dataclass(frozen=True)
class RefusedNode:
    """A node that an engine does not take.

    Attributes:
        name: in the ONNX file; its number, as ``#12``, if it has none.
        operator: its type.
        reason: what the engine said.
    """

    name: str
    operator: str
    reason: str


@dataclass(frozen=True)
class GraphBuild:
    """How building one graph went.

    Attributes:
        graph: its name.
        engine: what built it, and for what: flavour, version and device.
        seconds: that it took.
        bytes: of the plan; 0 if there is none.
        problem: what the engine said, or None.
        nodes: those it refused, as far as it named them.
    """

    graph: str
    engine: str
    seconds: float
    bytes: int
    problem: str | None
    nodes: tuple[RefusedNode, ...] = ()


def ready_flavour(target: str) -> tuple[Flavour, str | None]:
    """Return what builds engines here, and the name of the GPU that they are for, None for any.

    Raises:
        BackendError: a package is missing, or TensorRT has no device to build on.
    """
    flavour = installed_flavour(target)
    polygraphy_for(flavour)
    if flavour.is_rtx:
        return flavour, None
    try:
        return flavour, probe().name
    except BackendError as error:
        raise BackendError(
            f"{flavour.label} builds engines on the GPU that will run them ({error}); TensorRT-RTX needs none: "
            "pip install 'mlic-deploy[tensorrt-rtx]', --target tensorrt-rtx"
        ) from error


def graphs_to_build(manifest: Manifest) -> dict[str, GraphFile]:
    """Return the graphs that engines are built of, in the manifest's order.

    An integer bundle's entropy path is not among them: it stays on the CPU (``backends.base.chain_engine``).
    """
    if manifest.arithmetic != INTEGER.name:
        return manifest.graphs
    return {name: graph for name, graph in manifest.graphs.items() if not graph.spec.exact}


def build_engines(
    bundle: Bundle,
    target: str = "tensorrt",
    sizes: SizeRange | None = None,
    store: bool = True,
    progress: Callable[[str], None] = lambda graph: None,
) -> list[GraphBuild]:
    """Build the graphs of a bundle anew, whatever its folder ``engines/`` holds.

    Args:
        bundle: opened.
        target: ``tensorrt`` or ``tensorrt-rtx``, as ``installed_flavour`` has it.
        sizes: of pictures; default: those that the bundle names. Stored plans are found again for these alone.
        store: keep the plans in ``engines/``; where that cannot be written, they are built and dropped.
        progress: called with a graph's name before its turn.

    Returns:
        A report of every graph of ``graphs_to_build``; a graph that is refused does not stop the others.

    Raises:
        BackendError: a package is missing, or TensorRT has no device to build on.
    """
    flavour, device = ready_flavour(target)
    manifest = bundle.manifest
    options = BuildOptions(sizes.padded(manifest.padding.multiple)) if sizes else options_from(manifest)
    cache = timing_cache(bundle.folder, flavour, device) if store else None
    engine = f"{flavour.label}, {flavour.device_label(device)}"
    builds = []
    for name, graph in graphs_to_build(manifest).items():
        progress(name)
        plan, problem = b"", None
        nodes: tuple[RefusedNode, ...] = ()
        start = time.perf_counter()
        try:
            plan = build_plan(flavour, bundle.path_of(graph), graph, options, cache)
        except BackendError as error:
            problem = str(error).removeprefix(f"graph {name}: ")
            if isinstance(error, GraphRefusedError):
                nodes = tuple(RefusedNode(*node) for node in error.nodes)
        seconds = round(time.perf_counter() - start, 3)
        if plan and store:
            store_plan(bundle.folder, plan_name(graph, flavour, device, options), plan)
        builds.append(GraphBuild(name, engine, seconds, len(plan), problem, nodes))
    return builds
