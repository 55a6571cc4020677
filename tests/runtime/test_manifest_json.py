"""The manifest as JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.errors import BundleError
from mlic.runtime.manifest import DEFAULT_SIZES, GraphForm, Padding, SizeRange, StepSpec, TensorSpec, Tiling
from mlic.runtime.manifest_json import json_from_manifest, manifest_from_json


@pytest.fixture(scope="module")
def text(bundle_folder):
    return (bundle_folder / "manifest.json").read_text()


@pytest.fixture
def value(text):
    return json.loads(text)


def test_fields_are_read(text):
    manifest = manifest_from_json(text)
    assert manifest.name == "tiny-0"
    assert manifest.model_id.hex() == json.loads(text)["model_id"]
    assert manifest.padding == Padding(64, "top-left", "zeros")
    assert (manifest.y_channels, manifest.z_channels) == (6, 4)
    assert manifest.steps[1] == StepSpec("step_01", (0, 2), "nonanchor")
    graph = manifest.graphs["g_a"]
    assert graph.spec.inputs == {"x": TensorSpec("float32", (1, 3, "height", "width"))}
    assert (graph.path, graph.precision, graph.spec.exact) == ("onnx/g_a.onnx", "fp32", False)
    assert set(manifest.details) == {"widths", "provenance"}


def test_writing_and_reading_give_the_same(text):
    manifest = manifest_from_json(text)
    assert manifest_from_json(json_from_manifest(manifest)) == manifest
    assert json_from_manifest(manifest) == text


def test_symmetric_forms_are_read_and_written(value):
    value["graphs"][0]["symmetric"] = {"path": "onnx/g_a.symmetric.onnx", "sha256": "ab" * 32}
    manifest = manifest_from_json(json.dumps(value))
    graph = manifest.graphs["g_a"]
    assert graph.symmetric == GraphForm("onnx/g_a.symmetric.onnx", "ab" * 32)
    assert graph.forms == (GraphForm(graph.path, graph.sha256), graph.symmetric)
    assert json.loads(json_from_manifest(manifest)) == value
    assert manifest.graphs["h_a"].symmetric is None
    assert len(manifest.graphs["h_a"].forms) == 1


def test_tilings_are_read_and_written(value):
    value["graphs"][0]["tiling"] = {"multiple": 16, "halo": 64}
    manifest = manifest_from_json(json.dumps(value))
    assert manifest.graphs["g_a"].tiling == Tiling(16, 64)
    assert manifest.graphs["h_a"].tiling is None
    assert manifest_from_json(json_from_manifest(manifest)) == manifest


def test_sizes_are_read_and_written(value):
    value["sizes"] = {"min": [64, 128], "opt": [100, 200], "max": [300, 400]}
    manifest = manifest_from_json(json.dumps(value))
    assert manifest.sizes == SizeRange((64, 128), (100, 200), (300, 400))
    assert "sizes" not in manifest.details
    assert json.loads(json_from_manifest(manifest)) == value


def test_default_sizes_are_not_written(text, value):
    assert manifest_from_json(text).sizes == DEFAULT_SIZES == SizeRange((64, 64), (512, 768), (4096, 4096))
    value["sizes"] = {"min": [64, 64], "opt": [512, 768], "max": [4096, 4096]}
    assert json_from_manifest(manifest_from_json(json.dumps(value))) == text


def test_sizes_are_padded_upwards():
    assert SizeRange((60, 64), (500, 768), (2160, 3840)).padded(64) == SizeRange((64, 64), (512, 768), (2176, 3840))
    assert SizeRange((1, 2), (3, 4), (64, 65)).padded(64) == SizeRange((64, 64), (64, 64), (64, 128))


def test_unknown_keys_are_kept_as_details(value):
    value["future"] = {"a": 1}
    assert manifest_from_json(json.dumps(value)).details["future"] == {"a": 1}


def test_names_of_a_step_carry_its_number():
    step = StepSpec("step_07", (0, 2), "all")
    assert (step.scales, step.means, step.symbols) == ("scales_07", "means_07", "symbols_07")


def test_dimensions_follow_the_padded_picture():
    assert TensorSpec("float32", (1, 3, "height/16", "width/32")).concrete(128, 192) == (1, 3, 8, 6)
    with pytest.raises(BundleError, match="'depth/2' is not"):
        TensorSpec("float32", ("depth/2",)).concrete(64, 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("[]", "not the manifest of a bundle"),
        ('{"format": "other"}', "not the manifest of a bundle"),
        ('{"format": "mlic-bundle"}', "version None; this reader knows 1 to 1"),
        ('{"format": "mlic-bundle", "format_version": 2}', "version 2"),
        ('{"format": "mlic-bundle", "format_version": true}', "version True"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_what_is_no_manifest_is_refused(text, message):
    with pytest.raises(BundleError, match=message):
        manifest_from_json(text)


@pytest.mark.parametrize(
    ("path", "wrong", "message"),
    [
        (["name"], None, "name is None; expected str"),
        (["model_id"], "00", "model_id is '00'"),
        (["model_id"], "", "model_id is ''; expected"),
        (["padding", "multiple"], 0, "padding.multiple is 0; expected 1 to 4096"),
        (["padding", "multiple"], True, "padding.multiple is True; expected int"),
        (["padding", "placement"], "left", "padding.placement is 'left'; expected one of top-left, centre"),
        (["padding", "fill"], 3, "padding.fill is 3"),
        (["latent", "y_channels"], "6", "latent.y_channels is '6'"),
        (["tables", "sha256"], "zz", "tables.sha256"),
        (["graphs"], {}, "graphs is {}; expected list"),
        (["graphs", 0], 3, r"graphs\[0\] is 3; expected dict"),
        (["graphs", 1, "name"], "g_a", "graphs: a name occurs twice"),
        (["graphs", 0, "symmetric"], None, r"graphs\[0\].symmetric is None; expected dict"),
        (
            ["graphs", 0, "symmetric"],
            {},
            r"graphs\[0\].symmetric.path is missing; graphs\[0\].symmetric.sha256 is miss",
        ),
        (["graphs", 0, "symmetric"], {"path": 3, "sha256": "0" * 64}, "symmetric.path is 3; expected str"),
        (["graphs", 0, "symmetric"], {"path": "a", "sha256": "0"}, "symmetric.sha256 is '0'; expected"),
        (["graphs", 0, "tiling"], None, r"graphs\[0\].tiling is None; expected dict"),
        (["graphs", 0, "tiling"], {}, r"graphs\[0\].tiling.multiple is missing; graphs\[0\].tiling.halo is missing"),
        (["graphs", 0, "tiling"], {"multiple": 0, "halo": 0}, "tiling.multiple is 0; expected 1 to 4096"),
        (["graphs", 0, "tiling"], {"multiple": 16, "halo": -16}, "tiling.halo is -16; expected 0 to 1048576"),
        (["graphs", 0, "tiling"], {"multiple": 16, "halo": 24}, "tiling.halo is 24; expected a multiple of 16"),
        (["graphs", 0, "exact"], 1, r"graphs\[0\].exact is 1; expected bool"),
        (["graphs", 0, "inputs", "x", "dtype"], "float64", "dtype is 'float64'"),
        (["graphs", 0, "inputs", "x", "shape"], [1, 0], "shape holds 0"),
        (["graphs", 0, "inputs", "x", "shape"], [1, "height/0"], "shape holds 'height/0'"),
        (["graphs", 0, "inputs", "x", "shape"], [1, None], "shape holds None"),
        (["sizes"], [64, 64], r"sizes is \[64, 64\]; expected dict"),
        (
            ["sizes"],
            {"min": [64], "opt": [64, 64], "max": [64, 64]},
            r"sizes.min is \[64\]; expected \[height, width\]",
        ),
        (["sizes"], {"min": [64, 64], "opt": [64, 64]}, "sizes.max is missing"),
        (["sizes"], {"min": [0, 9], "opt": [9, 9], "max": [9, 9]}, "sizes.height has min 0, opt 9, max 9; expected 1"),
        (["sizes"], {"min": [9, 8], "opt": [9, 8], "max": [9, 7]}, "sizes.width has min 8, opt 8, max 7"),
        (["steps"], [], "steps is empty"),
        (["steps", 0, "channels"], [2, 2], "channels is"),
        (["steps", 0, "channels"], [0, "2"], "channels is"),
        (["steps", 0, "positions"], "odd", "positions is 'odd'; expected one of all, anchor, nonanchor"),
    ],
)
def test_wrong_entries_are_named(value, path, wrong, message):
    target = value
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = wrong
    with pytest.raises(BundleError, match=message):
        manifest_from_json(json.dumps(value))


def test_all_problems_are_in_one_message(value):
    del value["name"], value["padding"]["fill"]
    value["latent"] = 3
    with pytest.raises(BundleError, match="name is missing") as caught:
        manifest_from_json(json.dumps(value))
    assert "padding.fill is missing" in str(caught.value)
    assert "latent is 3; expected dict" in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_any_entry_may_be_replaced_by_anything(text, data):
    value = json.loads(text)
    target, key = value, data.draw(st.sampled_from(sorted(value)))
    while isinstance(target[key], (dict, list)) and target[key] and data.draw(st.booleans()):
        target = target[key]
        key = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
    target[key] = data.draw(json_values)
    try:
        manifest_from_json(json.dumps(value))
    except BundleError:
        return
