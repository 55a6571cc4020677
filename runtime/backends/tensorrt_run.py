"""Running an engine: one execution context for each graph and lane, bound once per size of picture.

*Scratch memory.* A context of its own holds as much as the largest picture of its profile needs. Here all contexts of a
lane share one piece, as large as the pictures that came need, since a lane runs one graph at a time.

*Captured work.* Launching recorded work is one call instead of one for each kernel. A recording holds addresses and
belongs to the state of its context, so a context that has one is left alone: another size, another address or another
piece of scratch memory throws the recording away. Memory that is kept by name (``pool.py``) gives the same addresses
picture after picture, so nothing has to be copied to fixed places. What runs for the second time with the same size and
addresses is recorded, as TensorRT asks for one plain run after each change; what never repeats is never recorded. Two
things move arrays: a decoder that goes back to an earlier step while the arrays of both tries are held, and
``decode_many``, which holds ``y_hat`` into the next picture.
"""

from __future__ import annotations

import contextlib
from typing import Any, cast

import numpy as np

from mlic.runtime.arrays import Array, Tensors
from mlic.runtime.backends.base import shape_text
from mlic.runtime.backends.tensorrt_flavour import Flavour, logger_for
from mlic.runtime.device.device import Device
from mlic.runtime.device.lanes import Lane, LaneArray, Lanes
from mlic.runtime.device.lifetime import when_dropped
from mlic.runtime.device.pool import Size
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import GraphSpec, TensorSpec, parse_dim

Shapes = dict[str, tuple[int, ...]]


class TensorRtGraph:
    """An opened engine; see ``Graph``."""

    def __init__(
        self, spec: GraphSpec, flavour: Flavour, runtime: Any, engine: Any, lanes: Lanes, cuda_graphs: bool
    ) -> None:
        self.spec = spec
        self._flavour = flavour
        self._runtime = runtime  # has to outlive its engines
        self._engine = engine
        self._lanes = lanes
        self._cuda_graphs = cuda_graphs
        self._contexts: dict[Lane, _Context] = {}  # each thread adds and looks up its own

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run the graph; see ``Graph.run``. Outputs stay on the device until somebody looks at them."""
        lane = self._lanes.current()
        context = self._contexts.get(lane)
        if context is None:
            context = _Context(self.spec, self._flavour, self._engine, lane, self._cuda_graphs)
            self._contexts[lane] = context
        size = _picture_size(self.spec.inputs, inputs)
        feeds: dict[str, LaneArray] = {}
        foreign = False
        for name in self.spec.inputs:
            array = cast(object, inputs[name])
            self._require_dtype(name, inputs[name])
            if isinstance(array, LaneArray) and array.lane.device is lane.device:
                foreign = lane.follow(array.lane) or foreign
                feeds[name] = array
            else:
                feeds[name] = lane.upload(np.asarray(array), size, context.slot(name))
        outputs = context.run(feeds, size)
        if foreign:  # see Lane.follow
            lane.synchronise()
        return cast(dict[str, Array], outputs)  # they have what the walk uses: shape, dtype, numpy.asarray

    def _require_dtype(self, name: str, array: Array) -> None:
        """Check what TensorRT cannot: it sees an address only."""
        expected = self.spec.inputs[name].dtype
        if array.dtype != expected:
            raise BackendError(f"graph {self.spec.name}: input {name} is {array.dtype}; expected {expected}")


class _Context:
    """An execution context, and what is bound to it."""

    def __init__(self, spec: GraphSpec, flavour: Flavour, engine: Any, lane: Lane, cuda_graphs: bool) -> None:
        self._spec = spec
        self._trt = flavour.module
        self._engine = engine
        self._lane = lane
        self._errors = logger_for(flavour).errors
        self._context = self._create()
        self._cuda_graphs = cuda_graphs
        self._shapes: Shapes = {}
        self._scratch_bytes = 0
        self._addresses: list[int] = []  # scratch, inputs, outputs; empty after another size
        self._captured: _Captured | None = None
        when_dropped(self, lane.waits)  # it may be at work

    def slot(self, name: str) -> str:
        """Return the slot of one of the graph's arrays: its own if it should stay where it is."""
        return f"{self._spec.name}.{name}" if self._cuda_graphs else ""

    def run(self, feeds: dict[str, LaneArray], size: Size) -> dict[str, LaneArray]:
        """Put the graph on the lane and return what it will have written."""
        shapes = {name: array.shape for name, array in feeds.items()}
        if shapes != self._shapes:
            self._take_shapes(shapes)
        outputs = {}
        for name, spec in self._spec.outputs.items():
            shape = tuple(self._context.get_tensor_shape(name))
            if any(dim < 0 for dim in shape):
                raise self._failure(f"output {name} has a shape that depends on values")
            outputs[name] = self._lane.empty(size, self.slot(name), shape, np.dtype(spec.dtype))
        scratch = self._lane.reserve(self._scratch_bytes)
        arrays = feeds | outputs
        addresses = [*scratch, *(array.address for array in arrays.values())]
        if addresses != self._addresses:
            self._take_addresses(addresses, scratch, arrays)
            self._execute()
        else:
            if self._captured is None and self._cuda_graphs:
                self._capture()
            if self._captured is None:
                self._execute()
            else:
                self._captured.launch(self._lane)
        return outputs

    def _create(self) -> Any:
        """Return a context without memory of its own."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        kernels = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if kernels is None:
            context = self._engine.create_execution_context(strategy)
        else:
            # RTX compiles kernels for each size, by default beside the first runs, which other kernels do meanwhile:
            # the same picture would give other bytes a second later. EAGER waits for them.
            config = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
            context = self._engine.create_execution_context(config)
        if context is None:
            raise self._failure("no execution context")
        return context

    def _take_shapes(self, shapes: Shapes) -> None:
        """Get ready for another size of picture; memory is bound again then."""
        self._shapes, self._addresses = {}, []  # until it worked
        for name, shape in shapes.items():
            self._require_in_range(name, shape)
            if not self._context.set_input_shape(name, shape):
                raise self._failure(f"input {name} cannot be {shape_text(shape)}")
        try:
            missing = self._context.infer_shapes()
        except RuntimeError as error:
            raise self._failure(str(error)) from error
        if missing:
            raise self._failure(f"{', '.join(missing)} would have to be given beside the shapes")
        self._scratch_bytes = int(self._context.update_device_memory_size_for_shapes())
        self._shapes = shapes

    def _require_in_range(self, name: str, shape: tuple[int, ...]) -> None:
        least, _, most = (tuple(dims) for dims in self._engine.get_tensor_profile_shape(name, 0))
        fits = len(shape) == len(least)
        if not fits or not all(low <= dim <= high for low, dim, high in zip(least, shape, most, strict=True)):
            raise BackendError(
                f"graph {self._spec.name}: input {name} is {list(shape)}; the engine was built for {list(least)} to "
                f"{list(most)}, from the sizes in the bundle's manifest"
            )

    def _take_addresses(self, addresses: list[int], scratch: tuple[int, int], arrays: dict[str, LaneArray]) -> None:
        """Bind memory, and throw away the recording of what was bound before."""
        self._captured, self._addresses = None, []
        self._context.set_device_memory(*scratch)
        for name, array in arrays.items():
            if not self._context.set_tensor_address(name, array.address):
                raise self._failure(f"{name} cannot lie at {array.address:#x}")
        self._addresses = addresses

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._lane.stream):
            self._addresses = []  # so that a plain run, and not a recording, is what comes next
            raise self._failure("running failed")

    def _capture(self) -> None:
        """Record a run, unless that is not possible: then every run is a plain one."""
        stream, device = self._lane.stream, self._lane.device
        can = getattr(self._context, "is_stream_capturable", None)  # RTX only
        if can is not None and not can(stream):
            self._cuda_graphs = False
            return
        with self._lane.undisturbed():
            try:
                device.begin_capture(stream)
                try:
                    done = self._context.execute_async_v3(stream)
                finally:
                    recording = device.end_capture(stream)  # in any case: nothing else can be put on the stream
            except BackendError:
                done, recording = False, None
        captured = None if recording is None else _Captured(device, recording)
        if done:
            self._captured = captured
        else:
            self._cuda_graphs = False

    def _failure(self, what: str) -> BackendError:
        """Return an error with what TensorRT said last, which it says once."""
        with contextlib.suppress(IndexError):  # it said nothing, or another thread was told
            what += f" ({' '.join(self._errors.pop().split())})"
        return BackendError(f"graph {self._spec.name}: {what}")


class _Captured:
    """Recorded work."""

    def __init__(self, device: Device, recording: Any) -> None:
        self._recording = recording
        when_dropped(self, device.drop, recording)

    def launch(self, lane: Lane) -> None:
        """Put it on a lane."""
        lane.device.launch(self._recording, lane.stream)


def _picture_size(specs: dict[str, TensorSpec], arrays: Tensors) -> Size:
    """Return height and width of the padded picture that arrays belong to."""
    sizes = {"height": 0, "width": 0}
    for name, spec in specs.items():
        for dim, found in zip(spec.shape, arrays[name].shape, strict=False):  # the context compares
            if isinstance(dim, str):
                side, divisor = parse_dim(dim)
                sizes[side] = found * divisor
    return sizes["height"], sizes["width"]
