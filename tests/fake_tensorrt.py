"""The part of TensorRT's Python module that runs engines, on a ``FakeDevice``: its engines are ONNX files.

It checks what TensorRT leaves undefined: a context that is used before everything is bound, scratch memory that is too
small, a recording made without a plain run before it or launched after its context was changed.
"""

from __future__ import annotations

import enum
import math
import weakref
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from mlic.runtime.backends.tensorrt_flavour import Flavour
from mlic.runtime.manifest import TensorSpec
from tests.fake_device import FakeDevice, Work

MAGIC = b"PLAN"
SIZES = ((64, 64), (128, 192), (512, 512))  # height and width of the pictures that every engine is for

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int32)": "int32", "tensor(int64)": "int64"}


def fake_flavour(device: FakeDevice, rtx: bool = False) -> Flavour:
    """Return a TensorRT, or a TensorRT-RTX, that runs on a device."""
    module: Any = ModuleType("fake_tensorrt")
    module.DataType = enum.Enum("DataType", ["FLOAT", "HALF", "INT32", "INT64", "BF16"])
    module.TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
    module.TensorLocation = enum.Enum("TensorLocation", ["DEVICE", "HOST"])
    module.ExecutionContextAllocationStrategy = enum.Enum("Strategy", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"])
    if rtx:
        module.DynamicShapesKernelSpecializationStrategy = enum.Enum("Kernels", ["LAZY", "EAGER", "NONE"])
    module.ILogger = _Logger
    module.nptype = lambda dtype: _numpy_type(module, dtype)
    module.device, module.contexts = device, []
    module.Runtime = lambda logger: _Runtime(module, logger)
    return Flavour("tensorrt-rtx" if rtx else "tensorrt", "99.1", module)


def _numpy_type(module: Any, dtype: Any) -> Any:
    types = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "INT64": np.int64}
    if dtype.name not in types:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return types[dtype.name]


class _Logger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


class _Runtime:
    def __init__(self, module: Any, logger: Any) -> None:
        self.module, self.logger = module, logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if not plan.startswith(MAGIC):
            self.logger.log(_Logger.Severity.ERROR, "[runtime.cpp]\n  magic tag mismatch")
            self.logger.log(_Logger.Severity.WARNING, "only a warning")
            return None
        return Engine(self.module, self.logger, plan[len(MAGIC) :])


class Engine:
    """See ``ICudaEngine``."""

    def __init__(self, module: Any, logger: Any, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.module, self.logger = module, logger
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs = {node.name: node for node in self.session.get_inputs()}
        self.outputs = {node.name: node for node in self.session.get_outputs()}
        self.nodes = self.inputs | self.outputs
        self.num_io_tensors = len(self.nodes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.nodes)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.module.TensorIOMode
        return modes.INPUT if name in self.inputs else modes.OUTPUT if name in self.outputs else modes.NONE

    def get_tensor_dtype(self, name: str) -> Any:
        names = {"float32": "FLOAT", "float16": "HALF", "int32": "INT32", "int64": "INT64"}
        return self.module.DataType[names[_DTYPES[self.nodes[name].type]]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(dim if isinstance(dim, int) else -1 for dim in self.nodes[name].shape)

    def get_tensor_location(self, name: str) -> Any:
        return self.module.TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        assert name in self.inputs
        return [self.shape_for(name, size) for size in SIZES]

    def shape_for(self, name: str, size: tuple[int, int]) -> tuple[int, ...]:
        return TensorSpec("", tuple(self.nodes[name].shape)).concrete(*size)

    def create_runtime_config(self) -> Any:
        config = SimpleNamespace(strategy=None, dynamic_shapes_kernel_specialization_strategy=None)
        config.set_execution_context_allocation_strategy = lambda strategy: setattr(config, "strategy", strategy)
        return config

    def create_execution_context(self, how: Any) -> Context:
        kernels = getattr(self.module, "DynamicShapesKernelSpecializationStrategy", None)
        if kernels is not None:
            assert how.dynamic_shapes_kernel_specialization_strategy is kernels.EAGER, "results would change by time"
            how = how.strategy
        assert how is self.module.ExecutionContextAllocationStrategy.USER_MANAGED
        context = Context(self)
        if kernels is not None:
            context.is_stream_capturable = lambda stream: self.module.capturable  # type: ignore[attr-defined]
        self.module.contexts.append(weakref.ref(context))
        return context


class Context:
    """See ``IExecutionContext``.

    Attributes:
        plain: how often it ran.
        recorded: how often it was recorded.
        fails: whether it refuses to run.
        records: whether it can be recorded.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.device: FakeDevice = engine.module.device
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch: tuple[int, int] | None = None
        self.plain = self.recorded = 0
        self.fails, self.records = False, True
        self._changes = 0
        self._warm = -1  # value of _changes at the latest plain run

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._changes += 1
        self.shapes[name], self.scratch = shape, None
        return name in self.engine.inputs

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.inputs if name not in self.shapes]

    def update_device_memory_size_for_shapes(self) -> int:
        assert not self.infer_shapes(), "the memory depends on all shapes"
        return self._scratch_bytes()

    def set_device_memory(self, address: int, size: int) -> None:
        self._changes += 1
        assert address % 256 == 0
        assert size >= self._scratch_bytes()
        self.scratch = (address, size)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._changes += 1
        self.addresses[name] = address
        return name in self.engine.nodes

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.engine.inputs:
            return self.shapes[name]
        return self.engine.shape_for(name, self._size())

    def execute_async_v3(self, stream: int) -> bool:
        recording, changes = self.device.is_recording(stream), self._changes
        if self.fails or (recording and not self.records):
            self.engine.logger.log(_Logger.Severity.ERROR, "something is\n broken")
            return False
        assert not self.infer_shapes(), "shapes are missing"
        assert set(self.addresses) == set(self.engine.nodes), "addresses are missing"
        assert self.scratch is not None, "scratch memory is missing"
        if recording:
            assert getattr(self, "is_stream_capturable", lambda _: True)(stream), "it said that it cannot be recorded"
            assert self._warm == changes, "TensorRT asks for a plain run before the recording"
            self.recorded += 1
        else:
            self._warm = changes
            self.plain += 1
        addresses, scratch = dict(self.addresses), self.scratch
        shapes = {name: self.get_tensor_shape(name) for name in self.engine.nodes}
        reference, engine, device = weakref.ref(self), self.engine, self.device

        def run() -> None:
            context = reference()
            assert context is not None, "the context was dropped with work under way"
            assert not recording or context._changes == changes, "the context was changed under a recording"
            device.view(*scratch)[:] = 0xEE
            arrays = {name: context._array(name, addresses[name], shapes[name]) for name in shapes}
            feed = {name: arrays[name].copy() for name in engine.inputs}
            for name, values in zip(engine.outputs, engine.session.run(list(engine.outputs), feed), strict=True):
                arrays[name][...] = values

        self.device.put(stream, Work(run, (*addresses.values(), scratch[0])))
        return True

    def _array(self, name: str, address: int, shape: tuple[int, ...]) -> np.ndarray:
        dtype = np.dtype(_DTYPES[self.engine.nodes[name].type])
        memory = self.device.view(address, math.prod(shape) * dtype.itemsize)
        return memory.view(dtype).reshape(shape)

    def _size(self) -> tuple[int, int]:
        """Return the size of picture that gives the shapes."""
        name, shape = next(iter(self.shapes.items()))
        factor = {"height": 0, "width": 0}
        for dim, found in zip(self.engine.nodes[name].shape, shape, strict=True):
            if isinstance(dim, str):
                side, _, divisor = dim.partition("/")
                factor[side] = found * int(divisor or 1)
        return factor["height"], factor["width"]

    def _scratch_bytes(self) -> int:
        return 16 * sum(math.prod(shape) for shape in self.shapes.values())
