"""An engine in another process, driven as if it were in this one.

A process holds one version of ONNX Runtime, and none for another processor. Workers hold the others: ``ort_worker.py``
serves the ``onnxruntime`` of whichever Python runs it, ``web_worker.mjs`` serves ``onnxruntime-web`` under Node.

The protocol. The parent writes requests to the worker's stdin and reads one answer to each from its stdout. Both are
messages:

=======  ================================================================================================
bytes    what
=======  ================================================================================================
4        n, the length of the header: uint32, little-endian, at most 1 MiB
n        header: a JSON object, UTF-8
rest     values of the arrays that the header lists, in its order: little-endian, C order, no gaps
=======  ================================================================================================

Requests, and what answers them:

``{"op": "about"}``
    ``{"engine": "onnxruntime 1.20.1 x86_64"}``
``{"op": "open", "path": "/bundle/onnx/g_a.onnx", "options": {"threads": 1}}``
    ``{"id": 0, "takes": {"x": "float32"}, "gives": {"y": "float32"}}``
``{"op": "run", "id": 0, "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3, 64, 64]}]}`` and values
    ``{"outputs": [{"name": "y", "dtype": "float32", "shape": [1, 192, 4, 4]}]}`` and values
any that fails
    ``{"error": "one line"}``

The dtypes are the manifest's. Options of ``open`` are ``optimization``, which is ``none``, ``basic``, ``extended`` or
``all`` (the default), and ``threads``, by default 1; a worker refuses what it does not know or cannot grant. Whatever
else it has to say it writes to stderr. It ends when its stdin does.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import struct
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from mlic.runtime.arrays import Array, Tensors
from mlic.runtime.backends.base import Graph
from mlic.runtime.errors import BackendError
from mlic.runtime.graph_bytes import source_of
from mlic.runtime.manifest import DTYPES, GraphFile, GraphSpec

MAX_HEADER_BYTES = 1 << 20
MAX_ARRAY_BYTES = 1 << 32  # the largest picture's planes are far below
GRACE_S = 5  # for a worker to end by itself
STDERR_BYTES = 4096  # of which the last line is shown


class WorkerBackend:
    """An engine in another process, which starts now and ends with ``close`` or at the end of a ``with``.

    Several threads may use it; the worker answers one after another.

    Args:
        command: starts the worker.
        name: for people.
        variables: added to this process's environment.
        options: for every graph; see the module.

    Attributes:
        name: as given.
        granted: what the worker calls itself, and the options.

    Raises:
        BackendError: the worker does not start, or does not say what it is.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        variables: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self._options = dict(options or {})
        self._lock = threading.Lock()
        self._ended: str | None = None  # why there is no worker any more
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - not a pipe: a worker would stall once that is full
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the caller's own command
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, **(variables or {})},
            )
        except OSError as error:
            self._stderr.close()
            raise BackendError(f"{name}: cannot start {command[0]} ({error.strerror})") from error
        try:
            engine = self.request(name, {"op": "about"})[0].get("engine")
            if not isinstance(engine, str):
                raise BackendError(f"{name}: the worker does not say what it is")
        except BaseException:
            self.close()
            raise
        self.granted = ", ".join([engine, *(f"{key} {value}" for key, value in self._options.items())])

    def __enter__(self) -> WorkerBackend:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._process.pid

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open one graph; see ``Backend.open``."""
        spec, subject = graph.spec, f"graph {graph.spec.name}: {self.name}"
        source = source_of(path.absolute(), graph)
        with contextlib.ExitStack() as stack:
            if isinstance(source, bytes):  # workers know plain files only, and have read them when they answer
                file = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".onnx"))
                file.write(source)
                file.flush()
                source = file.name
            answer, _ = self.request(subject, {"op": "open", "path": source, "options": self._options})
        problems = []
        for side, key, specs in (("inputs", "takes", spec.inputs), ("outputs", "gives", spec.outputs)):
            found, expected = answer.get(key), {name: tensor.dtype for name, tensor in specs.items()}
            if found != expected:
                problems.append(f"{side} are {found}; the manifest has {expected}")
        if problems:
            raise BackendError(f"{subject}: {'; '.join(problems)}")
        return _WorkerGraph(spec, self, subject, answer.get("id"))

    def request(
        self, subject: str, header: Mapping[str, Any], arrays: Sequence[Array] = ()
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Send a request and return the answer's header and arrays.

        Args:
            subject: begins the text of errors.
            header: of the request; see the module.
            arrays: as ``header`` lists them.

        Raises:
            BackendError: the worker refused, ended, or answered with something else; after the latter two it is of no
                more use.
        """
        with self._lock:
            if self._ended:
                raise BackendError(f"{subject}: {self._ended}")
            assert self._process.stdin
            assert self._process.stdout
            try:
                _write(self._process.stdin, header, arrays)
                answer, outputs = _read(self._process.stdout)
            except (OSError, EOFError) as error:
                self._ended = self._describe_end()
                raise BackendError(f"{subject}: {self._ended}") from error
            except ValueError as error:
                self._ended = f"the worker answered with {error}{self._last_line()}"
                self._process.kill()
                raise BackendError(f"{subject}: {self._ended}") from error
            except BaseException:  # such as Ctrl-C: the answer that is still to come would be taken for the next one's
                self._ended = "the worker was interrupted"
                self._process.kill()
                raise
        if "error" in answer:
            raise BackendError(f"{subject}: {answer['error']}")
        return answer, outputs

    def close(self) -> None:
        """End the worker, after the request that it may be answering to another thread."""
        with self._lock:
            self._ended = self._ended or "the worker was closed"
            assert self._process.stdin
            assert self._process.stdout
            with contextlib.suppress(BrokenPipeError):  # what is left to write
                self._process.stdin.close()
            self._wait()
            self._process.stdout.close()
            self._stderr.close()

    def _wait(self) -> int:
        try:
            return self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _describe_end(self) -> str:
        status = self._wait()
        how = f"with status {status}" if status >= 0 else f"on signal {-status} ({signal.strsignal(-status)})"
        return f"the worker ended {how}{self._last_line()}"

    def _last_line(self) -> str:
        """Return the last line of the worker's stderr as the end of a message."""
        # pread: the worker writes where this file's position is
        start = max(0, os.fstat(self._stderr.fileno()).st_size - STDERR_BYTES)
        said = os.pread(self._stderr.fileno(), STDERR_BYTES, start)
        lines = said.decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""


class _WorkerGraph:
    def __init__(self, spec: GraphSpec, backend: WorkerBackend, subject: str, identity: object) -> None:
        self.spec = spec
        self._backend = backend
        self._subject = subject
        self._id = identity

    def run(self, inputs: Tensors) -> dict[str, Array]:
        arrays = [np.asarray(inputs[name]) for name in self.spec.inputs]
        listed = [
            {"name": name, "dtype": array.dtype.name, "shape": array.shape}
            for name, array in zip(self.spec.inputs, arrays, strict=True)
        ]
        _, outputs = self._backend.request(self._subject, {"op": "run", "id": self._id, "inputs": listed}, arrays)
        missing = [name for name in self.spec.outputs if name not in outputs]
        if missing:
            raise BackendError(f"{self._subject}: the worker sent no {', '.join(missing)}")
        return {name: outputs[name] for name in self.spec.outputs}


def _write(stream: IO[bytes], header: Mapping[str, Any], arrays: Sequence[Array]) -> None:
    text = json.dumps(header).encode()
    stream.write(struct.pack("<I", len(text)) + text)
    for array in arrays:
        stream.write(np.asarray(array, array.dtype.newbyteorder("<"), order="C").reshape(-1).view(np.uint8).data)
    stream.flush()


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return an answer's header and arrays.

    Raises:
        EOFError: the stream ends before it does.
        ValueError: it is no answer; the text says what it is.
    """
    (length,) = struct.unpack("<I", _read_exactly(stream, 4))
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes")
    try:
        header = json.loads(_read_exactly(stream, length))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a header that is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise ValueError(f"a header that is a {type(header).__name__}")
    outputs = header.get("outputs", [])
    if not isinstance(outputs, list):
        raise ValueError("outputs that are no list")
    return header, dict(_read_array(stream, entry) for entry in outputs)


def _read_array(stream: IO[bytes], entry: object) -> tuple[str, Array]:
    match entry:
        case {"name": str(name), "dtype": str(dtype), "shape": list(shape)} if dtype in DTYPES and _is_shape(shape):
            little_endian = np.dtype(dtype).newbyteorder("<")
        case _:
            raise ValueError(f"an array {entry}")
    size = math.prod(shape) * little_endian.itemsize
    if size > MAX_ARRAY_BYTES:
        raise ValueError(f"an array {name} of {size} bytes")
    values = np.frombuffer(_read_exactly(stream, size), little_endian)
    return name, values.astype(dtype).reshape(shape)  # a copy, which may be written to as other engines' outputs may


def _is_shape(shape: list[Any]) -> bool:
    return all(isinstance(side, int) and side >= 0 for side in shape)


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
