"""ONNX Runtime's CUDA provider, played by its CPU provider: binding, options, what was granted, and how it fails.

Sessions, bindings and values are the real ones; only the names of provider and device are exchanged on the way.
"""

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
import onnxruntime
import pytest

from mlic.runtime import Codec
from mlic.runtime.backends import cuda as cuda_module
from mlic.runtime.backends import open_backend
from mlic.runtime.backends.cuda import PROVIDER, CudaBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.device.array import DeviceArray
from mlic.runtime.device.probe import DeviceInfo
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import TensorSpec


class Binding:
    """An ``IOBinding`` whose outputs on the device lie in the CPU's memory."""

    def __init__(self, inner):
        self.inner = inner

    def bind_ortvalue_input(self, name, value):
        self.inner.bind_ortvalue_input(name, value.inner)

    def bind_output(self, name, device, number):
        assert (device, number) == ("cuda", 0)
        self.inner.bind_output(name, "cpu", 0)

    def get_outputs(self):
        return [Value(value) for value in self.inner.get_outputs()]


class Value:
    """An ``OrtValue`` that counts what is copied out of it."""

    bytes_in = bytes_out = 0

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def ortvalue_from_numpy(cls, array, device, number):
        assert (device, number) == ("cuda", 0)
        assert array.flags.c_contiguous
        Value.bytes_in += array.nbytes
        return cls(onnxruntime.OrtValue.ortvalue_from_numpy(array.copy(), "cpu", 0))

    def shape(self):
        return self.inner.shape()

    def numpy(self):
        array = self.inner.numpy().copy()
        Value.bytes_out += array.nbytes
        return array


class FakeEngine(ModuleType):
    """``onnxruntime`` with a CUDA provider.

    Attributes:
        available: what it says it has.
        granted: providers of its sessions.
        granted_options: what a session says of the provider's options; None: as asked for.
        asked: the options that sessions were opened with, by file name, or by contents.
    """

    SessionOptions = onnxruntime.SessionOptions
    OrtValue = Value
    __version__ = "9.9"

    def __init__(self):
        super().__init__("onnxruntime")
        self.available = [PROVIDER, "CPUExecutionProvider"]
        self.granted = [PROVIDER, "CPUExecutionProvider"]
        self.granted_options = None
        self.asked = {}

    def get_available_providers(self):
        return self.available

    def preload_dlls(self):
        print("libcudnn.so.9 was not found")

    def InferenceSession(self, path, options, providers, enable_fallback):
        ((provider, wanted),) = providers
        assert (provider, enable_fallback) == (PROVIDER, 0)
        assert options.use_deterministic_compute
        self.asked[path.rpartition("/")[2] if isinstance(path, str) else path] = wanted
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        run, bind = session.run_with_iobinding, session.io_binding
        session.get_providers = lambda: self.granted
        session.get_provider_options = lambda: {PROVIDER: self.granted_options or wanted}
        session.io_binding = lambda: Binding(bind())
        session.run_with_iobinding = lambda binding: run(binding.inner)
        return session


@pytest.fixture
def engine(monkeypatch):
    made = FakeEngine()
    monkeypatch.setitem(sys.modules, "onnxruntime", made)
    monkeypatch.setattr(cuda_module, "device_for_engine", lambda: DeviceInfo("NVIDIA Abacus", (9, 0), (13, 0)))
    Value.bytes_in = Value.bytes_out = 0
    return made


@pytest.fixture
def backend(engine):
    return CudaBackend()


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return Bundle.open(bundle_folder)


def opened(backend, bundle, name, precision="fp32", **changes):
    graph = bundle.manifest.graphs[name]
    graph = dataclasses.replace(graph, precision=precision, spec=dataclasses.replace(graph.spec, **changes))
    return backend.open(bundle.path_of(graph), graph)


def test_files_and_pictures_are_those_of_the_cpu(backend, bundle, codec, make_photo):
    found = Codec(bundle, backend)
    for size in ((64, 64), (75, 100), (128, 192), (75, 100)):
        pixels = make_photo(*size)
        data = codec.encode(pixels)
        assert found.encode(pixels) == data
        assert np.array_equal(found.decode(data), codec.decode(data))


def test_scales_and_picture_come_down_and_symbols_go_up(backend, bundle, codec, make_photo):
    data = codec.encode(make_photo(128, 192))
    Codec(bundle, backend).decode(data)
    graphs = bundle.manifest.graphs
    scales = [graphs[step.graph].spec.outputs[step.scales].concrete(128, 192) for step in bundle.manifest.steps]
    chain = 4 * sum(int(np.prod(shape)) for shape in scales)
    z_symbols = graphs["h_s"].spec.inputs["z_symbols"].concrete(128, 192)
    assert Value.bytes_out == chain + 4 * 3 * 128 * 192
    assert Value.bytes_in == chain + 4 * int(np.prod(z_symbols))


def test_outputs_stay_where_they_are_and_as_they_are(backend, bundle):
    graph = opened(backend, bundle, "h_s")
    inputs = [np.full((1, 4, 2, 3), value, np.float32) for value in range(4)]
    held = [graph.run({"z_symbols": array, "other": array})["hyper"] for array in inputs]
    assert all(isinstance(array, DeviceArray) for array in held)
    assert (held[0].shape, held[0].dtype, held[0].nbytes) == ((1, 8, 8, 12), np.float32, 4 * 8 * 8 * 12)
    assert Value.bytes_out == 0
    cpu = onnxruntime.InferenceSession(bundle.path_of(bundle.manifest.graphs["h_s"]))
    for array, found in zip(inputs, held, strict=True):
        assert np.array_equal(found, cpu.run(["hyper"], {"z_symbols": array})[0])
    before = Value.bytes_in
    opened(backend, bundle, "step_00").run({"hyper": held[0]})
    assert Value.bytes_in == before


def test_several_threads_may_run_one_graph(backend, bundle):
    graph = opened(backend, bundle, "h_s")
    arrays = [np.full((1, 4, 2, 3), value, np.float32) for value in range(16)]
    expected = [np.asarray(graph.run({"z_symbols": array})["hyper"]) for array in arrays]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda array: graph.run({"z_symbols": array})["hyper"], arrays * 4))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected * 4, strict=True))


@pytest.mark.parametrize(
    ("name", "precision", "tf32"),
    [
        ("g_a", "fp32", "0"),
        ("h_s", "fp32", "0"),
        ("h_s", "bf16", "0"),
        ("g_a", "bf16", "1"),
        ("g_s", "fp16", "1"),
        ("g_a", "int8", "1"),
    ],
)
def test_tf32_is_off_where_float32_is_meant_and_algorithms_are_not_timed(engine, bundle, name, precision, tf32):
    opened(CudaBackend(), bundle, name, precision)
    asked = engine.asked[f"{name}.onnx"]
    assert asked["use_tf32"] == tf32
    assert asked["cudnn_conv_algo_search"] == "HEURISTIC"


def test_quantised_graphs_are_opened_in_their_plain_form(engine, int8_folder):
    opened(CudaBackend(), Bundle.open(int8_folder), "g_a", "int8")
    assert list(engine.asked) == ["g_a.onnx"]


def test_compressed_graphs_are_opened_by_their_contents(engine, bundle_folder, packed_folder):
    opened(CudaBackend(), Bundle.open(packed_folder), "h_s")
    assert list(engine.asked) == [(bundle_folder / "onnx/h_s.onnx").read_bytes()]


def test_what_was_granted_is_said(engine):
    assert open_backend("cuda", threads=3).granted == "onnxruntime 9.9, CUDAExecutionProvider, NVIDIA Abacus"


@pytest.mark.parametrize("granted", [["CPUExecutionProvider"], []])
def test_a_silent_step_back_to_the_cpu_is_refused(engine, backend, bundle, granted):
    engine.granted = granted
    with pytest.raises(BackendError, match=r"graph h_s: runs on \[.*; asked for 'CUDAExecutionProvider': libraries of"):
        opened(backend, bundle, "h_s")


@pytest.mark.parametrize("value", ["1", "true"])
def test_options_that_were_not_granted_are_refused(engine, backend, bundle, value):
    engine.granted_options = {"use_tf32": value, "cudnn_conv_algo_search": "EXHAUSTIVE"}
    message = f"use_tf32 is {value}; asked for 0; cudnn_conv_algo_search is EXHAUSTIVE; asked for HEURISTIC"
    with pytest.raises(BackendError, match=f"graph h_s: {message}"):
        opened(backend, bundle, "h_s")


def test_options_in_other_words_are_the_same(engine, backend, bundle):
    engine.granted_options = {"use_tf32": "false", "cudnn_conv_algo_search": "heuristic", "more": "1"}
    opened(backend, bundle, "h_s")


def test_names_types_and_shapes_are_compared_with_the_manifest(backend, bundle):
    with pytest.raises(BackendError, match="inputs are z_symbols; the manifest names z"):
        opened(backend, bundle, "h_s", inputs={"z": TensorSpec("float32", (1, 4, "height/64", "width/64"))})
    with pytest.raises(BackendError, match=r"input z_symbols is tensor\(float\) \[1, 4, .*; the manifest has"):
        opened(backend, bundle, "h_s", inputs={"z_symbols": TensorSpec("float16", (1, 4, "height/64", "width/64"))})


def test_a_damaged_file_is_a_backend_error(backend, bundle, tmp_path):
    path = tmp_path / "h_s.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(BackendError, match="graph h_s: ") as caught:
        backend.open(path, bundle.manifest.graphs["h_s"])
    assert "\n" not in str(caught.value)


def test_a_failure_while_running_is_a_backend_error(backend, bundle):
    graph = opened(backend, bundle, "h_s")
    with pytest.raises(BackendError, match="graph h_s: "):
        graph.run({"z_symbols": np.zeros((1, 5, 2, 3), np.float32)})


def test_a_failing_copy_is_a_backend_error(backend, bundle, monkeypatch):
    def fail(self):
        raise RuntimeError("CUDA error 700\nat some place")

    monkeypatch.setattr(Value, "numpy", fail)
    hyper = opened(backend, bundle, "h_s").run({"z_symbols": np.zeros((1, 4, 2, 3), np.float32)})["hyper"]
    with pytest.raises(BackendError, match=r"^cannot copy from the device: CUDA error 700$"):
        np.asarray(hyper)


def test_what_the_engine_prints_while_it_loads_stays_off_stdout(engine, capsys):
    CudaBackend()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "libcudnn.so.9 was not found\n")


def test_the_cpu_package_in_its_place_is_named(engine):
    engine.available = ["CPUExecutionProvider"]
    with pytest.raises(BackendError, match=r"onnxruntime 9.9 has no CUDAExecutionProvider; .*mlic-deploy\[gpu\]"):
        open_backend("cuda")


def test_a_missing_installation_says_what_to_install(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match=r"cannot load ONNX Runtime .*pip install 'mlic-deploy\[gpu\]'"):
        open_backend("cuda")
