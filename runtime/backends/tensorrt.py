"""TensorRT or TensorRT-RTX: graphs as built engines, their arrays on the GPU from step to step.

What goes up is the picture or the symbols, what comes down is what somebody looks at: the scales, a decoder's picture,
and when encoding ``y`` and the means. Plans come from ``tensorrt_plans.py``, running them is in ``tensorrt_run.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlic.runtime.backends.auto import first_installed
from mlic.runtime.backends.base import Backend, Graph, shape_text
from mlic.runtime.backends.tensorrt_flavour import Flavour, installed_flavour, logger_for
from mlic.runtime.backends.tensorrt_plans import load_or_build
from mlic.runtime.backends.tensorrt_run import TensorRtGraph
from mlic.runtime.device.cuda import CudaDevice
from mlic.runtime.device.device import Device
from mlic.runtime.device.lanes import Lanes
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import GraphFile, TensorSpec

Plans = Callable[[Path, GraphFile, Flavour, str], bytes]  # file and entry of a graph, what runs it and where -> plan


class TensorRtBackend:
    """Opens graphs as TensorRT engines on the first GPU that the process may use.

    Args:
        cuda_graphs: launch what a graph does as one recorded piece of work, from the third picture of a size on.
        device: default: the GPU.
        flavour: default: TensorRT, or TensorRT-RTX where only that is installed.
        plans: gives the built engine of a graph; default: those beside the bundle, built where they are missing.

    Raises:
        BackendError: there is no driver or GPU, or TensorRT or ``cuda-python`` is not installed.
    """

    name = "tensorrt"

    def __init__(
        self,
        *,
        cuda_graphs: bool = True,
        device: Device | None = None,
        flavour: Flavour | None = None,
        plans: Plans = load_or_build,
    ) -> None:
        self._lanes = Lanes(device or CudaDevice())  # first: some builds of TensorRT crash without a driver
        self._flavour = flavour or installed_flavour()
        self._plans = plans
        self._cuda_graphs = cuda_graphs
        # Before anything of TensorRT's: it keeps the first logger that it sees.
        self._runtime = self._flavour.module.Runtime(logger_for(self._flavour))

    @property
    def granted(self) -> str:
        """Engine, version and device."""
        return f"{self._flavour.name} {self._flavour.version}, {self._lanes.device.name}"

    def chain_engine(self) -> Backend:
        """Return an engine on the CPU; see ``ChoosesChainEngine``."""
        return first_installed(None)

    def open(self, path: Path, graph: GraphFile) -> Graph:
        """Open one graph, building its engine if there is none yet; see ``Backend.open``."""
        name, errors = graph.spec.name, logger_for(self._flavour).errors
        self._lanes.device.use()
        plan = self._plans(path, graph, self._flavour, self._lanes.device.name)
        errors.clear()
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(f"graph {name}: the plan cannot be loaded ({_last(errors)})")
        problems = _differences(self._flavour.module, "input", graph.spec.inputs, engine)
        problems += _differences(self._flavour.module, "output", graph.spec.outputs, engine)
        if problems:
            raise BackendError(f"graph {name}: {'; '.join(problems)}")
        return TensorRtGraph(graph.spec, self._flavour, self._runtime, engine, self._lanes, self._cuda_graphs)


def _differences(trt: Any, side: str, specs: dict[str, TensorSpec], engine: Any) -> list[str]:
    """Return what is wrong with an engine's inputs or outputs."""
    mode = trt.TensorIOMode.INPUT if side == "input" else trt.TensorIOMode.OUTPUT
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    found = [name for name in names if engine.get_tensor_mode(name) == mode]
    problems = []
    if set(found) != set(specs):
        problems.append(f"{side}s are {', '.join(found)}; the manifest names {', '.join(specs)}")
    for name, spec in specs.items():
        if name not in found:
            continue
        dtype, shape = _dtype_name(trt, engine.get_tensor_dtype(name)), tuple(engine.get_tensor_shape(name))
        same_shape = len(shape) == len(spec.shape) and all(
            theirs in (-1, ours) for theirs, ours in zip(shape, spec.shape, strict=True) if isinstance(ours, int)
        )
        if dtype != spec.dtype or not same_shape:
            problems.append(
                f"{side} {name} is {dtype} {shape_text(shape)}; the manifest has {spec.dtype} {shape_text(spec.shape)}"
            )
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            problems.append(f"{side} {name} has to lie on the host; expected on the device")
    return problems


def _dtype_name(trt: Any, dtype: Any) -> str:
    try:
        return str(np.dtype(trt.nptype(dtype)).name)
    except TypeError:  # bfloat16 and others that numpy does not have
        return str(dtype)


def _last(errors: Any) -> str:
    return " ".join(errors[-1].split()) if errors else "TensorRT does not say why"
