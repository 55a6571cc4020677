"""What tensors inside a graph hold while it runs on pictures: least and largest value, and a histogram between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from mlic.runtime.arrays import Array, Float32Array

BINS = 2048  # eight to a level of 8 bits
SAMPLES = 200_000  # of a tensor and picture that are counted; least and largest are those of all values


@dataclass(frozen=True)
class Observation:
    """What one tensor held over all pictures.

    Attributes:
        low: the least value.
        high: the largest.
        counts: int64 [``BINS``], of values in equal parts of ``low``..``high``.
        density: elements per pixel of the picture.
    """

    low: float
    high: float
    counts: Array
    density: float

    @property
    def centres(self) -> Array:
        """The middle of each bin, float64 [``BINS``]."""
        edges: Array = np.linspace(self.low, self.high, BINS + 1)
        return (edges[1:] + edges[:-1]) / 2


def session(model: onnx.ModelProto, threads: int, outputs: Sequence[str] = ()) -> onnxruntime.InferenceSession:
    """Open a graph that lies in memory, with further tensors as outputs."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    known = {value.name for value in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in known)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])


def observe(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: Sequence[Float32Array],
    pixels: Sequence[int],
    threads: int,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Observation]:
    """Run a graph with one input on pictures, twice: for the limits, and for the histograms between them.

    Args:
        model: float32 graph.
        tensors: names of float32 tensors in it, inputs and outputs included.
        inputs: what the graph takes, one array a picture.
        pixels: of each picture.
        threads: of the engine.
        progress: called after each run, twice for a picture.

    Returns:
        An observation for every tensor.
    """
    source = model.graph.input[0].name
    names = [name for name in tensors if name != source]
    running = session(model, threads, names)

    def values(array: Float32Array) -> dict[str, Array]:
        found = dict(zip(names, running.run(names, {source: array}) if names else (), strict=True))  # [] means all
        return found | {source: array} if source in tensors else found

    lows, highs = dict.fromkeys(tensors, np.inf), dict.fromkeys(tensors, -np.inf)
    elements = dict.fromkeys(tensors, 0)
    for array in inputs:
        for name, found in values(array).items():
            lows[name] = min(lows[name], float(found.min()))
            highs[name] = max(highs[name], float(found.max()))
            elements[name] += found.size
        progress()
    counts = {name: np.zeros(BINS, np.int64) for name in tensors}
    for array in inputs:
        for name, found in values(array).items():
            if highs[name] > lows[name]:
                step = -(-found.size // SAMPLES) | 1  # odd, so that it does not follow the rows
                counts[name] += np.histogram(found.reshape(-1)[::step], BINS, (lows[name], highs[name]))[0]
        progress()
    return {name: Observation(lows[name], highs[name], counts[name], elements[name] / sum(pixels)) for name in tensors}
