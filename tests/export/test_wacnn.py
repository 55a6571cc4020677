"""WACNN: widths, windows, and what its split rewrites; see test_goldens.py for the model as a whole."""

from collections.abc import Iterator

import pytest
import torch

from mlic.export.models.slices import SliceWidths
from mlic.export.models.wacnn import Wacnn
from mlic.export.split.base import Split
from mlic.export.split.slices import split_wacnn
from mlic.export.split.state import advance
from tests.reference import (
    filled,
    picture,
)

SMALL_SLICES = SliceWidths(
    m=64, n=8, num_slices=4, support=2, h_a=(16, 16, 16, 16), h_s=(8, 8, 16, 16), stack=(24, 16, 16, 8)
)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model() -> Wacnn:
    state = filled("wacnn")
    result = Wacnn.from_state_dict(state).eval()
    missing, unexpected = result.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {name for name, _ in result.named_buffers()}
    return result


@pytest.fixture(scope="module")
def split(model: Wacnn) -> Split:
    return split_wacnn(model)


def test_steps_code_every_channel_once_in_order(model: Wacnn, split: Split):
    assert [step.graph for step in split.steps] == [f"step_{i:02}" for i in range(model.widths.support + 1)]
    channels = [c for step in split.steps for c in range(*step.channels)]
    assert channels == list(range(model.widths.m))
    assert all(step.positions == "all" for step in split.steps)


def test_splitting_leaves_the_model_as_it_is():
    model = Wacnn(16, SMALL_SLICES)
    values = {key: value.clone() for key, value in model.state_dict().items()}
    modules = dict(model.named_modules())
    split_wacnn(model)
    assert dict(model.named_modules()) == modules
    assert all(module.training for module in modules.values())
    assert all(torch.equal(values[key], value) for key, value in model.state_dict().items())


def test_pictures_of_a_batch_do_not_touch(model: Wacnn):
    pictures = torch.cat([picture(64, 128, seed=1), picture(64, 128, seed=2)])
    together = model.synthesis(model.analysis(pictures))
    apart = torch.cat([model.synthesis(model.analysis(x[None])) for x in pictures])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)  # sums in another order


def test_widths_are_read_off_a_state_dict():
    model = Wacnn(16, SMALL_SLICES)
    read = Wacnn.from_state_dict(model.state_dict())
    assert read.widths == SMALL_SLICES
    read.load_state_dict(model.state_dict())


@torch.enable_grad()
def test_training_pass_is_noisy_in_the_likelihoods_alone_and_reaches_every_parameter():
    torch.manual_seed(0)
    model = Wacnn(16, SMALL_SLICES)
    x = picture(64, 64)
    result = model(x, noise=True)
    again = model(x, noise=True)
    assert torch.equal(result.y_hat, again.y_hat)
    assert not torch.equal(result.y_likelihoods, again.y_likelihoods)
    rate = -torch.log2(result.y_likelihoods).sum() - torch.log2(result.z_likelihoods).sum()
    (rate + (result.x_hat - x).square().mean()).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None]
    assert untouched == ["entropy_bottleneck.quantiles"]  # these have a loss of their own


def test_a_small_model_splits_too():
    torch.manual_seed(0)
    model = Wacnn(16, SMALL_SLICES).eval()
    x = picture(64, 128)
    whole, state = model(x), {"x": x}
    split = split_wacnn(model)
    for subgraph in split.subgraphs:
        advance(split, subgraph, state)
    torch.testing.assert_close(state["x_hat"], whole.x_hat, atol=1e-5, rtol=0)  # sums in another order
