"""Stored plans: what they are called, when they are read again, and when they are built anew.

A fake builder counts; only the last test builds.
"""

import dataclasses
import json
import shutil

import pytest

from mlic.runtime.backends import tensorrt_plans
from mlic.runtime.backends.tensorrt_engine import BuildOptions
from mlic.runtime.backends.tensorrt_flavour import Flavour, installed_flavour
from mlic.runtime.backends.tensorrt_plans import load_or_build, options_from, plan_name, timing_cache
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import BackendError, GraphRefusedError
from mlic.runtime.manifest import GraphFile, GraphForm, GraphSpec, SizeRange, TensorSpec
from tests.commands import names

RTX = Flavour("tensorrt-rtx", "1.7.1.116", None)
TENSORRT = Flavour("tensorrt", "11.0.0", None)
SIZES = SizeRange((64, 64), (128, 192), (256, 256))
GRAPH = GraphFile(
    GraphSpec("h_a", {"y": TensorSpec("float32", (1, 6, "height/16", "width/16"))}, {}, exact=False),
    "onnx/h_a.onnx", "ab" * 32, "fp32",
)  # fmt: skip


@pytest.fixture
def folder(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


@pytest.fixture
def built(monkeypatch):
    """Puts a builder in place that gives another plan each time; returns what it was called with."""
    calls = []

    def build(flavour, path, graph, options, timing):
        calls.append((flavour, path, graph.spec.name, options, timing))
        return f"plan {len(calls)} of {graph.spec.name}".encode()

    monkeypatch.setattr(tensorrt_plans, "build_plan", build)
    return calls


@pytest.fixture
def load(folder):
    """Returns a function that loads the plan of g_a."""
    graph = Bundle.open(folder).manifest.graphs["g_a"]

    def load(flavour=RTX, device=None, **changes):
        changed = dataclasses.replace(graph, **changes)
        return load_or_build(folder / graph.path, changed, flavour, device)

    return load


def test_name_is_frozen():
    assert plan_name(GRAPH, RTX, None, BuildOptions(SIZES)) == "h_a.tensorrt-rtx-1.7.1.116.any.e88a3a7b612e8056"
    assert plan_name(GRAPH, TENSORRT, "NVIDIA L4", BuildOptions(SIZES)) == (
        "h_a.tensorrt-11.0.0.nvidia-l4.e88a3a7b612e8056"
    )


@pytest.mark.parametrize(
    ("graph", "flavour", "device", "options"),
    [
        (dataclasses.replace(GRAPH, sha256="cd" * 32), TENSORRT, "L4", BuildOptions(SIZES)),
        (dataclasses.replace(GRAPH, precision="fp16"), TENSORRT, "L4", BuildOptions(SIZES)),
        (GRAPH, TENSORRT, "L40", BuildOptions(SIZES)),
        (GRAPH, Flavour("tensorrt", "11.0.1", None), "L4", BuildOptions(SIZES)),
        (GRAPH, RTX, "L4", BuildOptions(SIZES)),
        (GRAPH, TENSORRT, "L4", BuildOptions(dataclasses.replace(SIZES, max=(320, 256)))),
        (GRAPH, TENSORRT, "L4", BuildOptions(SIZES, workspace_bytes=1 << 30)),
    ],
)
def test_whatever_changes_a_plan_changes_its_name(graph, flavour, device, options):
    assert plan_name(graph, flavour, device, options) != plan_name(GRAPH, TENSORRT, "L4", BuildOptions(SIZES))


def test_names_of_quantised_graphs_carry_the_form_that_is_built():
    form = GraphForm("onnx/h_a.symmetric.onnx", "cd" * 32)
    both = dataclasses.replace(GRAPH, symmetric=form)
    alone = dataclasses.replace(GRAPH, path=form.path, sha256=form.sha256)
    other = dataclasses.replace(both, sha256="ef" * 32)
    names = [plan_name(graph, RTX, None, BuildOptions(SIZES)) for graph in (both, alone, other, GRAPH)]
    assert names[0] == names[1] == names[2] != names[3]


def test_plan_is_built_once_and_read_afterwards(load, built, folder):
    assert load() == load() == b"plan 1 of g_a"
    assert len(built) == 1
    assert len(names(folder / "engines")) == 1
    assert names(folder / "engines")[0].startswith("g_a.tensorrt-rtx-1.7.1.116.any.")


def test_another_version_device_or_file_is_built_for_itself(load, built, folder):
    assert load(TENSORRT, "NVIDIA L4") == b"plan 1 of g_a"
    assert load(TENSORRT, "NVIDIA L40") == b"plan 2 of g_a"
    assert load(Flavour("tensorrt", "11.1.0", None), "NVIDIA L4") == b"plan 3 of g_a"
    assert load(TENSORRT, "NVIDIA L4", sha256="ef" * 32) == b"plan 4 of g_a"
    assert load(TENSORRT, "NVIDIA L4") == b"plan 1 of g_a"
    assert len(names(folder / "engines")) == 4


def test_plan_of_rtx_that_was_built_without_a_device_serves_one(load, built):
    assert load(device=None) == load(device="NVIDIA L4") == b"plan 1 of g_a"


@pytest.mark.parametrize("content", [b"", b"plan 1 of g_", b"plan 1 of g_b"])
def test_cut_or_damaged_plan_is_built_again_and_replaced(content, load, built, folder):
    load()
    (path,) = (folder / "engines").iterdir()
    path.write_bytes(content)
    assert load() == b"plan 2 of g_a"
    (other,) = (folder / "engines").iterdir()
    assert other.read_bytes() == b"plan 2 of g_a"
    assert load() == b"plan 2 of g_a"


def test_unfinished_files_of_others_are_left_alone(load, built, folder):
    load()
    (folder / "engines" / ".g_a.tensorrt.0123.tmp").write_bytes(b"plan 1 of")
    assert load() == b"plan 1 of g_a"
    assert len(names(folder / "engines")) == 2


@pytest.mark.parametrize("flavour", [RTX, TENSORRT], ids=lambda flavour: flavour.name)
def test_plan_is_built_and_dropped_where_it_cannot_be_stored(flavour, load, built, folder):
    (folder / "engines").write_bytes(b"")  # permissions do not keep the superuser out; this does
    assert load(flavour, "NVIDIA L4") == b"plan 1 of g_a"
    assert load(flavour, "NVIDIA L4") == b"plan 2 of g_a"
    assert [call[4] for call in built] == [None, None]


def test_full_disk_leaves_the_plan_in_hand(load, built, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorrt_plans, "write_atomically", fail)
    assert load() == b"plan 1 of g_a"


def test_sizes_are_those_of_the_manifest_padded(load, built, folder):
    load()
    assert built[0][3] == BuildOptions(SizeRange((64, 64), (512, 768), (4096, 4096)))
    value = json.loads((folder / "manifest.json").read_text())
    value["sizes"] = {"min": [64, 100], "opt": [100, 130], "max": [300, 400]}
    (folder / "manifest.json").write_text(json.dumps(value))
    assert load() == b"plan 2 of g_a"
    assert built[1][3] == BuildOptions(SizeRange((64, 128), (128, 192), (320, 448)))


def test_kernel_timings_are_kept_for_tensorrt_by_version_and_device(load, built, folder):
    load(RTX, "NVIDIA L4")
    load(TENSORRT, "NVIDIA L4")
    assert [call[4] for call in built] == [None, folder / "engines" / "timing.tensorrt-11.0.0.nvidia-l4.cache"]


def test_tensorrt_without_a_device_is_refused(load, built, folder):
    with pytest.raises(BackendError, match="builds engines on the GPU that will run them, and there is none"):
        load(TENSORRT)
    with pytest.raises(BackendError, match="there is none"):
        timing_cache(folder, TENSORRT, None)
    assert not built


def test_bundle_opens_with_whatever_lies_in_engines(load, built, folder):
    before = Bundle.open(folder).manifest
    load()
    (folder / "engines" / "notes").write_bytes(b"\0")
    assert Bundle.open(folder).manifest == before


def test_real_plan_is_stored_and_read_again(folder):
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("polygraphy")
    flavour, graph = installed_flavour("tensorrt-rtx"), Bundle.open(folder).manifest.graphs["h_a"]
    plan = load_or_build(folder / graph.path, graph, flavour)
    (path,) = (folder / "engines").iterdir()
    assert path.read_bytes() == plan
    name = plan_name(graph, flavour, None, options_from(Bundle.open(folder).manifest))
    assert tensorrt_plans.stored_plan(folder, name) == plan


def test_plan_of_a_quantised_graph_is_that_of_its_symmetric_form(int8_folder, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("polygraphy")
    folder = shutil.copytree(int8_folder, tmp_path / "bundle")
    flavour, graph = installed_flavour("tensorrt-rtx"), Bundle.open(folder).manifest.graphs["g_a"]
    with pytest.raises(GraphRefusedError, match="zero point is not supported"):
        load_or_build(folder / graph.path, dataclasses.replace(graph, symmetric=None), flavour)
    plan = load_or_build(folder / graph.path, graph, flavour)
    (path,) = (folder / "engines").iterdir()
    assert path.read_bytes() == plan
    (folder / graph.symmetric.path).unlink()  # not to be built again
    assert load_or_build(folder / graph.path, graph, flavour) == plan
