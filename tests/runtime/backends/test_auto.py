"""Which engine the default takes for which graph."""

import dataclasses
import sys

import pytest

from mlic.runtime.backends import open_backend
from mlic.runtime.backends.openvino import OpenVinoBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import BackendError


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return Bundle.open(bundle_folder)


def opened(backend, bundle, name, precision):
    graph = dataclasses.replace(bundle.manifest.graphs[name], precision=precision)
    return backend.open(bundle.path_of(graph), graph)


def test_fp32_runs_on_onnx_runtime_without_a_look_at_openvino(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    backend = open_backend("auto", threads=1)
    for name in ("g_a", "h_s", "g_s"):
        assert type(opened(backend, bundle, name, "fp32")).__module__.endswith(".onnxruntime")
    assert backend.granted == open_backend("onnxruntime", threads=1).granted


def test_bf16_transforms_run_on_openvino_where_it_can_and_the_chain_does_not(bundle):
    pytest.importorskip("openvino")
    backend = open_backend("auto", threads=1)
    engine = ".openvino" if OpenVinoBackend(1).has_bf16 else ".onnxruntime"
    assert type(opened(backend, bundle, "g_s", "bf16")).__module__.endswith(engine)
    assert type(opened(backend, bundle, "h_s", "bf16")).__module__.endswith(".onnxruntime")
    assert backend.granted.startswith("onnxruntime ")
    assert ("; bf16 transforms: openvino " in backend.granted) == (engine == ".openvino")


def test_bf16_transforms_run_on_onnx_runtime_where_openvino_is_missing_or_has_no_bf16(bundle, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr("mlic.runtime.backends.openvino.OpenVinoBackend.open", None)  # not to be called
    plain = OpenVinoBackend.__init__

    def without_bf16(self, threads):
        plain(self, threads)
        self.has_bf16 = False

    monkeypatch.setattr(OpenVinoBackend, "__init__", without_bf16)
    assert type(opened(open_backend("auto"), bundle, "g_s", "bf16")).__module__.endswith(".onnxruntime")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "openvino", None)
    backend = open_backend("auto", threads=1)
    assert type(opened(backend, bundle, "g_s", "bf16")).__module__.endswith(".onnxruntime")
    assert "bf16" not in backend.granted


def test_openvino_alone_is_enough(bundle, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    backend = open_backend("auto", threads=1)
    assert backend.granted.startswith("openvino ")
    assert type(opened(backend, bundle, "g_s", "bf16")).__module__.endswith(".openvino")


def test_no_engine_at_all_says_which_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"pip install 'mlic-deploy\[cpu\]'"):
        open_backend("auto")
