"""The engines that are installed beside this package, and what of their settings changes how they round."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mlic.runtime.backends import Backend, open_backend
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.errors import BackendError

LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}


class OnnxRuntimeAtLevel(OnnxRuntimeBackend):
    """ONNX Runtime with its graph optimisation at a level of choice.

    Fused operators and blocked convolutions round differently, so levels stand for engines.

    Args:
        level: ``all`` (what the runtime uses), ``extended``, ``basic`` or ``none``.
        threads: of each graph.
    """

    def __init__(self, level: str = "all", threads: int | None = None) -> None:
        super().__init__(threads)
        self._level = level

    @property
    def granted(self) -> str:
        """Engine, version, provider, threads and level."""
        return f"{super().granted}, optimisation {self._level}"

    def options(self) -> Any:
        """Return the options with which sessions are opened."""
        options = super().options()
        options.graph_optimization_level = getattr(self._engine.GraphOptimizationLevel, LEVELS[self._level])
        return options


def engines_here(threads: int | None = None) -> dict[str, Callable[[], Backend]]:
    """Return what opens each engine that can be loaded here, by name, the default one first.

    Args:
        threads: of each graph.
    """
    known: dict[str, Callable[[], Backend]] = {
        "onnxruntime": lambda: open_backend("onnxruntime", threads),
        "onnxruntime-basic": lambda: OnnxRuntimeAtLevel("basic", threads),
        "onnxruntime-none": lambda: OnnxRuntimeAtLevel("none", threads),
        "openvino": lambda: open_backend("openvino", threads),
    }
    return {name: start for name, start in known.items() if _loads(start)} | engines_on_gpu()


def engines_on_gpu() -> dict[str, Callable[[], Backend]]:
    """Return what opens each engine that can use a GPU here, by name; none where there is no GPU."""
    known: dict[str, Callable[[], Backend]] = {name: partial(open_backend, name) for name in ("cuda", "tensorrt")}
    return {name: start for name, start in known.items() if _loads(start)}


def _loads(start: Callable[[], Backend]) -> bool:
    try:
        start()
    except BackendError:
        return False
    return True
