"""The gate: every graph of every model is built with TensorRT-RTX, dynamic sizes included, on a machine without a GPU.

STF, WACNN and the full-size MLIC++ are built in ``test_bundles.py``, where they are exported.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import helper

from mlic.calibration.bundle_writer import calibrate_bundle
from mlic.export.bundle_writer import export_bundle
from mlic.export.engines import RefusedNode, build_engines, ready_flavour
from mlic.runtime.backends.tensorrt_flavour import Flavour, installed_flavour
from mlic.runtime.backends.tensorrt_plans import load_or_build
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import SizeRange
from mlic.runtime.shipped import shipped_bundle
from tests.commands import names
from tests.conftest import photo
from tests.int8_bundle import build_int8_bundle
from tests.small_model import SmallBundle

pytest.importorskip("tensorrt_rtx")
pytest.importorskip("polygraphy")

SMALL = pytest.mark.xdist_group("small_bundle")
RTX = "tensorrt-rtx"


def require_built(bundle: Bundle) -> None:
    """Build all graphs; fail with what was refused."""
    builds = build_engines(bundle, RTX, store=False)
    assert [build.graph for build in builds] == list(bundle.manifest.graphs)
    assert [(build.graph, build.problem) for build in builds if build.problem] == []
    assert all(build.bytes > 10_000 and build.seconds > 0 for build in builds)


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def refuse(path: Path) -> None:
    """Send a graph's output through a sequence, which ONNX Runtime has and TensorRT has not."""
    model = onnx.load(path)
    output = model.graph.output[0].name
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("SequenceConstruct", ["before"], ["sequence"], name="wrap"))
    model.graph.node.append(helper.make_node("ConcatFromSequence", ["sequence"], [output], name="unwrap", axis=1))
    onnx.save(model, path)


def test_miniature_bundle_builds(bundle_folder: Path):
    require_built(Bundle.open(bundle_folder))


def test_quantised_bundle_builds_from_its_symmetric_forms(tmp_path: Path):
    require_built(Bundle.open(build_int8_bundle(tmp_path / "int8")))


def test_calibrated_bundle_builds_from_its_symmetric_forms(tmp_path: Path):
    pictures = [photo(64, 64, seed) for seed in range(2)]
    calibrate_bundle(Bundle.open(shipped_bundle("medium")), pictures, tmp_path / "int8")
    require_built(Bundle.open(tmp_path / "int8"))


def test_shipped_bundle_builds_although_its_weights_are_stored_as_int8():
    require_built(Bundle.open(shipped_bundle("medium")))


def test_of_an_integer_bundle_the_transforms_alone_are_built(integer_folder: Path):
    builds = build_engines(Bundle.open(integer_folder), RTX, store=False)
    assert [(build.graph, build.problem) for build in builds] == [("g_a", None), ("h_a", None), ("g_s", None)]


@SMALL
def test_exported_bundle_builds(small_bundle: SmallBundle):
    require_built(Bundle.open(small_bundle.folder))


@SMALL
def test_exported_bundle_with_transforms_in_half_precision_builds(small_bundle: SmallBundle, tmp_path: Path):
    with small_bundle.without_tracing():
        export_bundle(small_bundle.loaded, tmp_path / "half", "fp16", threads=1)
    require_built(Bundle.open(tmp_path / "half"))


def test_graph_that_is_refused_is_named_with_its_nodes_and_the_others_are_built(folder: Path):
    refuse(folder / "onnx" / "h_s.onnx")
    builds = build_engines(Bundle.open(folder, verify_hashes=False), RTX)
    refused = {build.graph: build for build in builds if build.problem}
    assert list(refused) == ["h_s"]
    nodes = refused["h_s"].nodes
    assert [(node.name, node.operator) for node in nodes] == [
        ("wrap", "SequenceConstruct"), ("unwrap", "ConcatFromSequence")
    ]  # fmt: skip
    assert nodes[0] == RefusedNode("wrap", "SequenceConstruct", "unsupported node")
    assert (refused["h_s"].bytes, str(refused["h_s"].problem)[:12]) == (0, "tensorrt-rtx")
    assert len(names(folder / "engines")) == len(builds) - 1


def test_stored_plans_are_those_that_the_runtime_looks_for(folder: Path, monkeypatch: pytest.MonkeyPatch):
    bundle, stages = Bundle.open(folder), []
    builds = build_engines(bundle, RTX, progress=stages.append)
    assert stages == list(bundle.manifest.graphs)
    monkeypatch.setattr("mlic.runtime.backends.tensorrt_plans.build_plan", None)
    for build, graph in zip(builds, bundle.manifest.graphs.values(), strict=True):
        plan = load_or_build(bundle.path_of(graph), graph, installed_flavour(RTX), "NVIDIA L4")
        assert len(plan) == build.bytes


def test_nothing_is_stored_unless_asked_for_and_for_sizes_of_its_own(folder: Path):
    bundle = Bundle.open(folder)
    one = {"finish": bundle.manifest.graphs["finish"]}
    bundle = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, graphs=one))
    build_engines(bundle, RTX, store=False)
    assert not (folder / "engines").exists()
    build_engines(bundle, RTX)
    build_engines(bundle, RTX, SizeRange((64, 64), (64, 64), (100, 100)))
    assert len(names(folder / "engines")) == 2


def test_tensorrt_without_a_gpu_points_at_rtx(monkeypatch: pytest.MonkeyPatch):
    def no_device() -> None:
        raise BackendError("no CUDA device: none")

    flavour = Flavour("tensorrt", "11.0.0", None)
    monkeypatch.setattr("mlic.export.engines.installed_flavour", lambda _: flavour)
    monkeypatch.setattr("mlic.export.engines.polygraphy_for", lambda _: None)
    monkeypatch.setattr("mlic.export.engines.probe", no_device)
    with pytest.raises(BackendError, match=r"GPU .* \(no CUDA device: none\); TensorRT-RTX needs none: .*--target"):
        ready_flavour("tensorrt")
