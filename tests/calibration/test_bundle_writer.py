"""Calibrating a bundle: an int8 bundle of the same model, all or nothing on the disk, the same bytes every time."""

import dataclasses
import json
import shutil

import numpy as np
import onnx
import pytest

from mlic.calibration import bundle_writer
from mlic.calibration.bundle_writer import calibrate_bundle, num_stages
from mlic.calibration.errors import CalibrationError
from mlic.calibration.judge import Effect, Judge
from mlic.calibration.layers import restore_weights
from mlic.calibration.quantize import FORMS
from mlic.calibration.sensitivity import Budget
from mlic.export.compression import compress_bundle
from mlic.export.errors import ExportError
from mlic.runtime import Codec
from mlic.runtime.bundle import Bundle
from mlic.runtime.manifest_json import json_from_manifest
from mlic.runtime.shipped import shipped_bundle
from tests.calibration.graphs import TRANSFORMS, contents
from tests.commands import names

LARGE = Budget(100.0, 100.0)


@pytest.fixture(scope="module")
def pictures(make_photo):
    return [make_photo(*size, seed) for seed, size in enumerate([(64, 64), (192, 256), (128, 64)])]


@pytest.fixture(scope="module")
def calibration(quantizable, pictures, tmp_path_factory):
    return calibrate_bundle(quantizable, pictures, tmp_path_factory.mktemp("calibrated") / "int8")


@pytest.fixture(scope="module")
def generous(quantizable, pictures, tmp_path_factory):
    return calibrate_bundle(quantizable, pictures, tmp_path_factory.mktemp("generous") / "int8", budget=LARGE)


@pytest.fixture(scope="module")
def int8(calibration):
    return Bundle.open(calibration.path)


def test_a_bundle_in_integers_keeps_its_chain_and_certificate(integer_folder, integer_codec, pictures, tmp_path):
    calibrate_bundle(Bundle.open(integer_folder), pictures, tmp_path / "int8", budget=LARGE)
    codec = Codec.load(tmp_path / "int8", "onnxruntime", threads=1)
    assert codec.bundle.manifest.engine == "int8"
    assert codec.bundle.manifest.model_id == integer_codec.bundle.manifest.model_id
    assert codec.bundle.certificate == integer_codec.bundle.certificate
    data = codec.encode(pictures[1])
    assert np.array_equal(integer_codec.decode_latent(data), codec.decode_latent(data))


def files_of(form):
    return {
        graph: f"onnx/{graph}.onnx" if form == "unsigned" else f"onnx/{graph}.symmetric.onnx" for graph in TRANSFORMS
    }


def model_of(folder, graph, form):
    return restore_weights(onnx.load(folder / files_of(form)[graph]))


def rounded_layers(model):
    """Return the names of the convolutions that take a rounded tensor."""
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return [node.name for node in model.graph.node if node.op_type == "Conv" and node.input[0] in rounded]


def test_bundle_is_of_the_same_model_in_int8_with_the_name_of_its_folder(calibration, int8, quantizable):
    assert int8.manifest.model_id == quantizable.manifest.model_id
    assert (int8.manifest.engine, int8.manifest.name) == ("int8", "int8")
    assert int8.manifest == calibration.manifest
    assert calibration.path == int8.folder


def test_transforms_alone_are_int8_in_two_forms_with_the_same_spec(int8, quantizable):
    for name, graph in int8.manifest.graphs.items():
        before = quantizable.manifest.graphs[name]
        if name in TRANSFORMS:
            assert (graph.spec, graph.precision) == (before.spec, "int8")
            assert (graph.path, graph.symmetric.path) == (f"onnx/{name}.onnx", f"onnx/{name}.symmetric.onnx")
        else:
            assert graph == before


def test_all_other_files_are_the_same_bytes(int8, quantizable):
    floats, found = contents(quantizable.folder), contents(int8.folder)
    changed = {"manifest.json", *files_of("unsigned").values()}
    assert found.keys() - floats.keys() == set(files_of("symmetric").values())
    assert {name for name in floats if floats[name] != found[name]} == changed


def test_manifest_keeps_what_it_said_and_tells_of_the_calibration(int8, quantizable, pictures):
    before = json.loads((quantizable.folder / "manifest.json").read_text())
    after = json.loads((int8.folder / "manifest.json").read_text())
    told = after["provenance"].pop("calibration")
    assert (told["ranges"], told["pictures"], len(told["pictures_sha256"])) == ("mse", len(pictures), 64)
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed == {"name", "engine", "graphs"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("graph", TRANSFORMS)
def test_without_a_budget_all_but_the_first_and_the_last_layer_run_in_8_bits(graph, form, int8, calibration):
    assert rounded_layers(model_of(int8.folder, graph, form)) == ["Conv_inner", "Conv_outer"]
    layers = [one for one in calibration.layers[form] if one.layer.graph == graph]
    assert [(one.layer.title, one.chosen, one.effect) for one in layers] == [
        ("first", False, None), ("inner", True, None), ("outer", True, None), ("last", False, None)
    ]  # fmt: skip


def test_forms_are_those_that_engines_want(int8):
    zeros = {}
    for form in FORMS:
        model = onnx.load(int8.folder / files_of(form)["g_a"])
        names_of_zeros = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
        zeros[form] = {tensor.data_type for tensor in model.graph.initializer if tensor.name in names_of_zeros}
    assert zeros == {"unsigned": {onnx.TensorProto.UINT8}, "symmetric": {onnx.TensorProto.INT8}}


def test_weights_that_stay_in_float_are_stored_in_fewer_bits_where_that_is_exact(int8):
    """The first layer of g_s has ones and zeros."""
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(int8.folder / "onnx/g_s.onnx").graph.initializer}
    assert kinds["first.weight_int8"] == onnx.TensorProto.INT8
    assert "first.weight" not in kinds


def test_effects_and_size_are_those_of_what_was_written(calibration, quantizable, pictures):
    judge = Judge(quantizable, pictures, 1)
    for form in FORMS:
        models = {graph: onnx.load(calibration.path / path) for graph, path in files_of(form).items()}
        assert judge.measure(**models) == calibration.effects[form] != Effect(0, 0)
    assert calibration.size_bytes == sum(map(len, contents(calibration.path).values()))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_files_of_the_float_and_the_int8_bundle_are_read_by_each_other(engine, quantizable, int8, pictures):
    if engine == "openvino":
        pytest.importorskip("openvino")
    floats = Codec.load(quantizable.folder, "onnxruntime", threads=1)
    eights = Codec.load(int8.folder, engine, threads=1)
    files = [codec.encode(pictures[1]) for codec in (floats, eights)]
    assert files[0] != files[1]
    for data in files:
        np.testing.assert_allclose(floats.decode_latent(data), eights.decode_latent(data), atol=1e-4)
        found, expected = (codec.decode(data).astype(int) for codec in (eights, floats))
        assert 0 < np.abs(found - expected).max() <= 8
        assert np.abs(found - expected).mean() < 1


def test_calibrating_twice_gives_the_same_bytes(calibration, quantizable, pictures, tmp_path):
    calibrate_bundle(quantizable, pictures, tmp_path / "int8")
    assert contents(tmp_path / "int8") == contents(calibration.path)


def test_name_is_the_one_given(quantizable, pictures, tmp_path):
    assert calibrate_bundle(quantizable, pictures[:1], tmp_path / "b", name="zuerich").manifest.name == "zuerich"
    assert Bundle.open(tmp_path / "b").manifest.name == "zuerich"


def test_ranges_come_from_the_method_that_is_named(quantizable, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(bundle_writer.METHODS, "fixed", lambda observation: (-1.0, 3.0))
    result = calibrate_bundle(quantizable, pictures[:1], tmp_path / "b", "fixed")
    assert result.manifest.details["provenance"]["calibration"]["ranges"] == "fixed"
    model = onnx.load(tmp_path / "b/onnx/g_s.onnx")
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scales = [constants[node.input[1]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    np.testing.assert_allclose(scales, [4 / 255] * 4, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_with_a_large_budget_all_layers_are_measured_and_chosen(form, generous):
    assert all(one.chosen and one.effect is not None for one in generous.layers[form])
    for graph in TRANSFORMS:
        assert len(rounded_layers(model_of(generous.path, graph, form))) == 4


def test_manifest_tells_the_budget(generous):
    told = generous.manifest.details["provenance"]["calibration"]
    assert (told["max_psnr_loss_db"], told["max_rate_percent"]) == (100, 100)


def test_effects_keep_a_budget_that_not_all_layers_keep(generous, quantizable, pictures, tmp_path):
    budget = Budget(min(effect.psnr_loss_db for effect in generous.effects.values()) / 4, 100.0)
    result = calibrate_bundle(quantizable, pictures, tmp_path / "b", budget=budget)
    assert budget.psnr_loss_db > 0
    for form in FORMS:
        assert 0 < sum(one.chosen for one in result.layers[form]) < len(result.layers[form])
        assert budget.share(result.effects[form]) <= 1


def test_each_form_has_the_layers_that_keep_the_budget_in_it(quantizable, pictures, tmp_path, monkeypatch):
    def measure(self, **models):
        kinds = {tensor.data_type for model in models.values() for tensor in model.graph.initializer}
        return Effect(0.0 if onnx.TensorProto.UINT8 in kinds else 1.0, 0.0)

    monkeypatch.setattr(Judge, "measure", measure)
    result = calibrate_bundle(quantizable, pictures[:1], tmp_path / "b", budget=Budget(0.5, 0.5))
    counts = [len(rounded_layers(model_of(tmp_path / "b", "g_s", form))) for form in FORMS]
    assert counts == [sum(one.chosen for one in result.layers[form]) / 2 for form in FORMS] == [4, 0]


def test_bundle_without_a_layer_of_worth_is_refused(bundle_folder, pictures, tmp_path):
    """The miniature bundle has one convolution, which is the first, and a transposed one."""
    with pytest.raises(CalibrationError, match="no layer would run in 8 bits; it has none that is worth it"):
        calibrate_bundle(Bundle.open(bundle_folder), pictures, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_limits_that_no_layer_keeps_are_refused(quantizable, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(Judge, "measure", lambda self, **models: Effect(1.0, 0.0))
    with pytest.raises(CalibrationError, match="no layer would run in 8 bits; none keeps the limits"):
        calibrate_bundle(quantizable, pictures[:1], tmp_path / "b", budget=Budget(0.5, 0.5))


def test_layers_of_few_weights_are_not_offered(quantizable, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_writer, "SMALLEST_WEIGHT", 97)  # one more than inner and outer have
    result = calibrate_bundle(quantizable, pictures[:1], tmp_path / "b", budget=Budget(100, 100))
    assert [[one.layer.title for one in result.layers[form]] for form in FORMS] == [["first", "last"] * 2] * 2


def test_layers_are_judged_on_a_part_of_many_pictures_and_ranges_come_from_all(
    quantizable, pictures, tmp_path, monkeypatch
):
    judged = []

    class Noting(Judge):
        def __init__(self, bundle, pictures, threads):
            judged.append([id(picture) for picture in pictures])
            super().__init__(bundle, pictures, threads)

    monkeypatch.setattr(bundle_writer, "JUDGES", 2)
    monkeypatch.setattr(bundle_writer, "Judge", Noting)
    calibrate_bundle(quantizable, pictures, tmp_path / "b")
    every = [id(picture) for picture in pictures]
    assert judged == [every, [every[0], every[2]]]


def test_graphs_are_compressed_or_plain_as_asked_whatever_they_were(calibration, quantizable, pictures, tmp_path):
    packed = compress_bundle(quantizable, tmp_path / "packed")
    options = {"name": calibration.manifest.name}
    found = calibrate_bundle(packed, pictures, tmp_path / "plain", **options)
    assert contents(found.path) == contents(calibration.path)
    found = calibrate_bundle(quantizable, pictures, tmp_path / "int8", compress=True, **options)
    compress_bundle(Bundle.open(calibration.path), tmp_path / "again")
    assert contents(found.path) == contents(tmp_path / "again")


@pytest.mark.parametrize("budget", [None, LARGE, Budget(0.02, 0.1), Budget(0.0, 0.0)])
def test_num_stages_is_an_upper_bound_of_the_progress_calls(budget, quantizable, pictures, tmp_path):
    calls = []
    calibrate_bundle(quantizable, pictures[:1], tmp_path / "b", budget=budget, progress=calls.append)
    most = num_stages(quantizable, budget)
    assert len(calls) == most if budget is None else len(calls) <= most


def test_progress_names_the_stages_in_order(quantizable, pictures, tmp_path):
    calls = []
    calibrate_bundle(quantizable, pictures[:1], tmp_path / "b", progress=calls.append)
    assert calls == [
        "encode in float32", "observe g_a", "observe g_s", "measure unsigned form", "measure symmetric form"
    ]  # fmt: skip


@pytest.mark.parametrize("graph", TRANSFORMS)
@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_bundle_that_is_not_in_float32_is_refused(graph, precision, quantizable, pictures, tmp_path):
    folder = shutil.copytree(quantizable.folder, tmp_path / "source")
    manifest = quantizable.manifest
    changed = dataclasses.replace(manifest.graphs[graph], precision=precision)
    manifest = dataclasses.replace(manifest, graphs={**manifest.graphs, graph: changed})
    (folder / "manifest.json").write_text(json_from_manifest(manifest))
    with pytest.raises(
        CalibrationError, match=f"^bundle quantizable: graph {graph} is {precision}; calibrate the fp32 bundle$"
    ):
        calibrate_bundle(Bundle.open(folder), pictures, tmp_path / "b")
    assert names(tmp_path) == ["source"]


def test_int8_bundle_is_not_calibrated_again(int8, pictures, tmp_path):
    with pytest.raises(CalibrationError, match="graph g_a is int8"):
        calibrate_bundle(int8, pictures, tmp_path / "b")


def test_unknown_method_is_refused_with_the_known_ones(quantizable, pictures, tmp_path):
    with pytest.raises(CalibrationError, match=r"no way best to find ranges; there are min-max, .*mse"):
        calibrate_bundle(quantizable, pictures, tmp_path / "b", "best")
    assert names(tmp_path) == []


def test_existing_bundle_is_replaced_only_when_asked(quantizable, pictures, tmp_path):
    output = shutil.copytree(quantizable.folder, tmp_path / "b")
    before = contents(output)
    with pytest.raises(ExportError, match="b exists; choose another name, or --force"):
        calibrate_bundle(quantizable, pictures[:1], output)
    assert contents(output) == before
    calibrate_bundle(quantizable, pictures[:1], output, overwrite=True)
    assert Bundle.open(output).manifest.engine == "int8"
    assert names(tmp_path) == ["b"]


def test_bundle_can_take_the_place_of_the_one_that_it_came_from(quantizable, pictures, tmp_path):
    source = Bundle.open(shutil.copytree(quantizable.folder, tmp_path / "b"))
    calibrate_bundle(source, pictures[:1], source.folder, overwrite=True)
    assert Bundle.open(tmp_path / "b").manifest.engine == "int8"


def test_missing_parent_is_named(quantizable, pictures, tmp_path):
    with pytest.raises(ExportError, match="nowhere: no such folder"):
        calibrate_bundle(quantizable, pictures, tmp_path / "nowhere" / "b")


@pytest.mark.parametrize("stage", range(5))
@pytest.mark.parametrize("overwrite", [False, True])
def test_failure_at_any_stage_leaves_the_disk_as_it_was(stage, overwrite, quantizable, pictures, tmp_path):
    if overwrite:
        shutil.copytree(quantizable.folder, tmp_path / "b")
    before, calls = contents(tmp_path), []

    def stop(text):
        calls.append(text)
        if len(calls) == stage + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate_bundle(quantizable, pictures[:1], tmp_path / "b", overwrite=overwrite, progress=stop)
    assert contents(tmp_path) == before
    assert names(tmp_path) == (["b"] if overwrite else [])


def test_failure_while_files_are_written_leaves_nothing(quantizable, pictures, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_writer, "json_from_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        calibrate_bundle(quantizable, pictures[:1], tmp_path / "b")
    assert names(tmp_path) == []


def test_shipped_model_is_calibrated_within_a_budget_and_read_by_the_float_one(make_photo, tmp_path):
    source, calls = Bundle.open(shipped_bundle("low")), []
    budget = Budget(0.1, 1.0)
    crops = [make_photo(64, 64, seed) for seed in range(2)]
    result = calibrate_bundle(source, crops, tmp_path / "b", budget=budget, progress=calls.append)
    for form in FORMS:
        layers = result.layers[form]
        assert budget.share(result.effects[form]) <= 1
        assert not any("gdn" in one.layer.title for one in layers)
        assert sum(one.products for one in layers if one.chosen) > 0.5 * sum(one.products for one in layers)
    assert len(calls) <= num_stages(source, budget)
    floats, eights = (Codec.load(folder, "onnxruntime", threads=1) for folder in (source.folder, tmp_path / "b"))
    data = eights.encode(crops[0])
    assert np.array_equal(floats.decode_latent(data), eights.decode_latent(data))
    difference = np.abs(floats.decode(data).astype(int) - eights.decode(data))
    assert difference.mean() < 2
    assert difference.max() > 0
