"""Whole integer chains: the readable twin and ONNX Runtime give the same bits, whatever the symbols."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch

from mlic.calibration.integer.float_use import complaints
from mlic.calibration.integer.lowering import MAX_SYMBOL
from mlic.calibration.integer.reference import run_graph
from mlic.calibration.integer.reference_operators import OPERATORS
from mlic.calibration.integer.splice import layers_of_chain, spliced
from mlic.calibration.observe import session
from mlic.export.models.slices import SliceWidths
from mlic.export.models.stf import Stf, StfWidths
from mlic.export.models.wacnn import Wacnn
from mlic.export.split.base import Split
from mlic.export.split.mlicpp import split_mlicpp
from mlic.export.split.slices import split_stf, split_wacnn
from mlic.export.trace import trace
from mlic.runtime.arrays import Array
from tests.calibration.integer.chains import Lowered, Symbols, alternating, constant, lowered, noise, rare
from tests.small_model import small_model

SLICES = SliceWidths(
    m=64, n=8, num_slices=4, support=1, h_a=(16, 16, 16, 16), h_s=(8, 8, 16, 16), stack=(24, 16, 16, 8)
)
FAR = float(1 << 24)  # symbols beyond it are no floats that a file holds


def _stf() -> Split:
    return split_stf(Stf(StfWidths(8, heads=(1, 2, 2, 4)), SLICES).eval())


def _wacnn() -> Split:
    return split_wacnn(Wacnn(16, SLICES).eval())


MODELS: dict[str, tuple[Callable[[], Split], int]] = {
    "mlicpp": (lambda: split_mlicpp(small_model()), 16),
    "stf": (_stf, 8),
    "wacnn": (_wacnn, 8),
}


@pytest.fixture(scope="module", params=[pytest.param(n, marks=pytest.mark.xdist_group(f"integer {n}")) for n in MODELS])
def model(request: pytest.FixtureRequest) -> Lowered:
    make, z_channels = MODELS[request.param]
    torch.manual_seed(3)
    with torch.no_grad():
        split = make()
        floats = {part.spec.name: trace(part) for part in split.subgraphs if part.spec.exact}
    return lowered(floats, split.steps, z_channels)


SYMBOLS: dict[str, Callable[[], Symbols]] = {
    "noise": lambda: noise(5),
    "zeros": lambda: constant(0),
    "wide": lambda: noise(6, 300),
    "all as large as may be": lambda: constant(FAR),
    "all as small as may be": lambda: constant(-FAR),
    "largest and least": lambda: alternating(FAR),
    "at the limit": lambda: alternating(MAX_SYMBOL),
    "a few are huge": lambda: rare(FAR),
}


@pytest.mark.parametrize("kind", SYMBOLS)
def test_reference_and_engine_give_the_same_bits_and_nothing_overflows(model: Lowered, kind: str):
    _compare(model, (64, 128), SYMBOLS[kind]())


@pytest.mark.parametrize("size", [(64, 320), (192, 128), (320, 64)])
def test_reference_and_engine_agree_on_other_sizes(model: Lowered, size: tuple[int, int]):
    _compare(model, size, noise(7))


def _compare(model: Lowered, size: tuple[int, int], symbols: Symbols) -> None:
    def run(graph: onnx.ModelProto, state: dict[str, Array]) -> dict[str, Array]:
        expected = run_graph(graph, state)
        for one in model.engines:
            for name, array in one(graph, state).items():
                assert array.dtype == expected[name].dtype, name
                np.testing.assert_array_equal(array, expected[name], f"{graph.graph.name}: {name}")
        return expected

    state = model.run(size, symbols, run)
    assert state["y_hat"].shape[2:] == (size[0] // 16, size[1] // 16)


def test_graphs_hold_integers_and_no_other_operators(model: Lowered):
    for graph in model.chain.models.values():
        assert complaints(graph) == []


def test_the_first_guess_at_a_root_changes_nothing(model: Lowered):
    rng = np.random.default_rng(1)

    def inexact(inputs: list[Array], _: object) -> Array:
        return (np.sqrt(inputs[0]).view(np.int32) + rng.integers(-2, 3, inputs[0].shape, np.int32)).view(np.float32)

    wrong = {**OPERATORS, "Sqrt": inexact}
    symbols = SYMBOLS["wide"]
    expected = model.run((64, 128), symbols())
    found = model.run((64, 128), symbols(), lambda graph, state: run_graph(graph, state, wrong))
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, name)


def test_building_again_gives_the_same_bytes(model: Lowered):
    def digests() -> dict[str, str]:
        return {
            name: hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()
            for name, graph in model.build_again().models.items()
        }

    assert digests() == digests()


def test_graphs_take_what_they_use_and_earlier_ones_give(model: Lowered):
    given = {"z_symbols"}
    asked = {step.graph: step for step in model.steps}
    for name, graph in model.chain.models.items():
        used = {source for node in graph.graph.node for source in node.input}
        inputs = {value.name for value in graph.graph.input}
        assert inputs <= used
        assert inputs <= given
        assert {tensor.name for tensor in graph.graph.initializer} <= used
        made = [node.output[0] for node in graph.graph.node]
        outputs = {value.name for value in graph.graph.output}
        assert outputs <= set(made)
        assert set(made) <= used | outputs  # no node for nothing
        given |= outputs | ({asked[name].symbols} if name in asked else set())
    assert "y_hat" in given


def test_integers_follow_the_float_chain(model: Lowered):
    size, symbols = (128, 192), noise(11)
    before = model.run_floats(size, noise(11))
    after = model.run(size, symbols)
    for step in model.steps:
        scales, indexes = before[step.scales], after[step.graph.replace("step", "indexes")]
        assert indexes.dtype == np.uint8
        assert indexes.shape == scales.shape
        spread = before[step.means].std() + 0.05
        assert np.sqrt(np.mean((after[step.means] - before[step.means]) ** 2)) < 0.25 * spread, step.graph
    error = np.sqrt(np.mean((after["y_hat"] - before["y_hat"]) ** 2))
    assert error < 0.2 * before["y_hat"].std()


def test_means_and_y_hat_are_multiples_of_a_256th(model: Lowered):
    state = model.run((64, 64), noise(12))
    for name in ("y_hat", *(step.means for step in model.steps)):
        scaled = state[name] * 256
        np.testing.assert_array_equal(scaled, np.rint(scaled))
        assert np.abs(scaled).max() < 1 << 24


def test_every_product_alone_in_integers_stays_near_the_float_one(model: Lowered):
    """Codes of convolutions are left out: a function that hardly changes there makes them clip what is far below 0."""
    state = model.run_floats((128, 192), noise(11))
    operators = set()
    for layer in layers_of_chain(model.chain, model.steps):
        graph = layer.node.graph
        operators.add(layer.node.op)
        names = [result.tensor.removeprefix(f"{graph}/") for result in layer.results]
        given = {value.name: state[value.name] for value in model.floats[graph].graph.input}
        both = [
            session(one, 1, names).run(names, given)
            for one in (model.floats[graph], spliced(model.floats[graph], model.chain, layer))
        ]
        for result, before, after in zip(layer.results, *both, strict=True):
            if layer.node.op == "Conv" and result.form[0] == "code":
                continue
            error = np.sqrt(np.mean((after - before) ** 2))
            assert error < 0.25 * np.sqrt(np.mean(before**2)) + 2.0**-8, (graph, layer.title, result.form)
    assert "Conv" in operators
