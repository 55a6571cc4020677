"""What the runtime asks of an engine: open a graph, run it on named arrays, say what was granted."""

from __future__ import annotations

import os
import threading
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from mlic.runtime.arrays import Array, Tensors
from mlic.runtime.errors import BackendError
from mlic.runtime.forks import reopen_after_fork
from mlic.runtime.manifest import GraphFile, GraphSpec, TensorSpec, parse_dim

MAX_THREADS = 1024  # beyond any processor that latents could keep busy; engines start as many as they are told


class Graph(Protocol):
    """An opened graph. ``run`` may be called from several threads at once."""

    @property
    def spec(self) -> GraphSpec:
        """Names, shapes and dtypes."""

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run the graph.

        Args:
            inputs: at least the arrays that the spec names; others are ignored.

        Returns:
            The arrays that the spec names.

        Raises:
            BackendError: the engine failed, or an array does not fit the spec.
        """


class Backend(Protocol):
    """An engine that opens graphs."""

    @property
    def name(self) -> str:
        """What ``open_backend`` calls it."""

    @property
    def granted(self) -> str:
        """What runs the graphs, for errors and reports: engine, version, device, threads."""

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open one graph and check that the engine granted what was asked.

        Args:
            path: of the graph's file, which ``graph_bytes.source_of`` unpacks where it is compressed; of a graph in two
                forms the plain one, see ``symmetric_form``.
            graph: its entry in the manifest.

        Raises:
            BackendError: the file cannot be loaded, or names, dtypes, shapes, precision or device differ.
            BundleError: a compressed file cannot be unpacked.
        """


@runtime_checkable
class Identified(Protocol):
    """An engine that can say all that its results may depend on, so that a proof of it can be remembered."""

    @property
    def fingerprint(self) -> str:
        """Name, version and build of the engine, and settings that may change results."""


@runtime_checkable
class ChoosesChainEngine(Protocol):
    """An engine that leaves the entropy path of integer bundles to another one."""

    def chain_engine(self) -> Backend:
        """Return the other engine, or this one where it has to do.

        Raises:
            BackendError: there is none.
        """


def chain_engine(backend: Backend) -> Backend:
    """Return what runs the entropy path of an integer bundle whose transforms are on ``backend``.

    It is ONNX Runtime on the CPU where that is installed. Others, such as the engines of tests and comparisons, run it
    themselves; each has to pass the bundle's certificate.

    Raises:
        BackendError: there is none.
    """
    return backend.chain_engine() if isinstance(backend, ChoosesChainEngine) else backend


def granted_to(transforms: Backend, chain: Backend) -> str:
    """Return what runs a model, for reports: one engine, or those of transforms and chain."""
    if chain.granted == transforms.granted:
        return transforms.granted
    return f"{transforms.granted}; integer chain: {chain.granted}"


class LazyGraph:
    """A graph that is opened when first run, and whose arrays are checked against the spec at every run.

    Safe to use from several threads. In a forked child it is opened again.
    """

    def __init__(self, backend: Backend, path: Path, graph: GraphFile) -> None:
        self._backend = backend
        self._path = path
        self._graph = graph
        self._opened: Graph | None = None
        self._lock = threading.Lock()
        reopen_after_fork(self)

    @property
    def spec(self) -> GraphSpec:
        """Names, shapes and dtypes."""
        return self._graph.spec

    @property
    def is_open(self) -> bool:
        """Whether the engine holds the graph in memory."""
        return self._opened is not None

    def open(self) -> Graph:
        """Return the graph, opened if it was not.

        Raises:
            MlicError: as ``Backend.open``.
        """
        with self._lock:
            if self._opened is None:
                self._opened = self._backend.open(self._path, self._graph)
            return self._opened

    def left_behind(self) -> tuple[object, ...]:
        """Forget the graph in a forked child; see ``forks.py``."""
        opened, self._opened = self._opened, None
        self._lock = threading.Lock()  # a thread that does not exist here may hold the other one
        return () if opened is None else (opened, self._backend)

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run the graph, opening it first if need be; see ``Graph.run``."""
        opened = self.open()
        sizes: dict[str, int] = {}
        inputs = {name: inputs[name] for name in self.spec.inputs}
        check_arrays(self.spec.name, "input", inputs, self.spec.inputs, sizes)
        outputs = opened.run(inputs)
        check_arrays(self.spec.name, "output", outputs, self.spec.outputs, sizes)
        return outputs


def check_arrays(graph: str, side: str, arrays: Tensors, specs: dict[str, TensorSpec], sizes: dict[str, int]) -> None:
    """Compare arrays with their specs; all of them must mean the same padded picture.

    Args:
        graph: name for errors.
        side: ``input`` or ``output``, for errors.
        arrays: named as in ``specs``.
        specs: expected dtypes and shapes.
        sizes: ``height`` and ``width`` as far as known; completed from the arrays.

    Raises:
        BackendError: an array has another dtype or shape.
    """
    for name, spec in specs.items():
        array = arrays[name]
        fits = array.dtype == spec.dtype and len(array.shape) == len(spec.shape)
        for dim, found in zip(spec.shape, array.shape, strict=False):
            if isinstance(dim, int):
                fits = fits and dim == found
            else:
                side_name, divisor = parse_dim(dim)
                fits = fits and sizes.setdefault(side_name, found * divisor) == found * divisor
        if not fits:
            expected = f"{spec.dtype} {shape_text(spec.shape)}"
            if sizes:
                expected += " with " + ", ".join(f"{key} {value}" for key, value in sizes.items())
            raise BackendError(
                f"graph {graph}: {side} {name} is {array.dtype} {list(array.shape)}; expected {expected}"
            )


def symmetric_form(path: Path, graph: GraphFile) -> tuple[Path, GraphFile]:
    """Return file and entry of a graph's form with symmetric activations; those given where there is none.

    Engines that want it begin with this. The choice is theirs and not the bundle's, so that whatever lies
    between a codec and an engine passes on what it was given.

    Args:
        path: of the plain form, in its bundle.
        graph: its entry in the manifest.
    """
    chosen = graph.symmetric_or_plain()
    return (path if chosen is graph else bundle_folder(path, graph) / chosen.path), chosen


def bundle_folder(path: Path, graph: GraphFile) -> Path:
    """Return the folder of the bundle in which a graph's file lies."""
    return path.parents[len(PurePosixPath(graph.path).parts) - 1]


def allows_tf32(graph: GraphFile) -> bool:
    """Tell whether products of a graph's float32 parts may have TF32's 11 significant bits.

    Only where the user chose a precision with no more than those, and never on the entropy path. Graphs in half
    precision keep divisive normalisation in float32 for its range, which TF32 has; those in int8 keep there what 8 bits
    are too few for.
    """
    return graph.precision in ("fp16", "bf16", "int8") and not graph.spec.exact


def shape_text(shape: tuple[object, ...]) -> str:
    """Return a shape for a message, without quotes: ``[1, 3, height, width]``."""
    return "[" + ", ".join(str(dim) for dim in shape) + "]"


def check_threads(threads: int | None) -> None:
    """Check a number of threads; None leaves it to the engine.

    Raises:
        BackendError: it is not 1 to ``MAX_THREADS``.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise BackendError(f"threads is {threads}; expected 1 to {MAX_THREADS}")


def usable_cpus() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
