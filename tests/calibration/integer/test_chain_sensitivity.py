"""What each layer of an integer chain costs alone, on a chain of a few nodes in which it is known which one does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlic.calibration.integer.chain_builder import build
from mlic.calibration.integer.float_chain import FloatChain
from mlic.calibration.integer.information import Information
from mlic.calibration.integer.replay import Opened, Replay
from mlic.calibration.integer.sensitivity import ChainSensitivity, measure_layers
from mlic.calibration.integer.splice import layers_of_chain, spliced
from mlic.calibration.integer.statistics import Shape, Source, Statistics
from mlic.calibration.judge import bits_of
from mlic.export.tables import gaussian_tables
from mlic.runtime.arrays import Array
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.manifest import StepSpec
from tests.calibration.integer.chains import SCALE_TABLE, Lowered, engine, lowered

N, C = 4, 8  # channels of z, and of a step
SILENT = N - 1  # a channel of z that is 0 on the pictures that are measured
STEPS = (StepSpec("step_00", (0, C), "all"), StepSpec("step_01", (C, 2 * C), "all"))
PAIRS = {  # weights of each layer: out, in, side of the kernel
    "first": (16, N, 3),
    "dead": (16, N, 1),
    "second": (16, 16, 1),
    "step_00.fusion": (2 * C, 16, 1),
    "step_01.context": (16, C, 3),
    "step_01.fusion": (2 * C, 32, 1),
    "last": (C, C, 1),
}
SIZES = ((64 * 24, 64 * 32), (64 * 32, 64 * 24))  # so that ranges hold what symbols of other pictures lead to
EXACT = 1e-9  # percent; the engine may compute the same floats in another order


def weights_of() -> dict[str, Array]:
    rng = np.random.default_rng(4)
    made = {
        name: rng.normal(0, 1 / math.sqrt(fan * side**2), (out, fan, side, side)).astype(np.float32)
        for name, (out, fan, side) in PAIRS.items()
    }
    made["dead"][:] = 0
    for name in ("step_00.fusion", "step_01.fusion"):  # scales stay near 1
        made[name][:C] *= 0.05
    return made


def graph_of(
    name: str, inputs: dict[str, int], outputs: list[str], nodes: list[onnx.NodeProto], weights: Mapping[str, Array]
) -> onnx.ModelProto:
    """Return a model; an addition of 1 keeps scales away from 0."""
    used = {given for node in nodes for given in node.input}
    constants = {f"{key}.weight": value for key, value in weights.items() if f"{key}.weight" in used}
    constants |= {"sizes": np.array([C, C], np.int64), "bias": np.repeat(np.float32([1, 0]), C)}
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, [1, count, "h", "w"]) for key, count in inputs.items()],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs],
        [numpy_helper.from_array(value, key) for key, value in constants.items() if key in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def chain_of(weights: Mapping[str, Array]) -> dict[str, onnx.ModelProto]:
    node = helper.make_node
    return {
        "h_s": graph_of(
            "h_s",
            {"z_symbols": N},
            ["hyper"],
            [
                node("Conv", ["z_symbols", "first.weight"], ["a"], kernel_shape=[3, 3], pads=[1] * 4),
                node("Gelu", ["a"], ["b"]),
                node("Conv", ["b", "second.weight"], ["c"], kernel_shape=[1, 1]),
                node("Conv", ["z_symbols", "dead.weight"], ["d"], kernel_shape=[1, 1]),
                node("Add", ["c", "d"], ["hyper"]),
            ],
            weights,
        ),
        "step_00": graph_of(
            "step_00",
            {"hyper": 16},
            ["scales_00", "means_00"],
            [
                node("Conv", ["hyper", "step_00.fusion.weight", "bias"], ["e"], kernel_shape=[1, 1]),
                node("Split", ["e", "sizes"], ["scales_00", "means_00"], axis=1),
            ],
            weights,
        ),
        "step_01": graph_of(
            "step_01",
            {"hyper": 16, "symbols_00": C, "means_00": C},
            ["scales_01", "means_01", "y_hat_00"],
            [
                node("Add", ["symbols_00", "means_00"], ["y_hat_00"]),
                node("Conv", ["y_hat_00", "step_01.context.weight"], ["f"], kernel_shape=[3, 3], pads=[1] * 4),
                node("Gelu", ["f"], ["g"]),
                node("Concat", ["g", "hyper"], ["h"], axis=1),
                node("Conv", ["h", "step_01.fusion.weight", "bias"], ["i"], kernel_shape=[1, 1]),
                node("Split", ["i", "sizes"], ["scales_01", "means_01"], axis=1),
            ],
            weights,
        ),
        "finish": graph_of(
            "finish",
            {"y_hat_00": C, "symbols_01": C, "means_01": C},
            ["y_hat"],
            [
                node("Add", ["symbols_01", "means_01"], ["j"]),
                node("Conv", ["j", "last.weight"], ["k"], kernel_shape=[1, 1]),
                node("Concat", ["y_hat_00", "k"], ["y_hat"], axis=1),
            ],
            weights,
        ),
    }


def lowered_of(weights: Mapping[str, Array]) -> Lowered:
    return lowered(chain_of(weights), STEPS, N, SIZES)


@pytest.fixture(scope="module")
def entropy() -> EntropyModel:
    tables = gaussian_tables(SCALE_TABLE)
    rows = gaussian_tables(np.full(N, 2.0, np.float32))
    return EntropyModel.from_arrays(
        tables
        | {key.replace("y_", "z_"): value for key, value in rows.items()}
        | {"scale_table": SCALE_TABLE, "medians": np.zeros(N, np.float32)}
    )


def replay_of(chain: Lowered, entropy: EntropyModel) -> Replay:
    """Run the chain on symbols with a standard deviation of about 1, which is what its scales say."""
    rng = np.random.default_rng(1)
    pictures = []
    for _ in range(2):
        z_symbols = np.rint(rng.laplace(0, 2, (1, N, 24, 32))).astype(np.float32)
        z_symbols[:, SILENT] = 0
        draws = {step.graph: rng.normal(0, 1, (1, C, 24, 32)) for step in STEPS}
        pictures.append((z_symbols, lambda step, means, draws=draws: np.rint(draws[step.graph]).astype(np.float32)))
    return Replay(chain.floats, STEPS, entropy, pictures, threads=1)


class Coarse:
    """Statistics that show a tensor with a far wider range than it has, so that few codes are left for it."""

    def __init__(self, source: Source, name: str) -> None:
        self._source, self._name = source, name

    def of(self, name: str, axis: int | None) -> Statistics:
        found = self._source.of(name, axis)
        if name != self._name:
            return found
        return Statistics(np.full_like(found.low, -200), np.full_like(found.high, 200), np.ones_like(found.counts))

    def shape(self, name: str) -> Shape:
        return self._source.shape(name)


def measured(
    weights: Mapping[str, Array], entropy: EntropyModel, seen: Callable[[Source], Source] = lambda source: source
) -> ChainSensitivity:
    chain = lowered_of(weights)
    integers = build(FloatChain.joined(chain.floats), STEPS, SCALE_TABLE, seen(chain.source))
    return measure_layers(chain.floats, integers, STEPS, replay_of(chain, entropy))


@pytest.fixture(scope="module")
def usual(entropy: EntropyModel) -> ChainSensitivity:
    return measured(weights_of(), entropy)


def test_every_layer_has_a_row_in_running_order(usual):
    assert [(one.graph, one.layer, one.operator) for one in usual.layers] == [
        ("h_s", "first", "Conv"),
        ("h_s", "second", "Conv"),
        ("h_s", "dead", "Conv"),
        ("step_00", "step_00.fusion", "Conv"),
        ("step_01", "step_01.context", "Conv"),
        ("step_01", "step_01.fusion", "Conv"),
        ("finish", "last", "Conv"),
    ]
    assert usual.pictures == 2


def test_layers_that_change_no_bit_cost_nothing_and_others_something(usual):
    costs = {one.layer: one.percent for one in usual.layers}
    for name in ("dead", "last"):  # computes zeros; is run after the last symbol
        assert abs(costs.pop(name).expected) < EXACT
    for name, cost in costs.items():
        assert cost.expected > 1e-4, name


def test_layers_alone_add_up_to_the_chain(usual):
    assert usual.total.expected == pytest.approx(usual.chain.expected, rel=0.3)
    assert usual.chain.coded == pytest.approx(usual.chain.expected, abs=0.1)


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [("h_s/b", "second"), ("y_hat_00", "step_01.context"), ("step_01/h", "step_01.fusion")],
)
def test_a_layer_that_takes_a_coarse_grid_is_at_the_top(tensor: str, layer: str, usual, entropy: EntropyModel):
    found = measured(weights_of(), entropy, lambda source: Coarse(source, tensor))
    assert found.worst_first()[0].layer == layer
    before = {one.layer: one.percent.expected for one in usual.layers}
    for one in found.layers:
        if one.layer == layer:
            assert one.percent.expected > 20 * before[layer]
        else:
            assert one.percent.expected == pytest.approx(before[one.layer], rel=0.01, abs=EXACT)
    assert found.chain.expected > found.worst_first()[0].percent.expected / 2


def test_a_layer_with_one_weight_far_larger_than_its_row_is_at_the_top(usual, entropy: EntropyModel):
    weights = weights_of()
    weights["second"][-1], weights["dead"][-1, SILENT] = 0, 1  # a channel that is 0 on the pictures that are measured
    weights["step_01.fusion"][:, -1] = 100
    found = measured(weights, entropy)
    worst = found.worst_first()[0]
    assert worst.layer == "step_01.fusion"
    assert worst.percent.expected > 20 * max(one.percent.expected for one in usual.layers)


def test_a_spliced_layer_computes_what_the_integer_chain_computes(entropy: EntropyModel):
    """The first layer takes symbols, so that both see the same codes."""
    chain = lowered_of(weights_of())
    replay = replay_of(chain, entropy)
    layer = layers_of_chain(chain.chain, STEPS)[0]
    (result,) = layer.results
    model = spliced(chain.floats["h_s"], chain.chain, layer)
    model.graph.output.extend([helper.make_tensor_value_info("integer/" + result.made, TensorProto.UINT8, None)])
    found = engine()(model, replay.known[0].state)["integer/" + result.made]
    integers = lowered_tensor(chain, result.made, replay.known[0].state)
    assert np.ptp(found) > 200
    np.testing.assert_array_equal(found, integers)


def lowered_tensor(chain: Lowered, name: str, state: Mapping[str, Array]) -> Array:
    """Return a tensor inside the integer h_s."""
    emit = chain.chain.lowering.emit
    model = emit.models({"h_s": [name]})["h_s"]
    return engine()(model, state)[name]


def test_a_chain_whose_graphs_are_the_float_ones_costs_nothing(entropy: EntropyModel):
    chain = lowered_of(weights_of())
    replay = replay_of(chain, entropy)
    cost = replay.percent({name: Opened(model, 1) for name, model in chain.floats.items() if name != "finish"})
    assert (cost.expected, cost.coded) == (0, 0)


class Farther(Opened):
    """A step that gives indexes of scales two rows from those of the float chain."""

    def __init__(self, model: onnx.ModelProto, entropy: EntropyModel) -> None:
        super().__init__(model, threads=1)
        self._entropy = entropy

    def run(self, state: Mapping[str, Array]) -> dict[str, Array]:
        found = super().run(state)
        return found | {"indexes_00": self._entropy.build_indexes(found["scales_00"]) + np.uint8(2)}


def test_indexes_are_taken_as_a_graph_gives_them(entropy: EntropyModel):
    chain = lowered_of(weights_of())
    replay = replay_of(chain, entropy)
    cost = replay.percent({"step_00": Farther(chain.floats["step_00"], entropy)})
    more = 0.0
    for known in replay.known:
        rows = known.rows["step_00"]
        before, after = (bits_of(entropy.y, known.state["symbols_00"], one) for one in (rows, rows + np.uint8(2)))
        more += after - before
    assert cost.coded == pytest.approx(100 * more / replay.bits)
    assert cost.expected > 1


# Bits


@pytest.mark.parametrize("scale", [0.15, 0.6, 2.0, 20.0])
def test_expected_bits_are_the_mean_of_those_of_symbols(scale: float, entropy: EntropyModel):
    rng = np.random.default_rng(2)
    count = 400_000
    row = int(entropy.build_indexes(np.float32([scale]))[0])
    values = rng.normal(0, scale, count)
    scales, symbols = np.full(count, scale, np.float32), np.rint(values).astype(np.float32)
    for other, shift in ((row + 3, 0.0), (row, 0.3 * scale), (row + 1, -0.2 * scale)):
        rows, shifts = np.full(count, other, np.uint8), np.full(count, shift, np.float32)
        cost = Information(entropy).more(symbols, scales, rows, shifts)
        assert cost.expected > 0
        assert cost.expected == pytest.approx(cost.coded, rel=0.15, abs=12 * math.sqrt(count) * 0.05)


def test_a_moved_mean_costs_half_its_square_over_the_variance(entropy: EntropyModel):
    scale, shift, count = 8.0, 0.5, 1000
    row = entropy.build_indexes(np.float32([scale]))
    cost = Information(entropy).more(
        np.zeros(count, np.float32), np.full(count, scale, np.float32), np.full(count, row[0]), np.full(count, shift)
    )
    assert cost.expected / count == pytest.approx(shift**2 / (2 * scale**2) / math.log(2), rel=0.2)  # rows are coarse
