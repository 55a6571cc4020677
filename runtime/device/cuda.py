"""A GPU by way of ``cuda-python``; see ``device.py`` for what each method does."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.device.device import OutOfDeviceMemoryError
from mlic.runtime.device.probe import device_for_engine
from mlic.runtime.errors import BackendError

DEVICE = 0  # the first that CUDA_VISIBLE_DEVICES leaves
EXTRAS = "pip install 'mlic-deploy[tensorrt]' or 'mlic-deploy[tensorrt-rtx]'"


class CudaDevice:
    """The first GPU that this process may use.

    Streams do not wait for the legacy default stream, nor it for them: an application around us may use it.

    Attributes:
        name: what the vendor calls it.

    Raises:
        BackendError: there is no driver or device, or ``cuda-python`` is missing or too new for the driver.
    """

    def __init__(self) -> None:
        info = device_for_engine()
        self.name = info.name
        try:
            from cuda.bindings import runtime  # noqa: PLC0415 - an extra, loaded when chosen
        except ImportError as error:
            raise BackendError(f"cannot load cuda-python ({error}); install it with: {EXTRAS}") from error
        self._runtime: Any = runtime
        self.use()

    def use(self) -> None:
        """Make this device the calling thread's."""
        self._call("cudaSetDevice", DEVICE)

    def allocate(self, num_bytes: int) -> int:
        """Return the address of new device memory."""
        return int(self._call("cudaMalloc", num_bytes))

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cudaFree", address)

    def allocate_pinned(self, num_bytes: int) -> UInt8Array:
        """Return host memory that stays where it is."""
        address = int(self._call("cudaHostAlloc", num_bytes, self._runtime.cudaHostAllocDefault))
        return np.ctypeslib.as_array((ctypes.c_uint8 * num_bytes).from_address(address))

    def free_pinned(self, memory: UInt8Array) -> None:
        """Give such memory back."""
        self._call("cudaFreeHost", memory.ctypes.data)

    def open_stream(self) -> int:
        """Return a new stream."""
        return int(self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def close_stream(self, stream: int) -> None:
        """Give a stream back."""
        self._call("cudaStreamDestroy", stream)

    def copy_in(self, address: int, source: UInt8Array, stream: int) -> None:
        """Put a copy from pinned memory to the device on a stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, source.ctypes.data, source.nbytes, kind, stream)

    def copy_out(self, target: UInt8Array, address: int, stream: int) -> None:
        """Put a copy from the device to pinned memory on a stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, address, target.nbytes, kind, stream)

    def synchronise(self, stream: int) -> None:
        """Wait until everything on a stream has happened."""
        self._call("cudaStreamSynchronize", stream)

    def follow(self, stream: int, other: int) -> None:
        """Let what is put on ``stream`` from now on wait for everything that is on ``other`` now."""
        event = self._call("cudaEventCreateWithFlags", self._runtime.cudaEventDisableTiming)
        try:
            self._call("cudaEventRecord", event, other)
            self._call("cudaStreamWaitEvent", stream, event, 0)
        finally:
            self._call("cudaEventDestroy", event)  # takes effect once the event has happened

    def begin_capture(self, stream: int) -> None:
        """Record what this thread puts on a stream from now on, instead of doing it."""
        # ThreadLocal: what other threads allocate meanwhile is none of the recording's business.
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> Any:
        """Return what was recorded since ``begin_capture``, ready to be launched."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, captured: Any, stream: int) -> None:
        """Put recorded work on a stream."""
        self._call("cudaGraphLaunch", captured, stream)

    def drop(self, captured: Any) -> None:
        """Give recorded work back; CUDA waits with that until it is no longer under way."""
        self._call("cudaGraphExecDestroy", captured)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime and return what it gives beside its status, if anything.

        Raises:
            OutOfDeviceMemoryError: the status says so.
            BackendError: any other status than success.
        """
        try:
            status, *results = getattr(self._runtime, name)(*arguments)
        except RuntimeError as error:  # how the bindings say that there is no driver to load
            raise BackendError(f"{name}: {error}") from error
        if int(status) == 0:
            return results[0] if results else None
        text = self._runtime.cudaGetErrorString(status)[1].decode()
        message = f"{name}: {text} ({status.name})"
        if status == self._runtime.cudaError_t.cudaErrorMemoryAllocation:
            self._runtime.cudaGetLastError()  # forget it: the next call must not be blamed for it
            raise OutOfDeviceMemoryError(f"{message}, arguments {arguments}")
        raise BackendError(message)
