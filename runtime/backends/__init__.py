"""Engines. Each is imported when it is chosen, never before."""

from __future__ import annotations

from mlic.runtime.backends.base import Backend as Backend
from mlic.runtime.backends.base import Graph as Graph
from mlic.runtime.backends.base import LazyGraph as LazyGraph
from mlic.runtime.errors import BackendError

NAMES = ("auto", "onnxruntime", "openvino")


def open_backend(name: str = "auto", threads: int | None = None) -> Backend:
    """Return an engine.

    Args:
        name: ``onnxruntime``, ``openvino``, or ``auto`` for the default: ONNX Runtime, and OpenVINO for the transforms
            of bundles that permit bfloat16 where both it and the processor can; OpenVINO alone where only that is
            installed.
        threads: for each graph; default: as many as the process may use.

    Raises:
        BackendError: the name is unknown, or the engine is not installed.
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
    raise BackendError(f"engine {name!r} is unknown; possible: {', '.join(NAMES)}")
