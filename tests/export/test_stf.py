"""STF against activations of the official code with the same weights.

Tolerances are those that an independent re-implementation kept: 5e-5 for y and z, 2e-5 within the entropy
model when it is given the reference's y_hat, 1e-5 for the picture.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mlic.export.models.slices import SliceWidths
from mlic.export.models.stf import Stf, StfWidths, SwinBlock
from mlic.export.models.swin import FoldedWindowAttention, window_order
from mlic.export.split.base import Split
from mlic.export.split.slices import split_stf
from mlic.export.split.state import advance
from tests.reference import (
    Golden,
    bits,
    digest,
    filled,
    indexes_of,
    largest_difference,
    load_golden,
    official_state,
    picture,
    recorded_probes,
    state_of,
)

SMALL, FULL, PADDED = "stf_128x192.npz", "stf_golden_seed1.npz", "stf_golden_seed1_100x150.npz"
SMALL_SLICES = SliceWidths(
    m=64, n=8, num_slices=4, support=2, h_a=(16, 16, 16, 16), h_s=(8, 8, 16, 16), stack=(24, 16, 16, 8)
)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def model() -> Stf:
    state = filled("stf")
    result = Stf.from_state_dict(state).eval()
    missing, unexpected = result.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {name for name, _ in result.named_buffers()}
    return result


@pytest.fixture(scope="module")
def split(model: Stf) -> Split:
    return split_stf(model)


@pytest.fixture(scope="module", params=[SMALL, PADDED])
def golden(request: pytest.FixtureRequest) -> Golden:
    arrays = load_golden(request.param)
    return arrays | {name.removesuffix("_pad"): arrays[name] for name in ("x_pad", "x_hat_pad") if name in arrays}


def test_state_dict_has_the_official_keys_shapes_and_types():
    assert state_of(Stf()) == official_state("stf")


def test_weights_are_those_of_the_reference(model: Stf, golden: Golden):
    assert digest(dict(model.named_parameters())) == golden["fill_sha256"].tobytes()


def test_transforms_match_the_reference(model: Stf, golden: Golden):
    y = model.analysis(torch.from_numpy(golden["x"]))
    assert largest_difference(y, golden["y"]) <= 5e-5
    assert largest_difference(model.h_a(torch.from_numpy(golden["y"])), golden["z"]) <= 5e-5
    assert largest_difference(model.synthesis(torch.from_numpy(golden["y_hat"])), golden["x_hat"]) <= 1e-5


def test_forward_pass_gives_the_symbols_and_indexes_of_the_reference(model: Stf, golden: Golden):
    result = model(torch.from_numpy(golden["x"]))
    z_symbols = torch.round(result.z - model.entropy_bottleneck.medians.reshape(1, -1, 1, 1))
    assert np.array_equal(z_symbols.numpy(), golden["z_symbols"])
    assert np.array_equal(torch.round(result.y - result.means).numpy().ravel(), golden["stream_symbols"])
    assert np.array_equal(indexes_of(result.scales).ravel(), golden["stream_indexes"])
    assert largest_difference(result.y_hat, golden["y_hat"]) <= 5e-5
    assert bits(result.y_likelihoods) == pytest.approx(float(golden["bits_y_likelihood"]), rel=1e-6)
    assert bits(result.z_likelihoods) == pytest.approx(float(golden["bits_z_likelihood"]), rel=1e-6)


@pytest.mark.parametrize("name", [FULL, PADDED])
def test_each_slice_matches_the_reference_given_the_ones_before(model: Stf, name: str):
    golden = load_golden(name)
    z_hat, y, y_hat = (torch.from_numpy(golden[key]) for key in ("z_hat", "y", "y_hat"))
    latent_means, latent_scales = model.hyper_synthesis(z_hat)
    assert largest_difference(latent_means, golden["latent_means"]) <= 5e-5
    assert largest_difference(latent_scales, golden["latent_scales"]) <= 5e-5
    finished = y_hat.split(32, dim=1)
    for i, y_slice in enumerate(y.split(32, dim=1)):
        means, scales = model.means_and_scales(i, latent_means, latent_scales, finished[:i])
        assert largest_difference(means, golden[f"s{i:02}_mu"]) <= 2e-5, i
        assert largest_difference(scales, golden[f"s{i:02}_scale"]) <= 2e-5, i
        decoded = torch.round(y_slice - means) + means
        residual = model.residual(i, latent_means, finished[:i], decoded)
        assert largest_difference(residual, golden[f"s{i:02}_lrp_raw"]) <= 2e-5, i


@pytest.mark.parametrize("name", [SMALL, FULL])
def test_modules_match_the_probes(model: Stf, name: str):
    golden = load_golden(name)
    with recorded_probes(model, golden) as found:
        model(torch.from_numpy(golden["x"]))
    assert {key for key in golden if key.startswith("probe/")} == set(found)
    for key, values in found.items():
        # Values reach some tens, where one unit in the last place is 2e-6.
        np.testing.assert_allclose(values.numpy(), golden[key], atol=5e-5, rtol=1e-5, err_msg=key)


def test_split_model_gives_the_symbols_of_the_whole_one(model: Stf, split: Split, golden: Golden):
    x = torch.from_numpy(golden["x"])
    whole = model(x)
    height, width = x.shape[2:]
    steps = {step.graph: step for step in split.steps}
    state, symbols = {"x": x}, []
    for subgraph in split.subgraphs:
        spec = subgraph.spec
        assert {k: tuple(state[k].shape) for k in spec.inputs} == {
            k: tensor.concrete(height, width) for k, tensor in spec.inputs.items()
        }
        advance(split, subgraph, state)
        assert {k: tuple(state[k].shape) for k in spec.outputs} == {
            k: tensor.concrete(height, width) for k, tensor in spec.outputs.items()
        }
        if spec.name in steps:
            step = steps[spec.name]
            symbols.append(state[step.symbols])
            assert np.array_equal(indexes_of(state[step.scales]), indexes_of(whole.scales[:, slice(*step.channels)]))
    assert np.array_equal(state["z_symbols"].numpy(), golden["z_symbols"])
    assert torch.equal(torch.cat(symbols, dim=1), torch.round(whole.y - whole.means))
    torch.testing.assert_close(state["y_hat"], whole.y_hat, atol=5e-5, rtol=0)  # float order, values to some tens
    torch.testing.assert_close(state["x_hat"], whole.x_hat, atol=1e-5, rtol=0)


def test_steps_code_every_channel_once_in_order(model: Stf, split: Split):
    assert [step.graph for step in split.steps] == [f"step_{i:02}" for i in range(model.widths.support + 1)]
    channels = [c for step in split.steps for c in range(*step.channels)]
    assert channels == list(range(model.widths.m))
    assert all(step.positions == "all" for step in split.steps)


def test_splitting_leaves_the_model_as_it_is():
    model = Stf(StfWidths(8, heads=(1, 2, 2, 4)), SMALL_SLICES)
    values = {key: value.clone() for key, value in model.state_dict().items()}
    modules = dict(model.named_modules())
    split_stf(model)
    assert dict(model.named_modules()) == modules
    assert all(module.training for module in modules.values())
    assert all(torch.equal(values[key], value) for key, value in model.state_dict().items())


def test_pictures_of_a_batch_do_not_touch(model: Stf):
    pictures = torch.cat([picture(64, 128, seed=1), picture(64, 128, seed=2)])
    together = model.synthesis(model.analysis(pictures))
    apart = torch.cat([model.synthesis(model.analysis(x[None])) for x in pictures])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)  # sums in another order


@pytest.mark.parametrize("window", [2, 4, 7, 8])
def test_widths_are_read_off_a_state_dict(window: int):
    transforms = StfWidths(8, depths=(1, 2, 3, 2), heads=(1, 2, 2, 4), window=window, mlp_ratio=2.0)
    model = Stf(transforms, SMALL_SLICES)
    read = Stf.from_state_dict(model.state_dict())
    assert (read.transforms, read.widths) == (transforms, SMALL_SLICES)
    read.load_state_dict(model.state_dict())


@torch.enable_grad()
def test_training_pass_is_noisy_in_the_likelihoods_alone_and_reaches_every_parameter():
    torch.manual_seed(0)
    model = Stf(StfWidths(8, heads=(1, 2, 2, 4)), SMALL_SLICES)
    x = picture(64, 64)
    result = model(x, noise=True)
    again = model(x, noise=True)
    assert torch.equal(result.y_hat, again.y_hat)
    assert not torch.equal(result.y_likelihoods, again.y_likelihoods)
    rate = bits_of_training(result.y_likelihoods) + bits_of_training(result.z_likelihoods)
    (rate + (result.x_hat - x).square().mean()).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None]
    assert untouched == ["entropy_bottleneck.quantiles"]  # these have a loss of their own


def bits_of_training(likelihoods: torch.Tensor) -> torch.Tensor:
    return -torch.log2(likelihoods).sum()


def plain_attention(block: SwinBlock, x: torch.Tensor) -> torch.Tensor:
    """Window attention of a map [B, H, W, C] the long way: pad, roll, mask by regions, cell by cell."""
    attn = block.attn
    window, shift = attn.window, attn.shift
    batch, rows, columns, channels = x.shape
    padded = torch.nn.functional.pad(x, (0, 0, 0, -columns % window, 0, -rows % window))
    height, width = padded.shape[1:3]
    rolled = torch.roll(padded, (-shift, -shift), (1, 2))

    def regions(size: int) -> torch.Tensor:
        place = torch.arange(size)
        return (place >= size - window).long() + (place >= size - shift).long() if shift else 0 * place

    labels = 3 * regions(height)[:, None] + regions(width)
    out = torch.zeros_like(rolled)
    for top in range(0, height, window):
        for left in range(0, width, window):
            place = (slice(None), slice(top, top + window), slice(left, left + window))
            cells = rolled[place].reshape(batch, window * window, 3 * channels // 3)
            label = labels[place[1:]].reshape(-1)
            q, k, v = attn.qkv(cells).chunk(3, dim=-1)
            bias = attn.relative_position_bias_table[attn.relative_position_index]
            results = []
            for head in range(attn.heads):
                d = channels // attn.heads
                mine = slice(head * d, (head + 1) * d)
                logits = q[..., mine] @ k[..., mine].transpose(1, 2) * d**-0.5 + bias[..., head]
                logits = logits - 100.0 * (label[:, None] != label)
                results.append(torch.softmax(logits, -1) @ v[..., mine])
            out[place] = attn.proj(torch.cat(results, -1)).reshape(batch, window, window, channels)
    return torch.roll(out, (shift, shift), (1, 2))[:, :rows, :columns]


@pytest.mark.parametrize(("window", "shift"), [(4, 0), (4, 2), (7, 3), (8, 4)])
@pytest.mark.parametrize("size", [(4, 4), (8, 12), (20, 8)])
def test_windows_are_padded_rolled_and_masked_as_described(window: int, shift: int, size: tuple[int, int]):
    torch.manual_seed(1)
    block = SwinBlock(8, StfWidths(window=window), heads=2, shift=shift)
    block.attn.relative_position_bias_table.normal_()
    shape = (2, *size)
    x = torch.randn(*shape, 8)
    order = window_order(x, shape, window, shift, multiple=4)
    tokens = x.reshape(-1, 8)
    for attention in (block.attn, FoldedWindowAttention(block.attn)):
        found = order.map(attention(order.windows(tokens), order.kinds)).reshape(x.shape)
        torch.testing.assert_close(found, plain_attention(block, x), atol=1e-6, rtol=0)  # sums in another order
