"""From ONNX files to plans with TensorRT-RTX, which needs no GPU for it."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlic.runtime.backends import tensorrt_engine
from mlic.runtime.backends.base import allows_tf32
from mlic.runtime.backends.tensorrt_engine import BuildOptions, build_plan, profile_from
from mlic.runtime.backends.tensorrt_flavour import installed_flavour, logger_for, polygraphy_for
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import BackendError, GraphRefusedError
from mlic.runtime.gzip_file import packed
from mlic.runtime.manifest import DEFAULT_SIZES, GraphFile, GraphSpec, SizeRange, TensorSpec
from mlic.runtime.shipped import shipped_bundle

pytest.importorskip("tensorrt_rtx")
pytest.importorskip("polygraphy")

OPTIONS = BuildOptions(DEFAULT_SIZES.padded(64))
X = TensorSpec("float32", (1, 3, "height", "width"))


@pytest.fixture(scope="module")
def flavour():
    return installed_flavour("tensorrt-rtx")


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return Bundle.open(bundle_folder)


@pytest.fixture
def configs(flavour, monkeypatch):
    """Collects the configurations that plans are built with."""
    polygraphy, found = polygraphy_for(flavour), []
    build = polygraphy.EngineBytesFromNetwork

    def spy(network, config, **options):
        found.append(config)
        return build(network, config, **options)

    monkeypatch.setattr(polygraphy, "EngineBytesFromNetwork", spy)
    return found


def written(folder: Path, nodes, outputs=("y",), dtype=TensorProto.FLOAT, constants: dict | None = None) -> Path:
    """Write a graph from x to outputs of its shape."""
    values = [helper.make_tensor_value_info(name, dtype, [1, 3, "h", "w"]) for name in ("x", *outputs)]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], tensors)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("other", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), folder / "graph.onnx")
    return folder / "graph.onnx"


def entry(outputs=("y",), x=X, **changes) -> GraphFile:
    spec = GraphSpec("graph", {"x": x}, dict.fromkeys(outputs, X), exact=False)
    return dataclasses.replace(GraphFile(spec, "graph.onnx", "0" * 64, "fp32"), **changes)


def test_profile_has_the_shapes_of_the_least_the_usual_and_the_largest_picture():
    spec = GraphSpec("g", {"a": TensorSpec("float32", (1, 8, "height/16", "width/32"))}, {}, exact=True)
    sizes = SizeRange((60, 64), (512, 768), (2160, 3840)).padded(64)
    assert profile_from(spec, sizes) == {"a": ((1, 8, 4, 2), (1, 8, 32, 24), (1, 8, 136, 120))}


@pytest.mark.parametrize(
    ("precision", "exact", "allowed"),
    [
        ("fp32", False, False),
        ("fp32", True, False),
        ("fp16", False, True),
        ("bf16", False, True),
        ("int8", False, True),
        ("fp16", True, False),
    ],
)
def test_tf32_is_for_transforms_of_lower_precision_alone(precision, exact, allowed, flavour, configs, tmp_path):
    path = written(tmp_path, [helper.make_node("Relu", ["x"], ["y"])])
    graph = entry(precision=precision)
    graph = dataclasses.replace(graph, spec=dataclasses.replace(graph.spec, exact=exact))
    assert allows_tf32(graph) is allowed
    assert build_plan(flavour, path, graph, OPTIONS)
    assert configs[0].get_flag(flavour.module.BuilderFlag.TF32) is allowed


def test_rtx_uses_tf32_unless_told_not_to(flavour):
    """The reason for the test before this one."""
    config = flavour.module.Builder(logger_for(flavour)).create_builder_config()
    assert config.get_flag(flavour.module.BuilderFlag.TF32)


def test_engine_that_keeps_tf32_is_refused(flavour, monkeypatch, tmp_path):
    path = written(tmp_path, [helper.make_node("Relu", ["x"], ["y"])])
    polygraphy = polygraphy_for(flavour)
    create = polygraphy.CreateConfig
    monkeypatch.setattr(polygraphy, "CreateConfig", lambda **options: create(**options | {"tf32": True}))
    with pytest.raises(BackendError, match="does not let TF32 be switched"):
        build_plan(flavour, path, entry(), OPTIONS)


def test_building_prints_nothing_and_leaves_the_folder_alone(flavour, bundle, bundle_folder, capfd):
    before = sorted(bundle_folder.rglob("*"))
    graph = bundle.manifest.graphs["g_a"]
    assert len(build_plan(flavour, bundle.path_of(graph), graph, OPTIONS)) > 10_000
    assert capfd.readouterr() == ("", "")
    assert sorted(bundle_folder.rglob("*")) == before


def test_every_refused_node_is_named(flavour, tmp_path):
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="determinant"),
        helper.make_node("Relu", ["x"], ["r"], name="fine"),
        helper.make_node("Sparkle", ["r"], ["b"], name="sparkle", domain="other"),
        helper.make_node("Unique", ["x"], ["c"]),
    ]
    path = written(tmp_path, nodes, ("a", "b", "c"))
    with pytest.raises(GraphRefusedError, match=r"graph graph: tensorrt-rtx-\S+ refuses node determ") as caught:
        build_plan(flavour, path, entry(("a", "b", "c")), OPTIONS)
    assert [node[:2] for node in caught.value.nodes] == [
        ("determinant", "Det"),
        ("sparkle", "Sparkle"),
        ("#3", "Unique"),
    ]
    assert "node determinant (Det): unsupported node; node sparkle (Sparkle): " in str(caught.value)
    assert "false" not in str(caught.value)


@pytest.mark.parametrize("content", [b"garbage", None], ids=["damaged", "missing"])
def test_file_that_is_no_graph_is_refused_without_a_node(content, flavour, tmp_path):
    path = tmp_path / "graph.onnx"
    if content:
        path.write_bytes(content)
    with pytest.raises(GraphRefusedError, match="graph graph: tensorrt-rtx-") as caught:
        build_plan(flavour, path, entry(), OPTIONS)
    assert caught.value.nodes == ()


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (entry(("z",)), "outputs are y; the manifest names z"),
        (entry(x=TensorSpec("float16", X.shape)), "input x is float32 .*; the manifest has float16"),
        (entry(x=TensorSpec("float32", (1, 4, "height", "width"))), r"input x is float32 \[1, 3, -1, -1\]; the man"),
    ],
)
def test_graph_that_is_not_the_manifests_is_refused(graph, message, flavour, tmp_path):
    path = written(tmp_path, [helper.make_node("Relu", ["x"], ["y"])])
    with pytest.raises(BackendError, match=message):
        build_plan(flavour, path, graph, OPTIONS)


def test_what_the_builder_says_reaches_the_caller(flavour, bundle):
    graph = bundle.manifest.graphs["g_a"]
    options = dataclasses.replace(OPTIONS, workspace_bytes=1)
    with pytest.raises(BackendError, match=r"graph g_a: .*workspace"):
        build_plan(flavour, bundle.path_of(graph), graph, options)


def test_engines_are_built_from_compressed_graphs(flavour, packed_folder, tmp_path):
    bundle = Bundle.open(packed_folder)
    graph = bundle.manifest.graphs["h_s"]
    assert len(build_plan(flavour, bundle.path_of(graph), graph, OPTIONS)) > 10_000
    path = tmp_path / "damaged.onnx.gz"
    path.write_bytes(packed(b"no ONNX file"))
    with pytest.raises(BackendError, match=r"graph h_s: .*"):
        build_plan(flavour, path, graph, OPTIONS)


def test_weights_stored_as_int8_become_the_same_float32(flavour):
    bundle = Bundle.open(shipped_bundle("medium"))
    data = bundle.read_graph(bundle.manifest.graphs["step_03"])
    weights = onnx.load_from_string(data).graph.initializer
    stored = [numpy_helper.to_array(i) for i in weights if i.data_type == TensorProto.INT8]
    _, network, _ = tensorrt_engine._parsed(flavour, data, "step_03.onnx.gz", "step_03")
    widened = tensorrt_engine._widened_weights(flavour.module, network)
    assert len(widened) == len(stored) > 5
    assert {array.dtype for array in widened} == {np.dtype(np.float32)}
    key = lambda array: array.astype(np.int8).tobytes()  # noqa: E731 - the order is not the file's
    for found, expected in zip(sorted(widened, key=key), sorted(stored, key=key), strict=True):
        assert np.array_equal(found.ravel(), expected.ravel())
    constants = [network.get_layer(i) for i in range(network.num_layers)]
    assert not any(layer.num_outputs and layer.get_output(0).dtype == flavour.module.int8 for layer in constants)


def quantised_and_stored(folder: Path, shared: bool) -> Path:
    """Write two convolutions: one in int8, and one whose weights are only stored so; perhaps of the same integers."""
    rng = np.random.default_rng(8)
    constants = {
        "w": rng.integers(-127, 128, (3, 3, 3, 3)).astype(np.int8),
        "w_scale": np.array([0.01, 0.02, 0.03], np.float32),
        "w_zero": np.zeros(3, np.int8),
        "x_scale": np.float32(1 / 127),
        "x_zero": np.int8(0),
        "steps": np.full((3, 1, 1, 1), 0.01, np.float16),
    }
    if not shared:
        constants["stored"] = rng.integers(-127, 128, (3, 3, 3, 3)).astype(np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_8"]),
        helper.make_node("DequantizeLinear", ["x_8", "x_scale", "x_zero"], ["x_d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"], axis=0),
        helper.make_node("Conv", ["x_d", "w_d"], ["between"], pads=[1] * 4),
        helper.make_node("Cast", ["w" if shared else "stored"], ["integers"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["steps"], ["wide_steps"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["integers", "wide_steps"], ["weights"]),
        helper.make_node("Conv", ["between", "weights"], ["y"], pads=[1] * 4),
    ]
    return written(folder, nodes, constants=constants)


@pytest.mark.parametrize("shared", [False, True])
def test_int8_weights_stay_where_they_are_dequantised_and_widen_where_they_are_cast(flavour, tmp_path, shared):
    path = quantised_and_stored(tmp_path, shared)
    stored = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    _, network, _ = tensorrt_engine._parsed(flavour, str(path), path.name, "graph")
    (widened,) = tensorrt_engine._widened_weights(flavour.module, network)
    assert widened.dtype == np.float32
    assert np.array_equal(widened.ravel(), stored["w" if shared else "stored"].ravel())
    kinds = flavour.module.LayerType
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    constants = {layer.get_output(0).name: layer for layer in layers if layer.type == kinds.CONSTANT}
    users = [(layer.type, constants.get(layer.get_input(0).name)) for layer in layers if layer.num_inputs]
    dtypes = {kind: source.get_output(0).dtype for kind, source in users if source and source.name != "steps"}
    assert dtypes == {kinds.DEQUANTIZE: flavour.module.int8, kinds.CAST: flavour.module.float32}
    assert build_plan(flavour, path, entry(precision="int8"), OPTIONS)


@pytest.mark.parametrize("name", ["g_a", "g_s"])  # a convolution and a transposed one
def test_quantised_graphs_are_built_from_their_symmetric_form(flavour, int8_folder, name):
    bundle = Bundle.open(int8_folder)
    graph = bundle.manifest.graphs[name]
    assert build_plan(flavour, bundle.path_of(graph), graph, OPTIONS)
    with pytest.raises(GraphRefusedError, match=f"graph {name}: .*zero point is not supported"):
        build_plan(flavour, bundle.path_of(graph), dataclasses.replace(graph, symmetric=None), OPTIONS)
