"""The comparison of graphs with PyTorch: lets correct ones pass and names the others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from mlic.export.errors import ExportError
from mlic.export.split.base import Split
from mlic.export.split.mlicpp import split_mlicpp
from mlic.export.verify import Check, picture, require_passed, verify
from mlic.runtime.arrays import Array, Tensors
from mlic.runtime.backends import open_backend
from mlic.runtime.backends.base import Graph
from mlic.runtime.bundle import Bundle
from mlic.runtime.manifest import GraphSpec
from tests.small_model import SmallBundle, small_model

SMALL, LARGE = (64, 64), (512, 768)
SYMBOLS = 16 * 8 * 12  # z of LARGE

Change = Callable[[dict[str, Array]], None]


@pytest.fixture(scope="module")
def split() -> Split:
    return split_mlicpp(small_model())


class _Modules:
    """Stands for an engine: runs the modules themselves, and lets a test change what one of them gave."""

    def __init__(self, split: Split, changed: str = "", change: Change = lambda _: None) -> None:
        self.modules = {subgraph.spec.name: subgraph for subgraph in split.subgraphs}
        self.changed, self.change = changed, change

    def open(self, name: str) -> Graph:
        return _Module(self, self.modules[name].spec)


class _Module:
    def __init__(self, owner: _Modules, spec: GraphSpec) -> None:
        self.owner, self.spec = owner, spec

    def run(self, inputs: Tensors) -> dict[str, Array]:
        state = {name: torch.from_numpy(inputs[name]) for name in self.spec.inputs}
        with torch.no_grad():
            self.owner.modules[self.spec.name].run(state)
        outputs = {name: state[name].numpy().copy() for name in self.spec.outputs}
        if self.spec.name == self.owner.changed:
            self.owner.change(outputs)
        return outputs


def checks_with(
    split: Split, graph: str, change: Change, size: tuple[int, int] = SMALL, precision: str = "fp32"
) -> list[Check]:
    precisions = dict.fromkeys((s.spec.name for s in split.subgraphs), precision)
    return verify(split, _Modules(split, graph, change).open, precisions, [size])


def failed(checks: list[Check]) -> list[str]:
    return [check.graph for check in checks if not check.passed]


def test_model_equals_itself_and_every_graph_is_checked_at_every_size(split: Split):
    names = [subgraph.spec.name for subgraph in split.subgraphs]
    seen: list[str] = []
    checks = verify(split, _Modules(split).open, dict.fromkeys(names, "fp32"), [SMALL, (64, 128)], seen.append)
    assert [(c.graph, c.size) for c in checks] == [(n, size) for size in (SMALL, (64, 128)) for n in names]
    assert seen == names * 2
    assert all(c.passed and c.error == 0 for c in checks)
    require_passed(checks)


def test_picture_is_deterministic_and_has_dark_and_light_parts():
    first = picture(64, 128)
    assert (first.shape, first.dtype) == ((1, 3, 64, 128), np.float32)
    assert np.array_equal(first, picture(64, 128))
    assert 0 <= first.min() < 0.2
    assert 0.8 < first.max() <= 1


def test_symbols_of_the_picture_are_not_all_zero(split: Split):
    seen: dict[str, Array] = {}
    checks_with(split, "h_a", seen.update, LARGE)
    assert np.unique(seen["z_symbols"]).size > 4  # or the tests below prove little


@pytest.mark.xdist_group("small_bundle")
@pytest.mark.parametrize("graph", ["g_a", "h_s", "step_02", "finish", "g_s"])
def test_one_changed_weight_fails_and_names_the_graph(graph: str, small_bundle: SmallBundle, tmp_path: Path):
    bundle, backend = Bundle.open(small_bundle.folder), open_backend("onnxruntime", 1)
    changed = onnx.load(bundle.path_of(bundle.manifest.graphs[graph]))
    weight = next(value for value in reversed(changed.graph.initializer) if len(value.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.2
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(changed, tmp_path / f"{graph}.onnx")

    def open_graph(name: str) -> Graph:
        file = bundle.manifest.graphs[name]
        return backend.open(tmp_path / f"{name}.onnx" if name == graph else bundle.path_of(file), file)

    split = split_mlicpp(small_bundle.loaded.model)
    checks = verify(split, open_graph, dict.fromkeys(bundle.manifest.graphs, "fp32"), [(192, 320)])
    assert failed(checks) == [graph]
    with pytest.raises(ExportError, match=rf"^1 checks against PyTorch failed: graph {graph} at 320x192: \d"):
        require_passed(checks)


@pytest.mark.parametrize("graph", ["g_a", "h_a", "step_01"])
def test_output_of_another_shape_fails(graph: str, split: Split):
    def cut(outputs: dict[str, Array]) -> None:
        for name in outputs:
            outputs[name] = outputs[name][..., :-1]

    assert failed(checks_with(split, graph, cut)) == [graph]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("graph", ["h_a", "step_01"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_one_value_that_is_not_finite_fails(value: float, graph: str, precision: str, split: Split):
    def spoil(outputs: dict[str, Array]) -> None:
        next(reversed(outputs.values())).flat[0] = value

    assert failed(checks_with(split, graph, spoil, precision=precision)) == [graph]


def flip(count: int, by: float = 1) -> Change:
    """Return a change that moves ``count`` symbols of z."""

    def change(outputs: dict[str, Array]) -> None:
        assert outputs["z_symbols"].size == SYMBOLS
        outputs["z_symbols"].flat[np.arange(count) * (SYMBOLS // count)] += by

    return change


@pytest.mark.parametrize(
    ("precision", "allowed"),
    [("fp32", 3), ("fp16", 30)],  # of 1536: 0.2 %, and 2 %
)
def test_symbols_may_flip_by_one_within_the_allowance(precision: str, allowed: int, split: Split):
    assert not failed(checks_with(split, "h_a", flip(allowed), LARGE, precision))
    assert failed(checks_with(split, "h_a", flip(allowed + 1), LARGE, precision)) == ["h_a"]


def test_symbol_that_moves_by_two_fails(split: Split):
    assert failed(checks_with(split, "h_a", flip(1, by=2), LARGE)) == ["h_a"]


def test_float32_error_is_relative_to_the_largest_value_above_one(split: Split):
    def scaled(outputs: dict[str, Array]) -> None:
        outputs["y"] += np.float32(1e-4)

    def off(outputs: dict[str, Array]) -> None:
        outputs["hyper_means"] = outputs["hyper_means"] + np.float32(1e-4)

    (check,) = [c for c in checks_with(split, "g_a", scaled) if c.graph == "g_a"]
    assert check.passed  # y reaches some units
    assert 0 < check.error < 5e-5
    assert failed(checks_with(split, "h_s", off)) == ["h_s"]


def test_half_precision_error_is_the_relative_root_mean_square(split: Split):
    def scale(factor: float) -> Change:
        return lambda outputs: outputs.update(y=outputs["y"] * np.float32(factor))

    (check,) = [c for c in checks_with(split, "g_a", scale(1.01), precision="fp16") if c.graph == "g_a"]
    assert check.error == pytest.approx(0.01, rel=1e-3)
    assert check.passed
    assert failed(checks_with(split, "g_a", scale(1.03), precision="fp16")) == ["g_a"]


def test_error_lists_four_failures_and_counts_all():
    checks = [Check(f"step_{i:02d}", SMALL, 0.5, i == 0) for i in range(7)]
    with pytest.raises(ExportError) as caught:
        require_passed(checks)
    assert str(caught.value).startswith("6 checks against PyTorch failed: graph step_01 at 64x64: 0.5; ")
    assert str(caught.value).count("graph") == 4


def test_checking_leaves_the_model_as_it_is(split: Split):
    values = {s.spec.name: copy.deepcopy(s.module.state_dict()) for s in split.subgraphs}
    verify(split, _Modules(split).open, dict.fromkeys(values, "fp32"), [SMALL])
    for subgraph in split.subgraphs:
        for key, value in subgraph.module.state_dict().items():
            assert torch.equal(values[subgraph.spec.name][key], value)
