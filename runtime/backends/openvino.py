"""OpenVINO on the CPU: transforms in int8 or bfloat16 where the bundle has or allows it, the rest in fp32.

OpenVINO takes bfloat16 by itself on processors that have it, so the precision is always asked for by name: strict
float32 for graphs on the entropy path, whose results decide how bits are read. And where weights are stored in 8 bits,
as in the bundles that ship, it multiplies in 8 bits too unless told not to: whatever precision it says it computes in,
one index in 800 was another one. It is told so for int8 graphs too: their Q/DQ nodes say what is quantised, and what
they leave out stays in floats.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from mlic.runtime.arrays import Array, Tensors
from mlic.runtime.backends.base import Backend, Graph, check_threads, shape_text, symmetric_form, usable_cpus
from mlic.runtime.errors import BackendError
from mlic.runtime.forks import reopen_after_fork
from mlic.runtime.graph_bytes import source_of
from mlic.runtime.manifest import GraphFile, GraphSpec, TensorSpec

DEVICE = "CPU"
DYNAMIC_QUANTIZATION = "DYNAMIC_QUANTIZATION_GROUP_SIZE"  # of activations, to the 8 bits of the weights; 0: none
MAX_DEFAULT_THREADS = 16  # latents are small: more threads than this wait for one another

_DTYPES = {"float32": "f32", "float16": "f16", "int32": "i32", "int64": "i64", "uint8": "u8", "int8": "i8"}


class _OnlyCore:
    """The process's ``openvino.Core``, which is never destroyed.

    Its CPU plug-in gives the thread that loads it another stack for signal handlers, and puts the one before back when
    it goes. Of two that go in the order in which they came, the second puts back the first's, which is no longer there:
    Ctrl-C then ends Python by SIGSEGV (OpenVINO 2026.4).
    """

    def __init__(self) -> None:
        self._core: Any = None
        self._lock = threading.Lock()
        reopen_after_fork(self)

    def get(self, engine: Any) -> Any:
        """Return the core of ``openvino``, made at the first call."""
        with self._lock:
            if self._core is None:
                self._core = engine.Core()
            return self._core

    def left_behind(self) -> tuple[object, ...]:
        """Forget the core in a forked child; see ``forks.py``."""
        core, self._core = self._core, None
        self._lock = threading.Lock()  # a thread that does not exist here may hold the other one
        return () if core is None else (core,)


_only_core = _OnlyCore()


class OpenVinoBackend:
    """Opens graphs as compiled OpenVINO models on the CPU.

    Args:
        threads: of each graph; default: as many as the process may use, at most ``MAX_DEFAULT_THREADS``.

    Raises:
        BackendError: OpenVINO is not installed or cannot be loaded, or ``threads`` is not 1 to
            ``MAX_THREADS``.
    """

    name = "openvino"

    def __init__(self, threads: int | None = None) -> None:
        check_threads(threads)
        try:
            import openvino  # noqa: PLC0415 - an extra, loaded when chosen
        except ImportError as error:
            raise BackendError(
                f"cannot load OpenVINO ({error}); install it with: pip install 'mlic-deploy[openvino]'"
            ) from error
        self._engine: Any = openvino
        self._core = _only_core.get(openvino)
        self.threads = threads or min(usable_cpus(), MAX_DEFAULT_THREADS)
        capabilities = self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        self.has_bf16 = "BF16" in capabilities

    @property
    def granted(self) -> str:
        """Engine, version, device and threads."""
        version = self._engine.__version__.partition("-")[0]
        transforms = "has bf16" if self.has_bf16 else "no bf16"
        return f"openvino {version}, {DEVICE} ({transforms}), {self.threads} threads"

    @property
    def fingerprint(self) -> str:
        """See ``Identified``."""
        return f"{type(self).__qualname__} {self._engine.__version__} {self.granted}"

    def chain_engine(self) -> Backend:
        """Return ONNX Runtime with as many threads, or this engine without it; see ``ChoosesChainEngine``."""
        from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend  # noqa: PLC0415 - loaded when needed

        try:
            return OnnxRuntimeBackend(self.threads)
        except BackendError:
            return self

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open one graph; see ``Backend.open``."""
        path, graph = symmetric_form(path, graph)
        name, properties = graph.spec.name, self._engine.properties
        wanted = "bf16" if graph.precision == "bf16" and not graph.spec.exact and self.has_bf16 else "f32"
        config = {
            "INFERENCE_PRECISION_HINT": wanted,
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
            DYNAMIC_QUANTIZATION: 0,
        }
        source = source_of(path, graph)
        try:
            model = source if isinstance(source, str) else self._core.read_model(source)
            compiled = self._core.compile_model(model, DEVICE, config)
            granted = compiled.get_property(properties.hint.inference_precision).get_type_name()
            group_size = int(compiled.get_property(DYNAMIC_QUANTIZATION))
        except Exception as error:  # pybind11 exceptions without a common base
            raise BackendError(f"graph {name}: {_last_line(error)}") from error
        if granted != wanted:
            raise BackendError(f"graph {name}: OpenVINO computes in {granted}; asked for {wanted}")
        if group_size:
            raise BackendError(
                f"graph {name}: OpenVINO quantises activations in groups of {group_size}; asked for none"
            )
        problems = _differences("input", graph.spec.inputs, compiled.inputs)
        problems += _differences("output", graph.spec.outputs, compiled.outputs)
        if problems:
            raise BackendError(f"graph {name}: {'; '.join(problems)}")
        return _Compiled(graph.spec, compiled)


class _Compiled:
    def __init__(self, spec: GraphSpec, compiled: Any) -> None:
        self.spec = spec
        self._compiled = compiled
        self._requests = threading.local()  # a request holds one call's arrays: each thread has its own

    def run(self, inputs: Tensors) -> dict[str, Array]:
        request = getattr(self._requests, "request", None)
        try:
            if request is None:
                request = self._requests.request = self._compiled.create_infer_request()
            feed = {name: np.ascontiguousarray(inputs[name]) for name in self.spec.inputs}
            request.infer(feed, share_inputs=True)
            # Copied: the request's own memory is overwritten by its next call.
            return {name: request.get_tensor(name).data.copy() for name in self.spec.outputs}
        except Exception as error:  # pybind11 exceptions without a common base
            raise BackendError(f"graph {self.spec.name}: {_last_line(error)}") from error


def _differences(side: str, specs: dict[str, TensorSpec], ports: list[Any]) -> list[str]:
    """Return what is wrong with a model's inputs or outputs."""
    found = {name: port for port in ports for name in port.get_names()}
    if not set(specs) <= set(found) or len(ports) != len(specs):
        return [f"{side}s are {', '.join(sorted(found))}; the manifest names {', '.join(specs)}"]
    problems = []
    for name, spec in specs.items():
        dtype, shape = found[name].get_element_type().get_type_name(), found[name].get_partial_shape()
        theirs = [dim.get_length() if dim.is_static else None for dim in shape]
        same_shape = len(theirs) == len(spec.shape) and all(
            a == b for a, b in zip(theirs, spec.shape, strict=True) if a is not None and isinstance(b, int)
        )
        if dtype != _DTYPES.get(spec.dtype) or not same_shape:
            problems.append(f"{side} {name} is {dtype} {shape}; the manifest has {spec.dtype} {shape_text(spec.shape)}")
    return problems


def _last_line(error: Exception) -> str:
    """Return what went wrong: OpenVINO puts the places in its own source before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
