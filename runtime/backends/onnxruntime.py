"""ONNX Runtime on the CPU, the default engine.

A codec holds 25 sessions and more, so two defaults are changed:

- Threads. Each session has its own, and idle ones sleep (``allow_spinning`` off): with 25 sessions of two threads
  each, spinning took ten times the time of the work itself. The process-wide pool that newer versions offer is not
  used: once it exists every session of the process must use it, and those of the application around us would fail.
- Memory. All sessions share one arena, which grows by what is asked, and keep no patterns. Full-size MLIC++ at
  768 x 512 on two cores: an arena for each session held 2074 MB at its peak, the shared one 813 MB in the same time
  (within 3 %), and no arena at all 869 MB in 1.2 times the time, spent on page faults.

Graph optimisation stays at its default, all of it, for the graphs of integer bundles too: it merges exact operators
into exact ones, and whether that holds on a machine is what a bundle's certificate tries.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np

from mlic.runtime.arrays import Array, Tensors
from mlic.runtime.backends.base import Graph, check_threads, shape_text, usable_cpus
from mlic.runtime.errors import BackendError
from mlic.runtime.graph_bytes import source_of
from mlic.runtime.manifest import GraphFile, GraphSpec, TensorSpec, parse_dim

PROVIDER = "CPUExecutionProvider"
MAX_DEFAULT_THREADS = 16  # latents are small: more threads than this wait for one another

# Where work of one shape ends and work of another begins: the analysis before h_a, the chain before finish. What the
# arena kept for the one seldom fits the other. Decoding 15 megapixels with full-size MLIC++ held 2180 MB and more where
# it kept everything, and 1806 MB at the peak where it gives back.
_RELEASING = ("h_a", "finish")
_RELEASED_ABOVE = 5 << 18  # pixels, as of a tile; getting memory anew would slow small pictures down

_DTYPES = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
    "uint8": "tensor(uint8)",
    "int8": "tensor(int8)",
}


_arena_lock = threading.Lock()
_arena_shared: bool | None = None  # None: not tried yet in this process


class OnnxRuntimeBackend:
    """Opens graphs as ONNX Runtime sessions on the CPU.

    Args:
        threads: of each graph; default: as many as the process may use, at most ``MAX_DEFAULT_THREADS``.

    Raises:
        BackendError: ONNX Runtime is not installed or cannot be loaded, or ``threads`` is not 1 to
            ``MAX_THREADS``.
    """

    name = "onnxruntime"

    def __init__(self, threads: int | None = None) -> None:
        check_threads(threads)
        try:
            import onnxruntime  # noqa: PLC0415 - an extra, loaded when chosen
        except ImportError as error:
            raise BackendError(
                f"cannot load ONNX Runtime ({error}); install it with: pip install 'mlic-deploy[cpu]'"
            ) from error
        self._engine: Any = onnxruntime
        self.threads = threads or min(usable_cpus(), MAX_DEFAULT_THREADS)

    @property
    def granted(self) -> str:
        """Engine, version, provider and threads."""
        return f"onnxruntime {self._engine.__version__}, {PROVIDER}, {self.threads} threads"

    @property
    def fingerprint(self) -> str:
        """See ``Identified``; the build too, since versions are built for several instruction sets."""
        build = self._engine.get_build_info() if hasattr(self._engine, "get_build_info") else "unknown"
        level = self.options().graph_optimization_level
        return f"{type(self).__qualname__} {self.granted}, {build}, {level}"

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open one graph; see ``Backend.open``."""
        source = source_of(path, graph)
        try:
            session = self.open_session(source, graph.spec.name)
        except Exception as error:  # pybind11 exceptions without a common base
            raise BackendError(f"graph {graph.spec.name}: {first_line(error)}") from error
        if session.get_providers() != [PROVIDER]:
            raise BackendError(f"graph {graph.spec.name}: runs on {session.get_providers()}; asked for [{PROVIDER!r}]")
        problems = differences("input", graph.spec.inputs, session.get_inputs())
        problems += differences("output", graph.spec.outputs, session.get_outputs())
        if problems:
            raise BackendError(f"graph {graph.spec.name}: {'; '.join(problems)}")
        return _Session(graph.spec, session, self._release() if graph.spec.name in _RELEASING else None)

    def options(self) -> Any:
        """Return the options with which sessions are opened."""
        options = self._engine.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; warnings about its own optimiser mean nothing to our user
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False
        if _share_arena(self._engine):
            options.add_session_config_entry("session.use_env_allocators", "1")
        return options

    def _release(self) -> Any:
        """Return options of a run after which the arena gives back what it keeps for later."""
        options = self._engine.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options

    def open_session(self, source: str | bytes, name: str) -> Any:
        """Return an ``InferenceSession``; its exceptions have no common base.

        Args:
            source: path of the ONNX file, or its contents.
            name: of the graph, for backends that tell sessions apart.
        """
        # enable_fallback=0: otherwise a failure is printed to stdout and tried again
        return self._engine.InferenceSession(source, self.options(), providers=[PROVIDER], enable_fallback=0)


class _Session:
    def __init__(self, spec: GraphSpec, session: Any, releasing: Any) -> None:
        self.spec = spec
        self._session = session
        self._outputs = list(spec.outputs)
        self._releasing = releasing

    def run(self, inputs: Tensors) -> dict[str, Array]:
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self.spec.inputs}
        options = self._releasing
        if options is not None and _pixels(self.spec, feed) <= _RELEASED_ABOVE:
            options = None
        try:
            outputs = self._session.run(self._outputs, feed, options)
        except Exception as error:  # pybind11 exceptions without a common base
            raise BackendError(f"graph {self.spec.name}: {first_line(error)}") from error
        return dict(zip(self._outputs, outputs, strict=True))


def _pixels(spec: GraphSpec, arrays: Tensors) -> int:
    """Return how many pixels the padded picture has that a graph's inputs belong to."""
    name, tensor = next(iter(spec.inputs.items()))
    sides = [
        found * parse_dim(dim)[1]
        for dim, found in zip(tensor.shape, arrays[name].shape, strict=True)
        if isinstance(dim, str)
    ]
    return math.prod(sides)


def differences(side: str, specs: dict[str, TensorSpec], nodes: list[Any]) -> list[str]:
    """Return what is wrong with a session's inputs or outputs."""
    found = {node.name: node for node in nodes}
    problems = []
    if set(found) != set(specs):
        problems.append(f"{side}s are {', '.join(found)}; the manifest names {', '.join(specs)}")
    for name, spec in specs.items():
        node = found.get(name)
        if node is None:
            continue
        same_shape = len(node.shape) == len(spec.shape) and all(
            theirs == ours
            for theirs, ours in zip(node.shape, spec.shape, strict=True)
            if isinstance(theirs, int) and isinstance(ours, int)
        )
        if node.type != _DTYPES.get(spec.dtype) or not same_shape:
            problems.append(
                f"{side} {name} is {node.type} {shape_text(tuple(node.shape))}; "
                f"the manifest has {spec.dtype} {shape_text(spec.shape)}"
            )
    return problems


def _share_arena(engine: Any) -> bool:
    """Make sure the process has an arena that sessions can share; return False if this engine cannot have one.

    Only sessions that ask for it use it; those of the application around us are not affected.
    """
    global _arena_shared  # noqa: PLW0603 - the engine's environment is one for the process, and so is this
    with _arena_lock:
        if _arena_shared is None:
            try:
                kind, use = engine.OrtAllocatorType.ORT_ARENA_ALLOCATOR, engine.OrtMemType.DEFAULT
                exactly_as_asked = engine.OrtArenaCfg(0, 1, -1, -1)
                engine.create_and_register_allocator(engine.OrtMemoryInfo("Cpu", kind, 0, use), exactly_as_asked)
                _arena_shared = True
            except Exception:  # pybind11 exceptions; the application may have registered one of its own
                _arena_shared = False
        return _arena_shared


def first_line(error: Exception) -> str:
    """Return what went wrong: ONNX Runtime puts places in its own source below it."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
