"""Engines. Each is imported when it is chosen, never before."""

from __future__ import annotations

from mlic.runtime.backends.base import Backend as Backend
from mlic.runtime.backends.base import Graph as Graph
from mlic.runtime.backends.base import LazyGraph as LazyGraph
from mlic.runtime.choices import BACKENDS
from mlic.runtime.errors import BackendError


def open_backend(name: str = "auto", threads: int | None = None) -> Backend:
    """Return an engine.

    Args:
        name: ``onnxruntime``, ``openvino``, ``cuda`` (ONNX Runtime on a GPU), ``tensorrt`` (TensorRT, or TensorRT-RTX
            where only that is installed), or ``auto`` for the default: ONNX Runtime, and OpenVINO for the transforms
            of bundles that are quantised, or that permit bfloat16 where the processor has it; OpenVINO alone where
            only that is installed. A GPU is used only where it is asked for by name.
        threads: for each graph; default: as many as the process may use. Engines on a GPU have none to choose.

    Raises:
        BackendError: the name is unknown, the engine is not installed, or there is no GPU for it.
    """
    if name == "auto":
        from mlic.runtime.backends.auto import AutoBackend  # noqa: PLC0415 - loaded when chosen

        return AutoBackend(threads)
    if name == "onnxruntime":
        from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend  # noqa: PLC0415 - loaded when chosen

        return OnnxRuntimeBackend(threads)
    if name == "openvino":
        from mlic.runtime.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - loaded when chosen

        return OpenVinoBackend(threads)
    if name == "cuda":
        from mlic.runtime.backends.cuda import CudaBackend  # noqa: PLC0415 - loaded when chosen

        return CudaBackend()
    if name == "tensorrt":
        from mlic.runtime.backends.tensorrt import TensorRtBackend  # noqa: PLC0415 - loaded when chosen

        return TensorRtBackend()
    raise BackendError(f"engine {name!r} is unknown; possible: {', '.join(BACKENDS)}")
