"""Exporting a model: the same bytes anywhere, nothing of this machine in them, and all or nothing on the disk."""

from __future__ import annotations

import copy
import getpass
import gzip
import json
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from mlic.export import bundle_writer
from mlic.export.bundle_writer import ARITHMETIC, export_bundle, model_tables
from mlic.export.checkpoints import Checkpoint, load_checkpoint
from mlic.export.errors import ExportError
from mlic.export.identity import model_id
from mlic.export.verify import SIZES
from mlic.runtime import Codec
from mlic.runtime.bundle import Bundle
from mlic.runtime.bundle_files import sha256_of
from mlic.runtime.manifest import Tiling
from mlic.runtime.manifest_json import json_from_manifest, manifest_from_json
from tests.commands import names
from tests.small_model import SmallBundle, small_model

pytestmark = pytest.mark.xdist_group("small_bundle")

TRANSFORMS = {"g_a", "h_a", "g_s"}
CHAIN = ["g_a", "h_a", "h_s", "step_00", "step_01", "step_02", "step_03", "finish", "g_s"]


@pytest.fixture(scope="module")
def half_bundle(small_bundle: SmallBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half") / "bundle"
    with small_bundle.without_tracing():
        export_bundle(small_bundle.loaded, folder, "fp16", threads=1)
    return folder


@pytest.fixture
def export_again(small_bundle: SmallBundle) -> Callable[..., Any]:
    """Returns a function that exports the small model without tracing it again."""

    def export_again(output: Path, **options: Any) -> Any:
        with small_bundle.without_tracing(options.pop("change", lambda _: None)):
            return export_bundle(options.pop("checkpoint", small_bundle.loaded), output, threads=1, **options)

    return export_again


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def graphs(folder: Path) -> dict[str, onnx.ModelProto]:
    return {path.stem: onnx.load(path) for path in sorted((folder / "onnx").iterdir())}


def identity(checkpoint: Checkpoint) -> bytes:
    split = checkpoint.architecture.split(checkpoint.model)
    return model_id(checkpoint, model_tables(checkpoint), split.steps, ARITHMETIC)


def test_bundle_has_the_files_and_the_step_table_of_its_model(small_bundle: SmallBundle):
    manifest = Bundle.open(small_bundle.folder).manifest
    assert sorted(contents(small_bundle.folder)) == sorted(
        ["manifest.json", "tables.npz", *(f"onnx/{name}.onnx" for name in CHAIN)]
    )
    assert list(manifest.graphs) == CHAIN
    assert [(s.graph, s.channels, s.positions) for s in manifest.steps] == [
        ("step_00", (0, 32), "anchor"),
        ("step_01", (0, 32), "nonanchor"),
        ("step_02", (32, 64), "anchor"),
        ("step_03", (32, 64), "nonanchor"),
    ]
    assert {name for name, graph in manifest.graphs.items() if not graph.spec.exact} == TRANSFORMS
    assert {graph.precision for graph in manifest.graphs.values()} == {"fp32"}
    assert (manifest.architecture, manifest.variant, manifest.y_channels, manifest.z_channels) == (
        "mlicpp", "current", 64, 16
    )  # fmt: skip
    assert manifest.details["provenance"]["checkpoint"] == {
        "name": "small.pth",
        "sha256": sha256_of(small_bundle.checkpoint),
    }


def test_transforms_say_how_they_may_be_cut(small_bundle: SmallBundle, half_bundle: Path):
    for folder in (small_bundle.folder, half_bundle):
        found = {name: graph.tiling for name, graph in Bundle.open(folder).manifest.graphs.items() if graph.tiling}
        assert found == {"g_a": Tiling(16, 64), "g_s": Tiling(16, 112)}


def test_what_export_returns_is_what_it_wrote(small_bundle: SmallBundle):
    export = small_bundle.export
    assert export.manifest == Bundle.open(small_bundle.folder).manifest
    assert export.size_bytes == sum(map(len, contents(small_bundle.folder).values()))
    assert {(check.graph, check.size) for check in export.checks} == {(name, size) for name in CHAIN for size in SIZES}
    assert all(check.passed for check in export.checks)


def test_manifest_comes_back_from_its_text(small_bundle: SmallBundle):
    text = (small_bundle.folder / "manifest.json").read_text()
    manifest = manifest_from_json(text)
    assert json_from_manifest(manifest) == text
    assert manifest == small_bundle.export.manifest


def test_progress_names_each_graph_before_tracing_and_at_each_size(small_bundle: SmallBundle):
    assert small_bundle.stages == [("trace", name) for name in CHAIN] + [("check", name) for name in CHAIN * len(SIZES)]


def test_bundle_encodes_and_decodes(small_bundle: SmallBundle, make_photo):
    codec = Codec.load(small_bundle.folder, threads=1)
    pixels = make_photo(100, 150)
    data = codec.encode(pixels)
    assert codec.encode(pixels) == data
    assert np.array_equal(codec.decode_latent(data), codec.trace(pixels)["y_hat"])
    assert codec.decode(data).shape == pixels.shape


def test_graphs_hold_opset_20_of_ai_onnx_and_nothing_else(small_bundle: SmallBundle):
    for name, model in graphs(small_bundle.folder).items():
        onnx.checker.check_model(model, full_check=True)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)], name
        assert {node.domain for node in model.graph.node} == {""}, name
        assert not model.functions
        assert not model.metadata_props
        assert (model.graph.name, model.producer_name, model.producer_version) == (name, "mlic", "")


def test_graphs_have_the_dynamic_axes_of_the_manifest(small_bundle: SmallBundle):
    manifest = small_bundle.export.manifest
    for name, model in graphs(small_bundle.folder).items():
        spec = manifest.graphs[name].spec
        for values, tensors in ((model.graph.input, spec.inputs), (model.graph.output, spec.outputs)):
            shapes = {v.name: tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
            assert shapes == {key: tensor.shape for key, tensor in tensors.items()}, name
            assert all(any(isinstance(dim, str) for dim in shape) for shape in shapes.values()), name


def test_bytes_name_no_path_no_user_and_no_time(half_bundle: Path, small_bundle: SmallBundle):
    repository = Path(bundle_writer.__file__).resolve().parents[1]
    private = {tempfile.gettempdir(), str(Path.home()), str(repository), str(small_bundle.folder.parent), sys.prefix}
    private |= {"/site-packages", ".py", str(os.getpid()) if os.getpid() > 10**5 else "/proc/"}
    if len(getpass.getuser()) > 4:
        private.add(getpass.getuser())
    moment = re.compile(rb"20[2-9]\d-[01]\d-[0-3]\d|[0-2]\d:[0-5]\d:[0-5]\d")
    for folder in (small_bundle.folder, half_bundle):
        for name, data in contents(folder).items():
            for text in private:
                assert text.encode() not in data.replace(b"small.pth", b""), (name, text)
            assert not moment.search(data), name
        with zipfile.ZipFile(folder / "tables.npz") as archive:
            assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_another_process_exports_the_same_bytes(small_bundle: SmallBundle, exported_by_command: tuple[Path, Any]):
    folder, _ = exported_by_command
    assert contents(folder) == contents(small_bundle.folder)


def test_half_precision_touches_the_transforms_alone(half_bundle: Path, small_bundle: SmallBundle):
    single, half = contents(small_bundle.folder), contents(half_bundle)
    changed = {name for name in single if single[name] != half[name]}
    assert changed == {"manifest.json", *(f"onnx/{name}.onnx" for name in TRANSFORMS)}
    before, after = (json.loads(files["manifest.json"]) for files in (single, half))
    for graph, was in zip(after["graphs"], before["graphs"], strict=True):
        if graph["name"] in TRANSFORMS:
            assert graph["precision"] == "fp16"
            assert len(half[graph["path"]]) < 0.6 * len(single[graph["path"]])
            was |= {"precision": "fp16", "sha256": graph["sha256"]}
    assert after == before | {"engine": "fp16"}
    assert after["model_id"] == before["model_id"]


def test_file_written_with_half_precision_is_read_with_single(half_bundle: Path, small_bundle: SmallBundle, make_photo):
    single, half = Codec.load(small_bundle.folder, threads=1), Codec.load(half_bundle, threads=1)
    pixels = make_photo(64, 128)
    data = half.encode(pixels)
    assert np.array_equal(single.decode_latent(data), half.decode_latent(data))
    assert np.abs(single.decode(data).astype(int) - half.decode(data)).max() <= 2


def test_compressed_graphs_hold_the_same_bytes(export_again, small_bundle: SmallBundle, tmp_path: Path):
    export = export_again(tmp_path / "b", compress=True, name=small_bundle.folder.name)
    plain, packed = contents(small_bundle.folder), contents(tmp_path / "b")
    unpacked = {
        name.removesuffix(".gz"): gzip.decompress(data) if name.endswith(".gz") else data
        for name, data in packed.items()
    }
    assert {name for name in plain if plain[name] != unpacked[name]} == {"manifest.json"}
    assert [name for name in packed if name.endswith(".gz")] == [f"{name}.gz" for name in plain if name[-5:] == ".onnx"]
    assert export.manifest.model_id == small_bundle.export.manifest.model_id
    assert export.size_bytes < small_bundle.export.size_bytes
    assert Codec.load(tmp_path / "b", threads=1).bundle.manifest == export.manifest


def test_bfloat16_is_a_permission_and_keeps_pixel_shuffles_whole(
    export_again, small_bundle: SmallBundle, tmp_path: Path
):
    export_again(tmp_path / "b", engine="bf16", name=small_bundle.folder.name)
    single, brain = contents(small_bundle.folder), contents(tmp_path / "b")
    assert {name for name in single if single[name] != brain[name]} == {"manifest.json", "onnx/g_s.onnx"}
    kinds = [
        {node.op_type for node in onnx.load_from_string(files["onnx/g_s.onnx"]).graph.node} for files in (single, brain)
    ]
    assert ["DepthToSpace" in found for found in kinds] == [False, True]
    before, after = (json.loads(files["manifest.json"]) for files in (single, brain))
    assert (after["engine"], after["model_id"]) == ("bf16", before["model_id"])
    for graph in after["graphs"]:
        assert graph["precision"] == ("bf16" if graph["name"] in TRANSFORMS else "fp32")


def changed_checkpoint(small_bundle: SmallBundle, key: str) -> Checkpoint:
    model = copy.deepcopy(small_bundle.loaded.model)
    with torch.no_grad():
        model.get_parameter(key).view(-1)[0] += 0.01
    loaded = small_bundle.loaded
    return Checkpoint(loaded.architecture, model, loaded.name, loaded.sha256)


@pytest.mark.parametrize(
    "key",
    [
        "h_s.increase.0.bias",
        "entropy_parameters_anchor.0.fusion.0.weight",
        "lrp_nonanchor.1.lrp_transform.4.bias",
        "entropy_bottleneck._matrix0",
        "entropy_bottleneck.quantiles",
    ],
)
def test_model_id_changes_with_the_entropy_path(key: str, small_bundle: SmallBundle):
    assert identity(small_bundle.loaded) == small_bundle.export.manifest.model_id
    assert identity(changed_checkpoint(small_bundle, key)) != small_bundle.export.manifest.model_id


@pytest.mark.parametrize(
    "key", ["g_s.synthesis_transform.0.conv1.weight", "g_a.analysis_transform.6.bias", "h_a.reduction.0.weight"]
)
def test_model_id_does_not_change_with_the_transforms(key: str, small_bundle: SmallBundle):
    assert identity(changed_checkpoint(small_bundle, key)) == small_bundle.export.manifest.model_id


def test_model_id_changes_with_the_scale_table(small_bundle: SmallBundle):
    checkpoint = changed_checkpoint(small_bundle, "g_a.analysis_transform.6.bias")
    holder = checkpoint.model.get_submodule("gaussian_conditional")
    holder.scale_table = torch.tensor([0.11, 1.0, 10.0])
    assert identity(checkpoint) != small_bundle.export.manifest.model_id


def test_model_id_is_that_of_the_weights_not_of_the_file(small_bundle: SmallBundle, tmp_path: Path):
    state = {f"module.{key}": value for key, value in small_model().state_dict().items()}
    torch.save(state, tmp_path / "other.pth")
    assert identity(load_checkpoint(tmp_path / "other.pth")) == small_bundle.export.manifest.model_id


def test_name_and_padding_go_into_the_manifest(small_bundle: SmallBundle, tmp_path: Path, export_again):
    export = export_again(tmp_path / "b", name="zuerich", fill="edge")
    assert (export.manifest.name, export.manifest.padding.fill) == ("zuerich", "edge")
    assert small_bundle.export.manifest.name == "bundle"
    assert small_bundle.export.manifest.padding.fill == "zeros"
    assert export.manifest.model_id == small_bundle.export.manifest.model_id


def test_existing_bundle_is_replaced_only_when_asked(tmp_path: Path, export_again):
    output = tmp_path / "b"
    export_again(output, name="first")
    (output / "engines").mkdir()
    with pytest.raises(ExportError, match="b exists; choose another name, or --force"):
        export_again(output, name="second")
    assert Bundle.open(output).manifest.name == "first"
    export_again(output, name="second", overwrite=True)
    assert Bundle.open(output).manifest.name == "second"
    assert not (output / "engines").exists()  # engines of other graphs
    assert names(tmp_path) == ["b"]


def test_link_to_a_bundle_is_followed(tmp_path: Path, export_again):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "manifest.json").write_text("{}")
    (tmp_path / "link").symlink_to("real")
    export_again(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert Bundle.open(tmp_path / "real").manifest.name == "real"


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_and_file_that_are_no_bundle_are_never_replaced(overwrite: bool, tmp_path: Path, export_again):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("photos", "file"):
        with pytest.raises(ExportError, match=f"{name} exists"):
            export_again(tmp_path / name, overwrite=overwrite)
    assert sorted(contents(tmp_path)) == ["file", "photos/a.png"]


def test_missing_parent_is_named(tmp_path: Path, export_again):
    with pytest.raises(ExportError, match="nowhere: no such folder"):
        export_again(tmp_path / "nowhere" / "b")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("stage", ["trace", "check"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ExportError, MemoryError])
def test_failure_leaves_the_disk_as_it_was(
    error: type[BaseException], stage: str, overwrite: bool, tmp_path: Path, export_again
):
    output = tmp_path / "b"
    if overwrite:
        output.mkdir()
        (output / "manifest.json").write_text("{}")
    before = contents(tmp_path)

    def stop(at: str, graph: str) -> None:
        if (at, graph) == (stage, "step_01"):
            raise error

    with pytest.raises(error):
        export_again(output, overwrite=overwrite, progress=stop)
    assert contents(tmp_path) == before
    assert names(tmp_path) == (["b"] if overwrite else [])


def test_bundle_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, export_again, monkeypatch: pytest.MonkeyPatch
):
    export_again(tmp_path / "b", name="first")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name.startswith(".b.") and not path.name.endswith(".before"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="No space left"):
        export_again(tmp_path / "b", name="second", overwrite=True)
    assert names(tmp_path) == ["b"]
    assert Bundle.open(tmp_path / "b").manifest.name == "first"


def test_graph_that_differs_from_the_model_is_not_kept(tmp_path: Path, export_again):
    def change(model: onnx.ModelProto) -> None:
        if model.graph.name == "step_02":
            weight = next(value for value in model.graph.initializer if len(value.dims) == 4)
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(0.1), weight.name))

    with pytest.raises(ExportError, match="4 checks against PyTorch failed: graph step_02 at 320x192"):
        export_again(tmp_path / "b", change=change)
    assert names(tmp_path) == []


def test_folder_of_the_bundle_can_be_read_by_others(small_bundle: SmallBundle):
    mask = os.umask(0)
    os.umask(mask)
    assert small_bundle.folder.stat().st_mode & 0o777 == 0o777 & ~mask
