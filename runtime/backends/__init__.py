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
        name: ``onnxruntime``, ``openvino``, or ``auto`` for the default, which is the first.
        threads: for each graph; default: as many as the process may use.

    Raises:
        BackendError: the name is unknown, or the engine is not installed.
    """
    if name in {"auto", "onnxruntime"}:
        from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend  # noqa: PLC0415 - loaded when chosen

        return OnnxRuntimeBackend(threads)
    if name == "openvino":
        from mlic.runtime.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - loaded when chosen

        return OpenVinoBackend(threads)
    raise BackendError(f"engine {name!r} is unknown; possible: {', '.join(NAMES)}")
