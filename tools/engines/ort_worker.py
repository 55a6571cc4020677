"""Serves ONNX Runtime on stdin and stdout; ``worker.py`` describes the protocol.

Self-contained, since it runs in the engine's own environment, which has numpy and onnxruntime and nothing of ours.
"""

from __future__ import annotations

import json
import math
import os
import platform
import struct
import sys
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

PROVIDER = "CPUExecutionProvider"

_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
}

Arrays = dict[str, NDArray[Any]]


class Engine:
    """ONNX Runtime and the graphs opened so far."""

    def __init__(self) -> None:
        import onnxruntime  # noqa: PLC0415 - once stdout is safe

        self._engine: Any = onnxruntime
        self._sessions: list[Any] = []

    def answer(self, request: dict[str, Any], inputs: Arrays) -> tuple[dict[str, Any], Arrays]:
        """Do what a request asks.

        Returns:
            The answer's header and arrays.

        Raises:
            Exception: of any kind; its first line goes to the parent.
        """
        match request["op"]:
            case "about":
                return {"engine": f"onnxruntime {self._engine.__version__} {platform.machine()}"}, {}
            case "open":
                return self._open(request["path"], **request["options"]), {}
            case "run":
                session = self._sessions[request["id"]]
                names = [node.name for node in session.get_outputs()]
                return {}, dict(zip(names, session.run(names, inputs), strict=True))
            case other:
                raise ValueError(f"request {other} is unknown")

    def _open(self, path: str, optimization: str = "all", threads: int = 1) -> dict[str, Any]:
        if optimization not in _LEVELS:
            raise ValueError(f"optimization {optimization} is unknown; possible: {', '.join(_LEVELS)}")
        options = self._engine.SessionOptions()
        options.graph_optimization_level = getattr(self._engine.GraphOptimizationLevel, _LEVELS[optimization])
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False
        session = self._engine.InferenceSession(path, options, providers=[PROVIDER], enable_fallback=0)
        if session.get_providers() != [PROVIDER]:
            raise RuntimeError(f"runs on {session.get_providers()}; asked for [{PROVIDER!r}]")
        self._sessions.append(session)
        return {
            "id": len(self._sessions) - 1,
            "takes": {node.name: _DTYPES.get(node.type, node.type) for node in session.get_inputs()},
            "gives": {node.name: _DTYPES.get(node.type, node.type) for node in session.get_outputs()},
        }


def main() -> None:
    """Answer requests until stdin ends."""
    requests, answers = sys.stdin.buffer, _take_stdout()
    engine = Engine()
    while message := _read(requests):
        try:
            header, outputs = engine.answer(*message)
        except Exception as error:  # pybind11 exceptions without a common base
            header, outputs = {"error": _first_line(error)}, {}
        _write(answers, header, outputs)


def _take_stdout() -> IO[bytes]:
    """Return a stream to the parent, and let all that others print go to stderr: it would break the protocol."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], Arrays] | None:
    """Return a request and its arrays, or None at the end."""
    length = stream.read(4)
    if len(length) < 4:
        return None
    header = json.loads(stream.read(struct.unpack("<I", length)[0]))
    inputs = {}
    for entry in header.get("inputs", []):
        dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        values = np.frombuffer(stream.read(math.prod(entry["shape"]) * dtype.itemsize), dtype)
        inputs[entry["name"]] = values.reshape(entry["shape"])
    return header, inputs


def _write(stream: IO[bytes], header: dict[str, Any], outputs: Arrays) -> None:
    if outputs:
        listed = [{"name": name, "dtype": array.dtype.name, "shape": array.shape} for name, array in outputs.items()]
        header = {**header, "outputs": listed}
    text = json.dumps(header).encode()
    stream.write(struct.pack("<I", len(text)) + text)
    for array in outputs.values():
        stream.write(np.asarray(array, array.dtype.newbyteorder("<"), order="C").reshape(-1).view(np.uint8).data)
    stream.flush()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


if __name__ == "__main__":
    main()
