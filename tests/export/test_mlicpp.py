"""MLIC++: context modules, widths, and what its split rewrites; see test_goldens.py for the model as a whole."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from mlic.export.models.checkerboard import anchor_mask, squeeze, unsqueeze
from mlic.export.models.mlicpp import Mlicpp, MlicppWidths
from mlic.export.split.checkerboard import pack, spread
from mlic.export.split.local_attention import PackedLocalContext, WindowGeometry
from mlic.export.split.mlicpp import split_mlicpp
from tests.reference import (
    filled,
    largest_difference,
    load_golden,
    picture,
)

SLIM = MlicppWidths(n=16, m=64, entropy_parameters=(24, 20, 16), lrp=(20, 12), channel_context=(12, 10))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_default_widths_are_the_official_ones():
    assert Mlicpp.from_state_dict(filled("mlicpp")).widths == MlicppWidths()


def test_context_modules_match_the_reference_given_its_latent():
    golden = load_golden("mlicpp_tiny_128x192.npz")
    state = filled("mlicpp_tiny")
    model = Mlicpp.from_state_dict(state).eval()
    model.load_state_dict(state, strict=False)
    finished = torch.from_numpy(golden["y_hat"]).split(32, dim=1)
    anchors = torch.from_numpy(golden["s01_y_anchor_hat"])
    found = {
        "local_ctx": model.at("local_context", 1)(anchors),
        "channel_ctx": model.at("channel_context", 1)(finished[0]),
        "inter_ctx": model.at("global_inter_context", 1)(finished[0]),
        "intra_ctx": model.at("global_intra_context", 1)(finished[0], anchors),
    }
    for key, value in found.items():
        assert largest_difference(value, golden[f"s01_{key}"]) <= 2e-5, key


@pytest.mark.parametrize(("height", "width"), [(4, 4), (4, 12), (12, 4), (8, 20)])
def test_window_attention_from_the_anchors_alone_equals_the_unfolded_one(height: int, width: int):
    model = Mlicpp.from_state_dict(filled("mlicpp_tiny"))
    model.load_state_dict(filled("mlicpp_tiny"), strict=False)
    generator = torch.Generator().manual_seed(height * width)
    anchors = unsqueeze(3 * torch.randn(1, 32, height, width // 2, generator=generator), anchor=True)
    for index in range(3):
        source = model.at("local_context", index)
        packed = PackedLocalContext(source).eval()
        found = packed(squeeze(anchors, anchor=True), *WindowGeometry()(anchors))
        expected = squeeze(source(anchors), anchor=False)
        # Values reach some units; sums of 25 products in another order.
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_packing_a_half_and_putting_it_back_keeps_it():
    full = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    mask = anchor_mask(full)
    assert torch.equal(unsqueeze(squeeze(full, anchor=True), anchor=True), full * mask)
    assert torch.equal(unsqueeze(squeeze(full, anchor=False), anchor=False), full * (1 - mask))
    assert mask[0, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]  # anchors: row + column odd


def test_packing_with_masks_equals_packing_by_index():
    full = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(5))
    mask = anchor_mask(full)
    for anchor, kept in ((True, mask), (False, 1 - mask)):
        packed = squeeze(full, anchor=anchor)
        assert torch.equal(pack(full, kept), packed)
        assert torch.equal(spread(packed, kept), unsqueeze(packed, anchor=anchor))


@pytest.mark.parametrize("old", [False, True])
def test_widths_are_read_off_a_state_dict(old: bool):
    widths = MlicppWidths(n=16, m=64, old=True) if old else SLIM
    model = Mlicpp(widths)
    read = Mlicpp.from_state_dict(model.state_dict())
    assert read.widths.lrp_widths(1) == widths.lrp_widths(1)
    assert (read.widths.n, read.widths.m, read.widths.old) == (16, 64, old)
    read.load_state_dict(model.state_dict())


def test_hidden_widths_of_the_hyper_synthesis_are_read_too():
    widths = replace(SLIM, h_s=(24, 36))
    read = Mlicpp.from_state_dict(Mlicpp(widths).state_dict())
    assert read.widths == widths
    read.load_state_dict(Mlicpp(widths).state_dict())


def test_coding_of_the_latents_alone_gives_what_the_whole_pass_does():
    model = Mlicpp(SLIM).eval()
    x = picture(64, 64)
    whole, latents = model(x), model.code(model.analysis(x))
    assert torch.equal(latents.y_hat, whole.y_hat)
    assert torch.equal(latents.y_likelihoods, whole.y_likelihoods)
    assert latents.x_hat.numel() == 0


def test_widths_that_make_no_slices_are_refused():
    with pytest.raises(ValueError, match="M is 48; expected a multiple of 32"):
        Mlicpp(MlicppWidths(m=48))


def test_splitting_leaves_the_model_as_it_is():
    model = Mlicpp(SLIM)
    values = {key: value.clone() for key, value in model.state_dict().items()}
    split_mlicpp(model)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(values[key], value) for key, value in model.state_dict().items())


@torch.enable_grad()
def test_training_pass_is_noisy_in_the_likelihoods_alone_and_reaches_every_parameter():
    torch.manual_seed(0)
    model = Mlicpp(SLIM)
    result, again = model(picture(64, 64), noise=True), model(picture(64, 64), noise=True)
    assert torch.equal(result.y_hat, again.y_hat)
    assert not torch.equal(result.y_likelihoods, again.y_likelihoods)
    rate = -torch.log2(result.y_likelihoods).sum() - torch.log2(result.z_likelihoods).sum()
    (rate + result.x_hat.square().mean()).backward()
    untouched = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert untouched == ["entropy_bottleneck.quantiles"]  # these have a loss of their own
