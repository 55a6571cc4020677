"""OpenVINO: what is granted, that precision is asked for by name, and how it fails."""

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlic.runtime import Codec
from mlic.runtime.backends import open_backend
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import TensorSpec

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return Bundle.open(bundle_folder)


@pytest.fixture(scope="module")
def backend():
    return open_backend("openvino", threads=1)


def opened(backend, bundle, name, precision="fp32", **changes):
    graph = bundle.manifest.graphs[name]
    graph = dataclasses.replace(graph, precision=precision, spec=dataclasses.replace(graph.spec, **changes))
    return backend.open(bundle.path_of(graph), graph)


def test_graphs_give_what_onnx_runtime_gives(backend, bundle):
    rng = np.random.default_rng(4)
    for name in ("g_a", "h_a", "h_s", "g_s"):
        graph = opened(backend, bundle, name)
        arrays = {n: rng.random(spec.concrete(128, 192), np.float32) for n, spec in graph.spec.inputs.items()}
        arrays |= {n: np.rint(4 * a) for n, a in arrays.items() if "symbols" in n}
        expected = opened(OnnxRuntimeBackend(1), bundle, name).run(arrays)
        found = graph.run(arrays)
        assert set(found) == set(expected)
        for output, values in expected.items():
            np.testing.assert_allclose(found[output], values, atol=1e-4, rtol=1e-5)


def test_pictures_come_back_at_several_sizes(bundle_folder, make_photo):
    codec = Codec.load(bundle_folder, "openvino", threads=1)
    for size in ((64, 64), (75, 100), (200, 130), (64, 64)):
        pixels = make_photo(*size)
        data = codec.encode(pixels)
        assert np.array_equal(codec.decode_latent(data), codec.trace(pixels)["y_hat"])
        assert codec.decode(data).shape == (*size, 3)


@pytest.mark.xdist_group("small_bundle")
def test_exported_models_run_and_their_files_are_read_again(small_bundle, make_photo):
    """Every operator of an exported model, not only those of the miniature bundle."""
    pixels = make_photo(100, 150)
    found = Codec.load(small_bundle.folder, "openvino", threads=1)
    expected = Codec.load(small_bundle.folder, "onnxruntime", threads=1).trace(pixels)
    trace = found.trace(pixels)
    np.testing.assert_allclose(trace["y"], expected["y"], atol=1e-4)
    np.testing.assert_allclose(trace["scales"][0], expected["scales"][0], atol=1e-4)
    assert np.array_equal(found.decode_latent(found.encode(pixels)), trace["y_hat"])


def test_results_stay_when_the_graph_runs_again_and_strided_arrays_are_taken(backend, bundle):
    graph = opened(backend, bundle, "h_s")
    z_symbols = np.arange(24, dtype=np.float32).reshape(1, 4, 2, 3)
    first = graph.run({"z_symbols": z_symbols, "other": z_symbols})["hyper"]
    kept = first.copy()
    again = graph.run({"z_symbols": np.asfortranarray(z_symbols)})["hyper"]
    graph.run({"z_symbols": 0 * z_symbols})
    assert np.array_equal(first, kept)
    assert np.array_equal(again, kept)


def test_several_threads_may_run_one_graph(backend, bundle):
    graph = opened(backend, bundle, "h_s")
    arrays = [np.full((1, 4, 2, 3), value, np.float32) for value in range(16)]
    expected = [graph.run({"z_symbols": array})["hyper"] for array in arrays]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda array: graph.run({"z_symbols": array})["hyper"], arrays * 4))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected * 4, strict=True))


def test_what_was_granted_is_said(backend):
    assert backend.granted.startswith("openvino 20")
    assert backend.granted.endswith(", 1 threads")
    assert 1 <= open_backend("openvino").threads <= 16


@pytest.mark.parametrize(
    ("name", "precision", "capable", "wanted"),
    [
        ("g_a", "bf16", True, "bf16"),
        ("g_a", "bf16", False, "f32"),
        ("g_a", "int8", True, "f32"),
        ("g_a", "fp32", True, "f32"),
        ("h_s", "bf16", True, "f32"),  # the entropy path is strict whatever a manifest says
        ("h_s", "fp32", True, "f32"),
    ],
)
def test_precision_is_asked_for_by_name(name, precision, capable, wanted, bundle):
    backend = open_backend("openvino", threads=1)
    asked = {}

    class Core:
        def compile_model(self, path, device, config):
            asked.update(config)
            raise RuntimeError("seen")

    backend._core, backend.has_bf16 = Core(), capable
    with pytest.raises(BackendError, match=f"graph {name}: seen"):
        opened(backend, bundle, name, precision)
    assert asked["INFERENCE_PRECISION_HINT"] == wanted
    assert asked["INFERENCE_NUM_THREADS"] == 1


def test_another_precision_than_asked_is_refused(bundle):
    backend = open_backend("openvino", threads=1)
    core = backend._core

    class Core:
        def compile_model(self, path, device, config):
            return core.compile_model(path, device, config | {"INFERENCE_PRECISION_HINT": "bf16"})

    if not backend.has_bf16:
        pytest.skip("this processor has one precision")
    backend._core = Core()
    with pytest.raises(BackendError, match="graph h_s: OpenVINO computes in bf16; asked for f32"):
        opened(backend, bundle, "h_s")


def test_activations_are_not_quantised_where_weights_have_eight_bits(make_photo):
    """The shipped bundles store their weights so; computed in 8 bits, scales are off by more than 1e-3."""
    engines = [Codec.load(backend=name, threads=1) for name in ("onnxruntime", "openvino")]
    trace = engines[0].trace(make_photo(128, 192))
    ours, theirs = (codec.replay(trace["z_symbols"], trace["symbols"]) for codec in engines)
    for left, right in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(left, right, atol=2e-5, rtol=2e-5)


def test_quantisation_that_was_not_asked_for_is_refused(bundle):
    backend = open_backend("openvino", threads=1)
    core = backend._core

    class Core:
        def compile_model(self, path, device, config):
            return core.compile_model(path, device, config | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 32})

    backend._core = Core()
    with pytest.raises(BackendError, match="graph h_s: OpenVINO quantises activations in groups of 32; asked for none"):
        opened(backend, bundle, "h_s")


def test_signals_are_handled_after_engines_are_gone_in_any_order():
    """In a process of its own: what goes wrong is a crash, and only where the plug-in's stack for handlers is used."""
    script = """
import signal
from mlic.runtime.backends import open_backend

first, second = open_backend("openvino", 1), open_backend("openvino", 1)
del first
del second
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (0, "interrupted\n")


def test_a_damaged_file_is_a_backend_error(backend, bundle, tmp_path):
    graph = bundle.manifest.graphs["h_s"]
    for data in (b"", b"hello", bundle.path_of(graph).read_bytes()[:100]):
        path = tmp_path / "h_s.onnx"
        path.write_bytes(data)
        with pytest.raises(BackendError, match="graph h_s: ") as caught:
            backend.open(path, graph)
        assert "\n" not in str(caught.value)


def test_names_types_and_shapes_are_compared_with_the_manifest(backend, bundle):
    with pytest.raises(BackendError, match="inputs are z_symbols; the manifest names z"):
        opened(backend, bundle, "h_s", inputs={"z": TensorSpec("float32", (1, 4, "height/64", "width/64"))})
    for spec in (
        TensorSpec("float16", (1, 4, "height/64", "width/64")),
        TensorSpec("float32", (1, 5, "height/64", "width/64")),
        TensorSpec("float32", (1, 4, "height/64")),
    ):
        with pytest.raises(BackendError, match=r"input z_symbols is f32 \[1,4,.*; the manifest has"):
            opened(backend, bundle, "h_s", inputs={"z_symbols": spec})


def test_a_failure_while_running_is_a_backend_error(backend, bundle):
    graph = opened(backend, bundle, "h_s")
    with pytest.raises(BackendError, match="graph h_s: "):
        graph.run({"z_symbols": np.zeros((1, 5, 2, 3), np.float32)})


def test_a_missing_installation_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"pip install 'mlic-deploy\[openvino\]'"):
        open_backend("openvino")


@pytest.mark.parametrize("threads", [-1, 0, 1025])
def test_no_threads_and_too_many_are_refused(threads):
    with pytest.raises(BackendError, match=f"threads is {threads}; expected 1 to 1024"):
        open_backend("openvino", threads=threads)
