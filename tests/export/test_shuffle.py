"""Pixel shuffles rewritten: the same values, whatever the size."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mlic.export.shuffle import shuffles_as_transpositions


def model_of(*attributes: dict[str, object]) -> onnx.ModelProto:
    """Return a chain of DepthToSpace nodes with a Neg between."""
    nodes, last = [], "x"
    for number, options in enumerate(attributes):
        nodes.append(helper.make_node("Neg", [last], [f"n{number}"]))
        nodes.append(helper.make_node("DepthToSpace", [f"n{number}"], [f"d{number}"], **options))
        last = f"d{number}"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [1, 48, "h", "w"])],
        [value("y", TensorProto.FLOAT, [1, None, None, None])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def result(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


CRD = {"blocksize": 2, "mode": "CRD"}


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (7, 3)])
def test_values_stay(size):
    x = np.random.default_rng(1).standard_normal((1, 48, *size)).astype(np.float32)
    before, after = model_of(CRD, CRD), model_of(CRD, CRD)
    shuffles_as_transpositions(after)
    assert "DepthToSpace" not in {node.op_type for node in after.graph.node}
    assert np.array_equal(result(after, x), result(before, x))


@pytest.mark.parametrize(
    "options", [{"blocksize": 2, "mode": "DCR"}, {"blocksize": 2}, {"blocksize": 4, "mode": "CRD"}]
)
def test_other_shuffles_stay_as_they_are(options):
    model = model_of(options)
    before = model.SerializeToString()
    shuffles_as_transpositions(model)
    assert model.SerializeToString() == before
