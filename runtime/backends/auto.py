"""Each graph on the engine that is fastest for it on this machine.

The entropy path always runs on ONNX Runtime, where it is installed, so that what else is installed does not decide
which tables a file is coded with; on OpenVINO it is as fast (full-size MLIC++ at 768 x 512 on two cores: 925 against
944 ms). Transforms that a bundle permits in bfloat16 run on OpenVINO where that is installed and the processor has
bfloat16, in half the time.
"""

from __future__ import annotations

import threading
from pathlib import Path

from mlic.runtime.backends.base import Backend, Graph
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import GraphFile


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
        self._main = _first_installed(threads)
        self._bf16: Backend | None = None
        self._bf16_tried = False
        self._lock = threading.Lock()  # graphs are opened in several threads

    @property
    def granted(self) -> str:
        """What the engine of the entropy path granted, and that of bfloat16 transforms if one was opened."""
        if self._bf16 is None:
            return self._main.granted
        return f"{self._main.granted}; bf16 transforms: {self._bf16.granted}"

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open one graph; see ``Backend.open``."""
        return self._engine_for(graph).open(path, graph)

    def _engine_for(self, graph: GraphFile) -> Backend:
        if graph.precision != "bf16" or graph.spec.exact or self._main.name == "openvino":
            return self._main
        with self._lock:
            if not self._bf16_tried:
                self._bf16, self._bf16_tried = _with_bf16(self._threads), True
        return self._bf16 or self._main


def _first_installed(threads: int | None) -> Backend:
    from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend  # noqa: PLC0415 - loaded when chosen

    try:
        return OnnxRuntimeBackend(threads)
    except BackendError as error:
        from mlic.runtime.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - loaded when chosen

        try:
            return OpenVinoBackend(threads)
        except BackendError:
            raise error from None  # what is missing first is what the user is told to install


def _with_bf16(threads: int | None) -> Backend | None:
    """Return OpenVINO if it is here and can compute in bfloat16."""
    from mlic.runtime.backends.openvino import OpenVinoBackend  # noqa: PLC0415 - loaded when chosen

    try:
        backend = OpenVinoBackend(threads)
    except BackendError:
        return None
    return backend if backend.has_bf16 else None
