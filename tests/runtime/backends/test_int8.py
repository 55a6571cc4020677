"""Quantised graphs: which form each engine takes, and what it makes of either."""

import dataclasses
import sys

import numpy as np
import onnx
import pytest

from mlic.runtime import Codec
from mlic.runtime.backends import open_backend
from mlic.runtime.backends.base import symmetric_form
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import BackendError
from tests.tensorrt_setup import Setup

CPU_ENGINES = ("onnxruntime", "openvino")
FORMS = ("plain", "symmetric")
EIGHT_BITS = ("i8", "u8")
# Half a step at the output of the plain form is 0.13 of y and 0.005 of x_hat. Half a step of y_hat, 0.13, is 0.005
# times a pattern in x_hat; four patterns meet in each value, and they are at most 1.5 in the corners of a block.
LOST = {"y": 0.2, "x_hat": 0.04}


@pytest.fixture(scope="module")
def bundle(int8_folder):
    return Bundle.open(int8_folder)


@pytest.fixture(scope="module")
def unquantised(bundle_folder):
    return Bundle.open(bundle_folder)


@pytest.fixture(scope="module")
def x(make_photo):
    pixels = make_photo(128, 192).transpose(2, 0, 1)[None]
    return np.ascontiguousarray(pixels, np.float32) / 255


def backend_of(name):
    if name == "openvino":
        pytest.importorskip("openvino")
    return open_backend(name, threads=1)


def in_form(bundle, name, form):
    """Return a graph's entry as if it had one form only."""
    graph = bundle.manifest.graphs[name]
    return graph.symmetric_or_plain() if form == "symmetric" else dataclasses.replace(graph, symmetric=None)


def test_the_symmetric_form_lies_in_the_same_bundle(bundle, int8_folder):
    graph = bundle.manifest.graphs["g_a"]
    path, entry = symmetric_form(bundle.path_of(graph), graph)
    assert path == int8_folder / "onnx/g_a.symmetric.onnx"
    assert (entry.path, entry.sha256) == (graph.symmetric.path, graph.symmetric.sha256)
    assert symmetric_form(path, entry) == (path, entry)


def test_graphs_without_a_second_form_and_the_entropy_path_stay_plain(bundle):
    for graph in bundle.manifest.graphs.values():
        exact = dataclasses.replace(
            graph, spec=dataclasses.replace(graph.spec, exact=True), symmetric=bundle.manifest.graphs["g_a"].symmetric
        )
        for entry in (exact, dataclasses.replace(graph, symmetric=None)):
            assert symmetric_form(bundle.path_of(entry), entry) == (bundle.path_of(entry), entry)


@pytest.mark.parametrize(("engine", "form"), list(zip(CPU_ENGINES, FORMS, strict=True)))
def test_engines_open_the_form_that_they_are_fast_with(bundle, tmp_path, engine, form):
    backend, graph = backend_of(engine), bundle.manifest.graphs["g_a"]
    (tmp_path / "onnx").mkdir()
    path = tmp_path / graph.path
    path.write_bytes(b"damaged")
    (tmp_path / graph.symmetric.path).write_bytes(b"damaged")
    with pytest.raises(BackendError, match="graph g_a: "):
        backend.open(path, graph)
    chosen = in_form(bundle, "g_a", form)
    (tmp_path / chosen.path).write_bytes(bundle.path_of(chosen).read_bytes())
    assert backend.open(path, graph).spec == graph.spec


@pytest.mark.parametrize("engine", CPU_ENGINES)
@pytest.mark.parametrize("form", FORMS)
def test_both_forms_run_on_both_engines_and_give_nearly_what_floats_give(bundle, unquantised, x, engine, form):
    backend, floats, feed = backend_of(engine), OnnxRuntimeBackend(1), {"x": x}
    for name, output in (("g_a", "y"), ("g_s", "x_hat")):
        graph, entry = unquantised.manifest.graphs[name], in_form(bundle, name, form)
        expected = floats.open(unquantised.path_of(graph), graph).run(feed)[output]
        found = backend.open(bundle.path_of(entry), entry).run(feed)[output]
        assert 0 < np.abs(found - expected).max() < LOST[output]
        feed = {"y_hat": np.rint(expected)}


@pytest.mark.parametrize("name", ["g_a", "g_s"])
def test_openvino_computes_the_symmetric_form_in_eight_bits_without_quantising_on_its_own(bundle, name):
    backend, graph = backend_of("openvino"), bundle.manifest.graphs[name]
    compiled = backend.open(bundle.path_of(graph), graph)._compiled
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = [(node["layerType"].astype(str), node["runtimePrecision"].astype(str)) for node in nodes]
    (precision,) = [precision for kind, precision in kinds if kind in ("Convolution", "Deconvolution")]
    assert precision in EIGHT_BITS
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert int(compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")) == 0


@pytest.mark.parametrize(("form", "kernel"), [("plain", "QLinearConv"), ("symmetric", "Conv")])
def test_onnx_runtime_has_kernels_of_eight_bits_for_the_plain_form_alone(bundle, tmp_path, form, kernel):
    """The reason for two forms."""

    class Keeping(OnnxRuntimeBackend):
        def options(self):
            options = super().options()
            options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
            return options

    entry = in_form(bundle, "g_a", form)
    Keeping(1).open(bundle.path_of(entry), entry)
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    assert [node.op_type for node in nodes if "Conv" in node.op_type] == [kernel]


@pytest.mark.parametrize("engine", [*CPU_ENGINES, "auto"])
def test_pictures_come_back_at_several_sizes(bundle, unquantised, make_photo, engine):
    codec, floats = Codec(bundle, backend_of(engine)), Codec(unquantised, OnnxRuntimeBackend(1))
    for size in ((64, 64), (75, 100), (128, 192)):
        pixels = make_photo(*size)
        data = codec.encode(pixels)
        assert codec.encode(pixels) == data
        found, expected = (c.decode(data).astype(int) for c in (codec, floats))  # of the same model: the chain is exact
        assert 0 < np.abs(found - expected).max() < 255 * LOST["x_hat"]


def test_files_of_one_engine_are_read_by_the_other(bundle, make_photo):
    pixels = make_photo(100, 150)
    codecs = [Codec(bundle, backend_of(engine)) for engine in CPU_ENGINES]
    for writer in codecs:
        latents = [reader.decode_latent(writer.encode(pixels)) for reader in codecs]
        np.testing.assert_allclose(*latents, atol=1e-4)


def test_tensorrt_is_given_the_plain_form_to_find_the_other_from(int8_folder, make_photo):
    given = {}

    def plans(path, graph, flavour, device):
        given[graph.spec.name] = symmetric_form(path, graph)[0]
        return b"PLAN" + given[graph.spec.name].read_bytes()

    setup = Setup(int8_folder, plans=plans)
    setup.codec.decode(setup.codec.encode(make_photo(128, 192)))
    assert given["g_a"] == int8_folder / "onnx/g_a.symmetric.onnx"
    assert given["h_a"] == int8_folder / "onnx/h_a.onnx"


def test_auto_runs_int8_transforms_on_openvino_and_the_chain_does_not(bundle):
    backend = backend_of("auto")
    pytest.importorskip("openvino")
    assert opened_on(backend, bundle, "h_s") == "onnxruntime"
    assert "openvino" not in backend.granted
    assert opened_on(backend, bundle, "g_a") == opened_on(backend, bundle, "g_s") == "openvino"
    assert backend.granted.startswith("onnxruntime ")
    assert "; int8 transforms: openvino " in backend.granted
    assert opened_on(backend, bundle, "h_s", "int8") == "onnxruntime"


def test_auto_asks_for_bfloat16_for_bf16_alone(bundle):
    pytest.importorskip("openvino")
    backend = backend_of("auto")
    for capable, engine, granted in ((False, "onnxruntime", "; int8 tr"), (True, "openvino", "; bf16, int8 tr")):
        assert opened_on(backend, bundle, "g_a") == "openvino"
        backend._openvino.has_bf16 = capable
        assert opened_on(backend, bundle, "g_a") == "openvino"
        assert opened_on(backend, bundle, "h_a", "bf16") == engine
        assert granted in backend.granted


def test_auto_runs_int8_transforms_on_onnx_runtime_where_openvino_is_missing(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    backend = open_backend("auto", threads=1)
    assert opened_on(backend, bundle, "g_a") == "onnxruntime"
    assert "int8" not in backend.granted


def opened_on(backend, bundle, name, precision=None):
    """Open a graph and return the module of the engine that did."""
    graph = bundle.manifest.graphs[name]
    graph = dataclasses.replace(graph, precision=precision or graph.precision)
    return type(backend.open(bundle.path_of(graph), graph)).__module__.rpartition(".")[2]
