"""ONNX Runtime: what is granted, and how it fails."""

import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest

from mlic.runtime.backends import open_backend
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import TensorSpec


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return Bundle.open(bundle_folder)


@pytest.fixture(scope="module")
def backend():
    return OnnxRuntimeBackend(threads=1)


def opened(backend, bundle, name, **changes):
    graph = bundle.manifest.graphs[name]
    graph = dataclasses.replace(graph, spec=dataclasses.replace(graph.spec, **changes))
    return backend.open(bundle.path_of(graph), graph)


def test_a_graph_runs_on_named_arrays(backend, bundle):
    graph = opened(backend, bundle, "h_s")
    z_symbols = np.zeros((1, 4, 2, 3), np.float32)
    outputs = graph.run({"z_symbols": z_symbols, "other": z_symbols})
    assert {name: array.shape for name, array in outputs.items()} == {"hyper": (1, 8, 8, 12)}


def test_strided_arrays_are_taken(backend, bundle):
    graph = opened(backend, bundle, "h_s")
    z_symbols = np.arange(24, dtype=np.float32).reshape(1, 4, 2, 3)
    turned = np.asfortranarray(z_symbols)
    assert np.array_equal(graph.run({"z_symbols": turned})["hyper"], graph.run({"z_symbols": z_symbols})["hyper"])


def test_what_was_granted_is_said(backend):
    assert backend.granted.startswith("onnxruntime 1.")
    assert backend.granted.endswith("CPUExecutionProvider, 1 threads")
    assert 1 <= OnnxRuntimeBackend().threads <= 16


@pytest.mark.parametrize("name", ["auto", "onnxruntime"])
def test_it_is_the_default(name):
    assert open_backend(name, threads=2).granted.endswith("2 threads")


def test_idle_threads_do_not_spin(bundle):
    """Twenty graphs with four threads each: their idle threads must leave the processor to the one that works."""
    backend = OnnxRuntimeBackend(threads=4)
    graphs = [opened(backend, bundle, "h_s") for _ in range(20)]
    z_symbols = np.zeros((1, 4, 8, 8), np.float32)
    for graph in graphs:
        graph.run({"z_symbols": z_symbols})
    time.sleep(0.02)
    before = time.process_time()
    time.sleep(0.1)
    assert time.process_time() - before < 0.05


def test_a_damaged_file_is_a_backend_error_and_nothing_is_printed(backend, bundle, tmp_path, capfd):
    graph = bundle.manifest.graphs["h_s"]
    for data in (b"", b"hello", bundle.path_of(graph).read_bytes()[:100]):
        path = tmp_path / "h_s.onnx"
        path.write_bytes(data)
        with pytest.raises(BackendError, match="graph h_s: ") as caught:
            backend.open(path, graph)
        assert "\n" not in str(caught.value)
    with pytest.raises(BackendError, match="graph h_s: "):
        backend.open(tmp_path / "none.onnx", graph)
    assert capfd.readouterr().out == ""


def test_names_are_compared_with_the_manifest(backend, bundle):
    with pytest.raises(BackendError, match="inputs are z_symbols; the manifest names z"):
        opened(backend, bundle, "h_s", inputs={"z": TensorSpec("float32", (1, 4, "height/64", "width/64"))})
    spec = TensorSpec("float32", (1, 8, "height/16", "width/16"))
    with pytest.raises(BackendError, match="outputs are hyper; the manifest names hyper, more"):
        opened(backend, bundle, "h_s", outputs={"hyper": spec, "more": spec})


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("float16", (1, 4, "height/64", "width/64")),
        TensorSpec("float32", (1, 5, "height/64", "width/64")),
        TensorSpec("float32", (1, 4, "height/64")),
    ],
)
def test_types_and_shapes_are_compared_with_the_manifest(backend, bundle, spec):
    with pytest.raises(BackendError, match=r"input z_symbols is tensor\(float\) \[1, 4, .*; the manifest has"):
        opened(backend, bundle, "h_s", inputs={"z_symbols": spec})


def test_a_failure_while_running_is_a_backend_error(backend, bundle):
    graph = opened(backend, bundle, "step_01")
    arrays = {
        name: np.zeros([4 if isinstance(dim, str) else dim for dim in spec.shape], np.float32)
        for name, spec in graph.spec.inputs.items()
    }
    with pytest.raises(BackendError, match="graph step_01: "):
        graph.run(arrays)  # packed and full widths do not fit


def test_another_provider_is_refused(backend, bundle, monkeypatch):
    class Session:
        def __init__(self, *args, **kwargs):
            pass

        def get_providers(self):
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(BackendError, match=r"runs on \['CUDAExecutionProvider', .* asked for \['CPUExecution"):
        opened(backend, bundle, "h_s")


def test_a_missing_installation_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"pip install 'mlic-deploy\[cpu\]'"):
        open_backend("onnxruntime")


@pytest.mark.parametrize("threads", [-1, 0, 1025])
def test_no_threads_and_too_many_are_refused(threads):
    with pytest.raises(BackendError, match=f"threads is {threads}; expected 1 to 1024"):
        open_backend(threads=threads)


RESIDENT = """
import os, sys
import numpy as np
from mlic.runtime import Codec

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

codec = Codec.load(threads=1)
codec._graphs["g_a"].run({"x": np.zeros((1, 3, 640, 640), np.float32)})
before = resident()
codec._graphs["h_a"].run({"y": np.zeros((1, 192, int(sys.argv[1]), 80), np.float32)})
print(before - resident())
"""


@pytest.mark.parametrize(("rows", "released"), [(64, False), (68, True)])
def test_memory_of_the_transforms_is_given_back_after_a_picture_larger_than_a_tile(rows, released):
    """1280 x 1024 pixels are a tile."""
    result = subprocess.run([sys.executable, "-c", RESIDENT, str(rows)], capture_output=True, text=True, check=True)
    assert (int(result.stdout) > 50e6) == released  # g_a at 640 x 640 holds 130 MB
