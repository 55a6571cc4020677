"""How far transforms look, and that tiles give what one pass gives: all three models, small, at their real depths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mlic.export.models.slices import SliceWidths
from mlic.export.models.stf import Stf, StfWidths
from mlic.export.models.wacnn import Wacnn
from mlic.export.split.mlicpp import split_mlicpp
from mlic.export.split.slices import split_stf, split_wacnn
from mlic.export.tiling import derive_tiling, derive_tilings, reach
from mlic.runtime.arrays import Array
from mlic.runtime.image import Frame
from mlic.runtime.manifest import DEFAULT_SIZES, GraphSpec, Padding, TensorSpec, Tiling
from mlic.runtime.tiles import Box
from mlic.runtime.transforms import Transforms
from tests.small_model import small_model

SLICES = SliceWidths(
    m=64, n=8, num_slices=4, support=2, h_a=(16, 16, 16, 16), h_s=(8, 8, 16, 16), stack=(24, 16, 16, 8)
)
MODELS: dict[str, Callable[[], Any]] = {
    "mlicpp": lambda: split_mlicpp(small_model()),
    "stf": lambda: split_stf(Stf(StfWidths(8, heads=(1, 2, 2, 4)), SLICES).eval()),
    "wacnn": lambda: split_wacnn(Wacnn(16, SLICES).eval()),
}
# Pixels, by hand from the layers; for STF and WACNN windows of 64 pixels at stride 16 are most of it.
REACHES = {"mlicpp": (64, 104), "stf": (160, 129), "wacnn": (144, 130)}
SIZES = [(1, 1), (577, 333), (320, 900), (705, 641)]


class Module:
    """A graph run by PyTorch."""

    def __init__(self, subgraph: Any) -> None:
        self.spec, self.module = subgraph.spec, subgraph.module
        self.runs = 0

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.runs += 1
        (given,), (result,) = self.spec.inputs, self.spec.outputs
        with torch.no_grad():
            return {result: self.module(torch.from_numpy(np.ascontiguousarray(inputs[given]))).numpy()}


class Model:
    """The transforms of a small model and what was found out about them."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.name = name
        self.graphs = {s.spec.name: Module(s) for s in MODELS[name]().subgraphs if s.spec.name in ("g_a", "g_s")}
        self.specs = {key: graph.spec for key, graph in self.graphs.items()}
        self.tilings = derive_tilings(self.specs, self.run)

    def run(self, graph: str, values: Array) -> Array:
        (given,) = self.specs[graph].inputs
        (result,) = self.graphs[graph].run({given: values}).values()
        return result

    def transforms(self, tile_pixels: int, **changes: Any) -> Transforms:
        tilings = {key: dataclasses.replace(tiling, **changes) for key, tiling in self.tilings.items()}
        graphs = {key: SimpleNamespace(tiling=tiling) for key, tiling in tilings.items()}
        manifest: Any = SimpleNamespace(
            padding=Padding(64, "centre" if self.name != "mlicpp" else "top-left", "edge"),
            graphs=graphs,
            sizes=DEFAULT_SIZES,
        )
        return Transforms(manifest, self.graphs["g_a"], self.graphs["g_s"], tile_pixels)

    def frame(self, size: tuple[int, int]) -> Frame:
        return Frame.around(*size, self.transforms(1)._padding)


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return Model(request.param)


def difference(model: Model, size: tuple[int, int], make_photo, **changes: Any) -> tuple[float, float, int]:
    """Return how far tiles are from one pass, over the range of each transform's values; pixels in grey levels."""
    frame, pixels = model.frame(size), make_photo(*size)
    whole, tiled = model.transforms(1 << 30), model.transforms(500 * 500, **changes)
    y, again = (np.array(each.analyse(pixels, frame, print)) for each in (whole, tiled))
    latent = np.rint(y * np.float32(10 / np.abs(y).max()))  # far from zero, as latents of trained models are
    box = Box(0, 0, *size)
    pictures = []
    for each in (whole, tiled):
        pictures.append(np.empty((*size, 3), np.uint8))
        each.synthesise(latent, frame, box, pictures[-1], print)
    levels = int(np.abs(pictures[0].astype(int) - pictures[1]).max())
    x_hat = model.run("g_s", latent)
    worst = 0.0
    for tile, _ in tiled._tiles_in("g_s", frame, box):
        computed, kept = tile.computed.divided(16), tile.kept
        part = model.run("g_s", np.ascontiguousarray(latent[..., computed.rows, computed.columns]))
        inside = kept.moved(-tile.computed.top, -tile.computed.left)
        gap = part[..., inside.rows, inside.columns] - x_hat[..., kept.rows, kept.columns]
        worst = max(worst, float(np.abs(gap).max() / np.abs(x_hat).max()))
    return float(np.abs(again - y).max() / np.abs(y).max()), worst, levels


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_give_what_one_pass_gives(model: Model, size, make_photo):
    analysed, synthesised, levels = difference(model, size, make_photo)
    assert analysed <= 1e-5
    assert synthesised <= 1e-5
    assert levels <= 1  # a value next to a half may be rounded either way


def test_pictures_are_cut_for_these_tests(model: Model):
    for size, counts in ((SIZES[0], (1, 1)), (SIZES[3], (2, 4))):
        frame, transforms = model.frame(size), model.transforms(500 * 500)
        assert transforms.num_analysis_tiles(frame) >= counts[0]
        assert transforms.num_synthesis_tiles(frame, Box(0, 0, *size)) >= counts[1]


def test_with_less_halo_it_shows(model: Model, make_photo):
    halo = 16 if model.name == "mlicpp" else 0
    analysed, synthesised, _ = difference(model, SIZES[3], make_photo, halo=halo)
    assert min(analysed, synthesised) > 1e-4


def test_reach_is_that_of_the_layers(model: Model):
    found = []
    for name, graph in model.graphs.items():
        (tensor,) = graph.spec.inputs.values()
        found.append(
            reach(
                graph.spec,
                lambda values, name=name: model.run(name, values),
                lambda side, tensor=tensor: np.ones(tensor.concrete(side, side), np.float32),
            )
        )
    assert tuple(found) == REACHES[model.name]


def test_multiples_are_those_of_the_windows_and_halos_hold_the_reach_or_what_matters_of_it(model: Model):
    for tiling, found in zip(model.tilings.values(), REACHES[model.name], strict=True):
        assert tiling.multiple == (16 if model.name == "mlicpp" else 64)
        up = -(-found // tiling.multiple) * tiling.multiple
        assert tiling.halo in ((up,) if model.name == "mlicpp" else (up, up - 64))


MAP = GraphSpec(
    "g_a",
    {"x": TensorSpec("float32", (1, 3, "height", "width"))},
    {"y": TensorSpec("float32", (1, 3, "height/16", "width/16"))},
    exact=False,
)


def blocks(values: Array) -> Array:
    rows, columns = (side // 16 for side in values.shape[2:])
    return values.reshape(1, 3, rows, 16, columns, 16).mean(axis=(3, 5))


def noise(side: int) -> Array:
    return np.random.default_rng(side).uniform(0, 1, (1, 3, side, side)).astype(np.float32)


def test_a_graph_of_blocks_needs_no_halo():
    assert derive_tiling(MAP, blocks, noise) == Tiling(16, 0)


def test_a_graph_that_looks_one_block_to_the_left_needs_one():
    def left(values: Array) -> Array:
        y = blocks(values)
        return y + np.pad(y, ((0, 0), (0, 0), (0, 0), (1, 0)))[..., :-1]

    assert derive_tiling(MAP, left, noise) == Tiling(16, 16)


def test_a_graph_that_looks_everywhere_runs_in_one_pass():
    assert derive_tiling(MAP, lambda values: blocks(values) + values.mean(), noise) is None


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_graph_whose_values_depend_on_where_a_block_lies_is_cut_there(period):
    def placed(values: Array) -> Array:
        y = blocks(values)
        return y * (1 + np.arange(y.shape[2]) % period)[:, None].astype(np.float32)

    expected = Tiling(16 * period, 0) if period < 8 else None
    assert derive_tiling(MAP, placed, noise) == expected


@pytest.mark.parametrize("window", [2, 4])
def test_windows_are_cut_where_they_end_however_little_their_values_matter(window):
    def attend(values: Array) -> Array:
        y = blocks(values)
        rows, columns = (side // window for side in y.shape[2:])
        means = y.reshape(1, 3, rows, window, columns, window).mean(axis=(3, 5), keepdims=True)
        return y + np.float32(1e-9) * np.broadcast_to(means, (1, 3, rows, window, columns, window)).reshape(y.shape)

    assert derive_tiling(MAP, attend, noise) == Tiling(16 * window, 0)


def test_a_size_that_does_not_fit_the_windows_is_no_multiple():
    def windows(values: Array) -> Array:
        if values.shape[2] % 64:
            raise RuntimeError("shape")
        return blocks(values)

    assert derive_tiling(MAP, windows, noise) == Tiling(64, 0)
