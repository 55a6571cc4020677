"""The way to CUDA: against a runtime that works on host memory, and the real one where it has no driver."""

# ruff: noqa: N815 - these are CUDA's names

import ctypes
import enum
import sys
from types import ModuleType

import numpy as np
import pytest

from mlic.runtime.device import cuda as cuda_module
from mlic.runtime.device.cuda import CudaDevice
from mlic.runtime.device.device import OutOfDeviceMemoryError
from mlic.runtime.device.lanes import Lanes
from mlic.runtime.device.probe import DeviceInfo
from mlic.runtime.errors import BackendError


class Status(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorIllegalAddress = 700


class Runtime(ModuleType):
    """``cuda.bindings.runtime`` as its own documentation has it, on host memory and without delay."""

    cudaError_t = Status
    cudaMemcpyKind = enum.IntEnum("cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})
    cudaStreamCaptureMode = enum.IntEnum("cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1})
    cudaHostAllocDefault, cudaStreamNonBlocking, cudaEventDisableTiming = 0, 1, 2

    def __init__(self):
        super().__init__("cuda.bindings.runtime")
        self.calls = []
        self.fails = {}
        self.memory = {}
        self.device_memory = set()
        self.handles = 100

    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        if not (name.startswith("cuda") and callable(value)) or isinstance(value, type) or name == "cudaGetErrorString":
            return value

        def call(*arguments):
            self.calls.append((name, *arguments))
            status = self.fails.get(name)
            return (status, None) if status else value(*arguments)

        return call

    def cudaGetErrorString(self, status):
        return Status.cudaSuccess, b"told by CUDA"

    def cudaGetLastError(self):
        return (Status.cudaSuccess,)

    def cudaSetDevice(self, device):
        return (Status.cudaSuccess,)

    def cudaMalloc(self, size):
        address = self._buffer(size)
        self.device_memory.add(address)
        return Status.cudaSuccess, address

    def cudaFree(self, address):
        self.device_memory.remove(address)
        del self.memory[address]
        return (Status.cudaSuccess,)

    def cudaHostAlloc(self, size, flags):
        return Status.cudaSuccess, self._buffer(size)

    def cudaFreeHost(self, address):
        del self.memory[address]
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, to, source, count, kind, stream):
        assert kind in (1, 2)
        assert (to in self.device_memory) == (kind == 1)
        assert (source in self.device_memory) == (kind == 2)
        ctypes.memmove(to, source, count)
        return (Status.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == self.cudaStreamNonBlocking
        return self._handle()

    def cudaStreamSynchronize(self, stream):
        return (Status.cudaSuccess,)

    cudaStreamDestroy = cudaEventDestroy = cudaGraphDestroy = cudaGraphExecDestroy = cudaStreamSynchronize

    def cudaEventCreateWithFlags(self, flags):
        assert flags == self.cudaEventDisableTiming
        return self._handle()

    def cudaEventRecord(self, event, stream):
        return (Status.cudaSuccess,)

    def cudaStreamWaitEvent(self, stream, event, flags):
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream, mode):
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream):
        return self._handle()

    def cudaGraphInstantiate(self, graph, flags):
        return self._handle()

    def cudaGraphLaunch(self, graph, stream):
        return (Status.cudaSuccess,)

    def _buffer(self, size):
        buffer = ctypes.create_string_buffer(size)
        address = ctypes.addressof(buffer)
        self.memory[address] = buffer
        return address

    def _handle(self):
        self.handles += 1
        return Status.cudaSuccess, self.handles


@pytest.fixture
def runtime(monkeypatch):
    made, package = Runtime(), ModuleType("cuda.bindings")
    package.runtime = made
    monkeypatch.setitem(sys.modules, "cuda.bindings", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", made)
    monkeypatch.setattr(cuda_module, "device_for_engine", lambda: DeviceInfo("NVIDIA Abacus", (9, 0), (13, 0)))
    return made


@pytest.fixture
def cuda(runtime):
    return CudaDevice()


def test_arrays_go_there_and_back_through_lanes(cuda, runtime):
    lanes = Lanes(cuda)
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = lanes.current().upload(array, (64, 64), "a")
    assert np.array_equal(np.asarray(found), array)
    assert cuda.name == "NVIDIA Abacus"
    del found, lanes
    assert runtime.memory == {}


def test_what_follows_waits_for_an_event_that_is_given_back(cuda, runtime):
    runtime.calls.clear()
    cuda.follow(1, 2)
    event = runtime.handles
    assert runtime.calls == [
        ("cudaEventCreateWithFlags", 2),
        ("cudaEventRecord", event, 2),
        ("cudaStreamWaitEvent", 1, event, 0),
        ("cudaEventDestroy", event),
    ]


def test_recording_makes_work_to_launch(cuda, runtime):
    runtime.calls.clear()
    cuda.begin_capture(7)
    work = cuda.end_capture(7)
    cuda.launch(work, 7)
    cuda.drop(work)
    graph = work - 1
    assert runtime.calls == [
        ("cudaStreamBeginCapture", 7, 1),
        ("cudaStreamEndCapture", 7),
        ("cudaGraphInstantiate", graph, 0),
        ("cudaGraphDestroy", graph),
        ("cudaGraphLaunch", work, 7),
        ("cudaGraphExecDestroy", work),
    ]


def test_a_failing_call_is_named(cuda, runtime):
    runtime.fails["cudaStreamSynchronize"] = Status.cudaErrorIllegalAddress
    with pytest.raises(BackendError, match=r"^cudaStreamSynchronize: told by CUDA \(cudaErrorIllegalAddress\)$"):
        cuda.synchronise(5)


def test_a_recording_that_cannot_be_launched_is_given_back(cuda, runtime):
    runtime.fails["cudaGraphInstantiate"] = Status.cudaErrorIllegalAddress
    with pytest.raises(BackendError, match="cudaGraphInstantiate"):
        cuda.end_capture(5)
    assert runtime.calls[-1][0] == "cudaGraphDestroy"


def test_memory_that_is_not_there_is_an_error_of_its_own(cuda, runtime):
    runtime.fails["cudaMalloc"] = Status.cudaErrorMemoryAllocation
    with pytest.raises(OutOfDeviceMemoryError, match=r"cudaMalloc: told by CUDA .*12345"):
        cuda.allocate(12345)
    assert runtime.calls[-1][0] == "cudaGetLastError"


def test_bindings_that_find_no_driver_are_a_backend_error(cuda, monkeypatch):
    def none(*_):
        raise RuntimeError("libcuda.so.1 not found")

    monkeypatch.setattr(Runtime, "cudaSetDevice", none)
    with pytest.raises(BackendError, match=r"cudaSetDevice: libcuda.so.1 not found"):
        cuda.use()


def test_the_real_bindings_take_these_calls():
    """Without a driver every call fails, but only after its arguments were looked at."""
    real = pytest.importorskip("cuda.bindings.runtime")
    try:
        if int(real.cudaGetDeviceCount()[0]) == 0:
            pytest.skip("calls with made-up addresses need a machine without a GPU")
    except RuntimeError:
        pytest.skip("these bindings load the driver first")
    device = CudaDevice.__new__(CudaDevice)
    device._runtime = real
    pinned = np.zeros(16, np.uint8)
    calls = {
        "cudaSetDevice": device.use,
        "cudaMalloc": lambda: device.allocate(16),
        "cudaFree": lambda: device.free(4096),
        "cudaHostAlloc": lambda: device.allocate_pinned(16),
        "cudaFreeHost": lambda: device.free_pinned(pinned),
        "cudaStreamCreateWithFlags": device.open_stream,
        "cudaStreamDestroy": lambda: device.close_stream(5),
        "cudaMemcpyAsync": lambda: device.copy_in(4096, pinned, 5),
        "cudaMemcpyAsync: ": lambda: device.copy_out(pinned, 4096, 5),
        "cudaStreamSynchronize": lambda: device.synchronise(5),
        "cudaEventCreateWithFlags": lambda: device.follow(5, 6),
        "cudaStreamBeginCapture": lambda: device.begin_capture(5),
        "cudaStreamEndCapture": lambda: device.end_capture(5),
        "cudaGraphLaunch": lambda: device.launch(5, 6),
        "cudaGraphExecDestroy": lambda: device.drop(5),
    }
    for name, call in calls.items():
        with pytest.raises(BackendError, match=f"^{name}.*(InsufficientDriver|NoDevice)"):
            call()
    for name, arguments in (
        ("cudaEventRecord", (5, 6)),
        ("cudaStreamWaitEvent", (5, 6, 0)),
        ("cudaEventDestroy", (5,)),
    ):
        with pytest.raises(BackendError, match=name):
            device._call(name, *arguments)
    for name, arguments in (("cudaGraphInstantiate", (5, 0)), ("cudaGraphDestroy", (5,))):
        with pytest.raises(BackendError, match=name):
            device._call(name, *arguments)
