"""Measuring graphs whose work goes on after they returned."""

import time
from pathlib import Path

import numpy as np

from mlic.runtime.device.array import DeviceArray
from mlic.runtime.manifest import GraphFile, GraphSpec
from mlic.tools.bench.timed import TimedBackend


class Late(DeviceArray):
    """An array that is written 20 ms after somebody waits for it."""

    copies = 0

    def fetch(self):
        Late.copies += 1
        return np.zeros(self.shape, self.dtype)

    def wait(self):
        time.sleep(0.02)


class Engine:
    name = granted = "late"

    def open(self, path, graph):
        self.spec = graph.spec
        return self

    def run(self, inputs):
        return {"a": Late((2,), np.dtype(np.float32)), "b": np.zeros(2)}


def test_work_on_a_device_counts_for_its_graph_and_nothing_is_copied():
    backend = TimedBackend(Engine())
    backend.open(Path("x.onnx"), GraphFile(GraphSpec("h_s", {}, {}, True), "x.onnx", "", "fp32")).run({})
    assert backend.seconds["h_s"] >= 0.02
    assert Late.copies == 0
