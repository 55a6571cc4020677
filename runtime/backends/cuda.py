"""ONNX Runtime on a GPU, by its CUDA provider: arrays stay on the device from graph to graph.

What has to be asked for by name:

- *No TF32* where float32 is meant, which the provider takes by default. Graphs in half precision are left with it: the
  same switch keeps their convolutions from the hardware that is made for them.
- *How convolutions choose their algorithm*: ``HEURISTIC``. ``EXHAUSTIVE``, the default, may time them when first run,
  and two runs that choose differently round differently: the same picture would give other bytes. ``DEFAULT`` knows few
  algorithms, and where none is left without TF32, the provider silently takes one with it.
- *Which provider was granted.* Where the driver or a library is missing, sessions run on the CPU and say nothing.

Every run waits for its end: the engine does so by default, and the coder needs most of them at once anyway. CUDA graphs
of the provider are not used; they ask for fixed shapes and addresses.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

from mlic.runtime.arrays import Array, Tensors
from mlic.runtime.backends.auto import first_installed
from mlic.runtime.backends.base import Backend, Graph, allows_tf32
from mlic.runtime.backends.onnxruntime import differences, first_line
from mlic.runtime.device.array import DeviceArray
from mlic.runtime.device.probe import device_for_engine
from mlic.runtime.errors import BackendError
from mlic.runtime.graph_bytes import source_of
from mlic.runtime.manifest import GraphFile, GraphSpec, TensorSpec

PROVIDER = "CUDAExecutionProvider"
DEVICE = "cuda"
EXTRA = "pip uninstall onnxruntime && pip install 'mlic-deploy[gpu]'"  # both are one package under two names


class CudaBackend:
    """Opens graphs as ONNX Runtime sessions on the first GPU that the process may use.

    Raises:
        BackendError: there is no driver or GPU, or no ONNX Runtime that can use it.
    """

    name = "cuda"

    def __init__(self) -> None:
        self._device_name = device_for_engine().name
        try:
            import onnxruntime  # noqa: PLC0415 - an extra, loaded when chosen
        except ImportError as error:
            raise BackendError(f"cannot load ONNX Runtime ({error}); install it with: {EXTRA}") from error
        self._engine: Any = onnxruntime
        if PROVIDER not in onnxruntime.get_available_providers():
            raise BackendError(
                f"onnxruntime {onnxruntime.__version__} has no {PROVIDER}; install one that has: {EXTRA}"
            )
        if hasattr(onnxruntime, "preload_dlls"):  # since 1.21: finds CUDA and cuDNN where pip puts them
            with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find; results go to stdout
                onnxruntime.preload_dlls()

    @property
    def granted(self) -> str:
        """Engine, version, provider and device."""
        return f"onnxruntime {self._engine.__version__}, {PROVIDER}, {self._device_name}"

    def chain_engine(self) -> Backend:
        """Return an engine on the CPU; see ``ChoosesChainEngine``."""
        return first_installed(None)

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open one graph; see ``Backend.open``."""
        name = graph.spec.name
        wanted, source = _provider_options(graph), source_of(path, graph)
        try:
            # enable_fallback=0: otherwise a failure is printed to stdout and tried again
            session = self._engine.InferenceSession(
                source, self._session_options(), providers=[(PROVIDER, wanted)], enable_fallback=0
            )
            granted = session.get_providers()
            options = session.get_provider_options().get(PROVIDER, {})
        except Exception as error:  # pybind11 exceptions without a common base
            raise BackendError(f"graph {name}: {first_line(error)}") from error
        if granted[:1] != [PROVIDER]:
            why = "libraries of CUDA or cuDNN are missing, or of another version"
            raise BackendError(f"graph {name}: runs on {granted}; asked for {PROVIDER!r}: {why} ({EXTRA})")
        problems = differences("input", graph.spec.inputs, session.get_inputs())
        problems += differences("output", graph.spec.outputs, session.get_outputs())
        problems += _refused_options(wanted, options)
        if problems:
            raise BackendError(f"graph {name}: {'; '.join(problems)}")
        return _Session(graph.spec, self._engine, session)

    def _session_options(self) -> Any:
        options = self._engine.SessionOptions()
        options.intra_op_num_threads = 1  # what is left to the CPU are shapes
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; warnings about its own optimiser mean nothing to our user
        options.use_deterministic_compute = True  # encoding twice gives the same bytes
        return options


class _Session:
    def __init__(self, spec: GraphSpec, engine: Any, session: Any) -> None:
        self.spec = spec
        self._engine = engine
        self._session = session

    def run(self, inputs: Tensors) -> dict[str, Array]:
        try:
            binding = self._session.io_binding()  # of its own: threads may run the session at once
            for name in self.spec.inputs:
                binding.bind_ortvalue_input(name, self._value(inputs[name]))
            for name in self.spec.outputs:
                binding.bind_output(name, DEVICE, 0)
            self._session.run_with_iobinding(binding)
            values = binding.get_outputs()
        except Exception as error:  # pybind11 exceptions without a common base
            raise BackendError(f"graph {self.spec.name}: {first_line(error)}") from error
        outputs = {
            name: _OrtArray(self._session, value, spec)
            for (name, spec), value in zip(self.spec.outputs.items(), values, strict=True)
        }
        return cast(dict[str, Array], outputs)  # they have what the walk uses: shape, dtype, numpy.asarray

    def _value(self, array: Array) -> Any:
        """Return an array as the engine's own, on the device."""
        if isinstance(cast(object, array), _OrtArray):
            return cast(_OrtArray, array).value
        return self._engine.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), DEVICE, 0)


class _OrtArray(DeviceArray):
    """An array that the engine holds on the device, as long as somebody holds this."""

    def __init__(self, session: Any, value: Any, spec: TensorSpec) -> None:
        super().__init__(tuple(value.shape()), np.dtype(spec.dtype))
        self.value = value
        self._session = session  # its memory is the session's

    def fetch(self) -> Array:
        try:
            return cast(Array, self.value.numpy())
        except Exception as error:  # pybind11 exceptions without a common base
            raise BackendError(f"cannot copy from the device: {first_line(error)}") from error

    def wait(self) -> None:
        """Do nothing: runs wait for their end."""


def _provider_options(graph: GraphFile) -> dict[str, str]:
    return {
        "device_id": "0",
        "use_tf32": "1" if allows_tf32(graph) else "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",  # each session has memory of its own, and there are 25
    }


def _refused_options(wanted: dict[str, str], granted: dict[str, str]) -> list[str]:
    """Return which of the options that decide how numbers come out are not as asked for, if the engine tells."""
    return [
        f"{key} is {granted[key]}; asked for {wanted[key]}"
        for key in ("use_tf32", "cudnn_conv_algo_search")
        if key in granted and _plain(granted[key]) != _plain(wanted[key])
    ]


def _plain(value: str) -> str:
    return {"true": "1", "false": "0"}.get(value.lower(), value.lower())
