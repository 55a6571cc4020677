"""MLIC++ against activations of the official code with the same weights: current, old and reduced."""

import copy
import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mlic.export.models.checkerboard import anchor_mask, squeeze, unsqueeze
from mlic.export.models.mlicpp import Mlicpp, MlicppWidths
from mlic.export.official_tables import fill_tables
from mlic.export.split.base import Split
from mlic.export.split.local_attention import PackedLocalContext, WindowGeometry
from mlic.export.split.mlicpp import split_mlicpp
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

MODELS = ("mlicpp", "mlicpp_old", "mlicpp_tiny")
SLIM = MlicppWidths(n=16, m=64, entropy_parameters=(24, 20, 16), lrp=(20, 12), channel_context=(12, 10))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=[pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in MODELS])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> Mlicpp:
    state = filled(name)
    result = Mlicpp.from_state_dict(state).eval()
    missing, unexpected = result.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {key for key, _ in result.named_buffers()}
    return result


@pytest.fixture(scope="module", params=["{}_128x192.npz", "{}_golden_seed1_100x150.npz"])
def golden(request: pytest.FixtureRequest, name: str) -> Golden:
    arrays = load_golden(request.param.format(name))
    return arrays | {key.removesuffix("_pad"): arrays[key] for key in ("x_pad", "x_hat_pad") if key in arrays}


@pytest.fixture(scope="module")
def split(model: Mlicpp) -> Split:
    return split_mlicpp(model)


def test_state_dict_has_the_official_keys_shapes_and_types(name: str, model: Mlicpp):
    assert state_of(model) == official_state(name)


def test_default_widths_are_the_official_ones():
    assert Mlicpp.from_state_dict(filled("mlicpp")).widths == MlicppWidths()


def test_weights_are_those_of_the_reference(model: Mlicpp, golden: Golden):
    assert digest(dict(model.named_parameters())) == golden["fill_sha256"].tobytes()


def test_transforms_match_the_reference(model: Mlicpp, golden: Golden):
    y = model.g_a(torch.from_numpy(golden["x"]))
    assert largest_difference(y, golden["y"]) <= 5e-5
    assert largest_difference(model.h_a(torch.from_numpy(golden["y"])), golden["z"]) <= 5e-5
    assert largest_difference(model.g_s(torch.from_numpy(golden["y_hat"])), golden["x_hat"]) <= 1e-5


def test_forward_pass_gives_the_symbols_and_indexes_of_the_reference(model: Mlicpp, golden: Golden):
    result = model(torch.from_numpy(golden["x"]))
    z_symbols = torch.round(result.z - model.entropy_bottleneck.medians.reshape(1, -1, 1, 1))
    assert np.array_equal(z_symbols.numpy(), golden["z_symbols"])
    symbols = torch.round(result.y - result.means)
    assert np.array_equal(_stream_order(symbols).numpy(), golden["stream_symbols"])
    assert np.array_equal(indexes_of(_stream_order(result.scales)), golden["stream_indexes"])
    assert largest_difference(result.y_hat, golden["y_hat"]) <= 5e-5
    assert bits(result.y_likelihoods) == pytest.approx(float(golden["bits_y_likelihood"]), rel=1e-6)
    assert bits(result.z_likelihoods) == pytest.approx(float(golden["bits_z_likelihood"]), rel=1e-6)


@pytest.mark.parametrize("file", ["{}_128x192.npz", "{}_golden_seed1.npz"])
def test_modules_match_the_probes(name: str, model: Mlicpp, file: str):
    golden = load_golden(file.format(name))
    if not any(key.startswith("probe/") for key in golden):
        pytest.skip("this reference holds no probes")
    # The official code adds the skip path to the normalised values in place: what it recorded is the block's output.
    golden = {re.sub(r"(probe/.*)\.i?gdn", r"\1", key): value for key, value in golden.items()}
    with recorded_probes(model, golden) as found:
        model(torch.from_numpy(golden["x"]))
    assert {key for key in golden if key.startswith("probe/")} == set(found)
    for key, values in found.items():
        # Values reach some tens, where one unit in the last place is 2e-6.
        np.testing.assert_allclose(values.numpy(), golden[key], atol=5e-5, rtol=1e-5, err_msg=key)


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


def test_official_tables_are_equal_to_the_last_entry(model: Mlicpp, golden: Golden):
    bottleneck = copy.deepcopy(model.entropy_bottleneck)
    fill_tables(bottleneck)
    assert np.array_equal(bottleneck._quantized_cdf, golden["eb_quantized_cdf"])
    assert np.array_equal(bottleneck._offset, golden["eb_offset"])
    assert np.array_equal(bottleneck._cdf_length, golden["eb_cdf_length"])


def test_split_model_gives_the_symbols_of_the_whole_one(model: Mlicpp, split: Split, golden: Golden):
    x = torch.from_numpy(golden["x"])
    height, width = x.shape[2:]
    state = {"x": x}
    for subgraph in split.subgraphs:
        spec = subgraph.spec
        advance(split, subgraph, state)
        shapes = {k: tuple(state[k].shape) for k in spec.outputs}
        assert shapes == {k: tensor.concrete(height, width) for k, tensor in spec.outputs.items()}
    symbols = np.concatenate([state[step.symbols].numpy().ravel() for step in split.steps])
    indexes = np.concatenate([indexes_of(state[step.scales]).ravel() for step in split.steps])
    assert np.array_equal(symbols, golden["stream_symbols"])
    assert np.array_equal(indexes, golden["stream_indexes"])
    assert largest_difference(state["y_hat"], golden["y_hat"]) <= 5e-5
    assert largest_difference(state["x_hat"], golden["x_hat"]) <= 1e-5


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


@pytest.mark.parametrize("old", [False, True])
def test_widths_are_read_off_a_state_dict(old: bool):
    widths = MlicppWidths(n=16, m=64, old=True) if old else SLIM
    model = Mlicpp(widths)
    read = Mlicpp.from_state_dict(model.state_dict())
    assert read.widths.lrp_widths(1) == widths.lrp_widths(1)
    assert (read.widths.n, read.widths.m, read.widths.old) == (16, 64, old)
    read.load_state_dict(model.state_dict())


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


def _stream_order(full: torch.Tensor) -> torch.Tensor:
    """Return [1, M, h, w] as the stream has it: slice by slice, packed anchors, then packed nonanchors."""
    halves = [squeeze(part, anchor).flatten() for part in full.split(32, dim=1) for anchor in (True, False)]
    return torch.cat(halves)
