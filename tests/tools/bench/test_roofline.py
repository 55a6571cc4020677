"""Operations counted against shapes known by hand, and the table of a whole model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from mlic.tools.bench.operators import profile_from_events
from mlic.tools.bench.roofline import ProfilingBackend, app, measured_peak


def profile_of(folder: Path, nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], x: tuple[int, ...]):
    """Run a graph of ``x`` to ``y`` three times."""
    initializers = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(x))],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    backend = ProfilingBackend(1, folder)
    session = backend.open_session(model.SerializeToString(), "graph")
    for _ in range(3):
        session.run(None, {"x": np.ones(x, np.float32)})
    return backend.profiles()["graph"]


@pytest.mark.parametrize(
    ("attributes", "weight", "x", "flops"),
    [
        ({"pads": [1, 1, 1, 1]}, (32, 16, 3, 3), (1, 16, 10, 12), 2 * 32 * 16 * 9 * 120),
        ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, (32, 16, 3, 3), (1, 16, 10, 12), 2 * 32 * 16 * 9 * 30),
        ({"group": 4}, (32, 4, 1, 1), (1, 16, 10, 12), 2 * 32 * 4 * 120),
        ({"group": 16}, (16, 1, 1, 1), (1, 16, 10, 12), 2 * 16 * 120),
        ({}, (5, 3, 1, 1), (1, 3, 10, 12), 2 * 16 * 3 * 120),  # blocked layouts fill up to 16 outputs
    ],
)
def test_operations_of_a_convolution(tmp_path: Path, attributes, weight, x, flops):
    profile = profile_of(tmp_path, [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)], {"w": weight}, x)
    assert profile.flops == flops
    assert profile.nodes >= 1
    assert profile.total_seconds > 0


def test_operations_of_matrix_products_and_nothing_else(tmp_path: Path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Gelu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "v"], ["y"], transB=1),
    ]
    profile = profile_of(tmp_path, nodes, {"w": (7, 5), "v": (3, 5)}, (11, 7))
    assert profile.flops == 2 * 11 * 7 * 5 + 2 * 11 * 5 * 3


def test_first_run_is_left_out_and_others_give_their_median():
    def event(microseconds: int) -> dict:
        args = {"op_name": "Add", "input_type_shape": [{"float": [1]}], "output_type_shape": [{"float": [1]}]}
        return {"cat": "Node", "name": "n_kernel_time", "dur": microseconds, "args": args}

    profile = profile_from_events([{"cat": "Session", "name": "s"}, *map(event, (900, 5, 80, 7))])
    assert profile.total_seconds == pytest.approx(7e-6)
    assert (profile.nodes, profile.flops) == (1, 0)


def test_table_has_every_graph(bundle_folder: Path, tmp_path: Path, make_photo):
    Image.fromarray(make_photo(64, 64)).save(tmp_path / "p.png")
    arguments = [str(bundle_folder), str(tmp_path / "p.png"), "--threads", "1", "--repeat", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Peak ")
    for name in ("g_a", "h_a", "h_s", "step_00", "step_04", "finish", "g_s"):
        assert f"| `{name}` | " in result.output
    rows = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)["graphs"]
    g_a = rows[0]
    assert g_a["graph"] == "g_a"
    assert 0 < g_a["peak_percent"] < 150
    assert 0 < sum(g_a["operators_percent"].values()) <= 100.2


def test_peak_is_that_of_the_machine_not_of_the_call():
    assert measured_peak(1, side=512) > 1
