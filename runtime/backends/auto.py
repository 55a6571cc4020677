"""Each graph on the engine that is fastest for it on this machine.

The entropy path always runs on ONNX Runtime, where it is installed, so that what else is installed does not decide
which tables a file is coded with; on OpenVINO it is as fast (full-size MLIC++ at 768 x 512 on two cores: 925 against
944 ms). Transforms of two precisions run on OpenVINO where that is installed: those that a bundle permits in bfloat16,
if the processor has it, in half the time; and quantised ones, int8 (full-size g_a of MLIC++: 3.3 times as fast as in
fp32, against 2.5 times on ONNX Runtime).
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mlic.runtime.backends.base import Backend, Graph
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import GraphFile

if TYPE_CHECKING:
    from mlic.runtime.backends.openvino import OpenVinoBackend

ON_OPENVINO = ("bf16", "int8")  # precisions of transforms that are faster there


class AutoBackend:
    """Chooses among the engines that are installed, graph by graph.

    Args:
        threads: of each graph; default: as many as the process may use.

    Raises:
        BackendError: no engine is installed, or ``threads`` is less than 1.
    """

    name = "auto"

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._main = first_installed(threads)
        self._openvino: OpenVinoBackend | None = None
        self._openvino_tried = False
        self._moved: set[str] = set()  # precisions of the transforms that OpenVINO was given
        self._lock = threading.Lock()  # graphs are opened in several threads

    @property
    def granted(self) -> str:
        """What the engine of the entropy path granted, and OpenVINO if transforms were opened on it."""
        with self._lock:
            moved = ", ".join(sorted(self._moved))
        if self._openvino is None or not moved:
            return self._main.granted
        return f"{self._main.granted}; {moved} transforms: {self._openvino.granted}"

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open one graph; see ``Backend.open``."""
        return self._engine_for(graph).open(path, graph)

    def chain_engine(self) -> Backend:
        """Return the engine of the entropy path; see ``ChoosesChainEngine``."""
        return self._main

    def _engine_for(self, graph: GraphFile) -> Backend:
        if graph.precision not in ON_OPENVINO or graph.spec.exact or self._main.name == "openvino":
            return self._main
        with self._lock:
            if not self._openvino_tried:
                self._openvino, self._openvino_tried = _openvino_if_installed(self._threads), True
            if self._openvino is None or (graph.precision == "bf16" and not self._openvino.has_bf16):
                return self._main
            self._moved.add(graph.precision)
            return self._openvino


def first_installed(threads: int | None) -> Backend:
    """Return ONNX Runtime on the CPU, or OpenVINO where that alone is installed.

    Raises:
        BackendError: neither is, or ``threads`` is less than 1.
    """
    from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend  # noqa: PLC0415 - loaded when chosen

    try:
        return OnnxRuntimeBackend(threads)
    except BackendError as error:
        from mlic.runtime.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - loaded when chosen

        try:
            return OpenVinoBackend(threads)
        except BackendError:
            raise error from None  # what is missing first is what the user is told to install


def _openvino_if_installed(threads: int | None) -> OpenVinoBackend | None:
    from mlic.runtime.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - loaded when chosen

    try:
        return OpenVinoBackend(threads)
    except BackendError:
        return None
