"""STF: widths, windows, and what its split rewrites; see test_goldens.py for the model as a whole."""

from collections.abc import Iterator

import pytest
import torch

from mlic.export.models.slices import SliceWidths
from mlic.export.models.stf import Stf, StfWidths, SwinBlock
from mlic.export.models.swin import FoldedWindowAttention, window_order
from mlic.export.split.base import Split
from mlic.export.split.slices import split_stf
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
