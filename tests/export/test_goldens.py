"""All models against activations of the official code with the same weights, at 128x192 and 100x150.

Tolerances are those that an independent re-implementation kept: 5e-5 for y and z, 2e-5 within the entropy model when it
is given the reference's y_hat, 1e-5 for the picture.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mlic.export.architectures import ARCHITECTURES, Architecture
from mlic.export.models.mlicpp import Mlicpp
from mlic.export.models.slices import SliceModel
from mlic.export.official_tables import fill_tables
from mlic.export.split.base import Split
from mlic.export.split.state import advance, part_of_y
from tests.reference import (
    Golden,
    bits,
    digest,
    filled,
    indexes_of,
    largest_difference,
    load_golden,
    official_state,
    recorded_probes,
    state_of,
)

MODELS = ("mlicpp", "mlicpp_old", "mlicpp_tiny", "stf", "wacnn")
SMALL, FULL, PADDED = "{}_128x192.npz", "{}_golden_seed1.npz", "{}_golden_seed1_100x150.npz"


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=[pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in MODELS])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def architecture(name: str) -> Architecture:
    return ARCHITECTURES[name.partition("_")[0]]


@pytest.fixture(scope="module")
def model(name: str, architecture: Architecture) -> Any:
    state = filled(name)
    result = architecture.build(state).eval()
    missing, unexpected = result.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {key for key, _ in result.named_buffers()}
    return result


@pytest.fixture(scope="module")
def split(model: Any, architecture: Architecture) -> Split:
    return architecture.split(model)


@pytest.fixture(scope="module", params=[SMALL, PADDED])
def golden(request: pytest.FixtureRequest, name: str) -> Golden:
    arrays = load_golden(request.param.format(name))
    return arrays | {key.removesuffix("_pad"): arrays[key] for key in ("x_pad", "x_hat_pad") if key in arrays}


def test_state_dict_has_the_official_keys_shapes_and_types(name: str, model: Any):
    assert state_of(model) == official_state(name)


def test_weights_are_those_of_the_reference(model: Any, golden: Golden):
    assert digest(dict(model.named_parameters())) == golden["fill_sha256"].tobytes()


def test_transforms_match_the_reference(model: Any, golden: Golden):
    y = model.analysis(torch.from_numpy(golden["x"]))
    assert largest_difference(y, golden["y"]) <= 5e-5
    assert largest_difference(model.h_a(torch.from_numpy(golden["y"])), golden["z"]) <= 5e-5
    assert largest_difference(model.synthesis(torch.from_numpy(golden["y_hat"])), golden["x_hat"]) <= 1e-5


def test_forward_pass_gives_the_symbols_and_indexes_of_the_reference(model: Any, split: Split, golden: Golden):
    result = model(torch.from_numpy(golden["x"]))
    z_symbols = torch.round(result.z - model.entropy_bottleneck.medians.reshape(1, -1, 1, 1))
    assert np.array_equal(z_symbols.numpy(), golden["z_symbols"])
    symbols = _stream_order(torch.round(result.y - result.means), split)
    assert np.array_equal(symbols.numpy(), golden["stream_symbols"])
    assert np.array_equal(indexes_of(_stream_order(result.scales, split)), golden["stream_indexes"])
    assert largest_difference(result.y_hat, golden["y_hat"]) <= 5e-5
    assert bits(result.y_likelihoods) == pytest.approx(float(golden["bits_y_likelihood"]), rel=1e-6)
    assert bits(result.z_likelihoods) == pytest.approx(float(golden["bits_z_likelihood"]), rel=1e-6)


@pytest.mark.parametrize("file", [SMALL, FULL])
def test_modules_match_the_probes(name: str, model: Any, file: str):
    golden = load_golden(file.format(name))
    if not any(key.startswith("probe/") for key in golden):
        pytest.skip("this reference holds no probes")
    # Where the official code adds a skip path in place, what it recorded of the last layer is the sum: in MLIC++ the
    # output of the block around the GDN, in WACNN that of the last convolution plus the unit's input.
    summed = ""
    if isinstance(model, Mlicpp):
        golden = {re.sub(r"(probe/.*)\.i?gdn", r"\1", key): value for key, value in golden.items()}
    elif name == "wacnn":
        summed = ".conv.4"
    with recorded_probes(model, golden, summed) as found:
        model(torch.from_numpy(golden["x"]))
    assert {key for key in golden if key.startswith("probe/")} == set(found)
    for key, values in found.items():
        # Values reach some tens, where one unit in the last place is 2e-6.
        np.testing.assert_allclose(values.numpy(), golden[key], atol=5e-5, rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("file", [FULL, PADDED])
def test_each_slice_matches_the_reference_given_the_ones_before(name: str, model: Any, file: str):
    if not isinstance(model, SliceModel):
        pytest.skip("slices without halves: STF and WACNN")
    golden = load_golden(file.format(name))
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


def test_official_tables_are_equal_to_the_last_entry(model: Any, golden: Golden):
    bottleneck = copy.deepcopy(model.entropy_bottleneck)
    fill_tables(bottleneck)
    assert np.array_equal(bottleneck._quantized_cdf, golden["eb_quantized_cdf"])
    assert np.array_equal(bottleneck._offset, golden["eb_offset"])
    assert np.array_equal(bottleneck._cdf_length, golden["eb_cdf_length"])


def test_split_model_gives_the_symbols_of_the_whole_one(split: Split, golden: Golden):
    x = torch.from_numpy(golden["x"])
    height, width = x.shape[2:]
    state = {"x": x}
    for subgraph in split.subgraphs:
        spec = subgraph.spec
        advance(split, subgraph, state)
        for tensors in (spec.inputs, spec.outputs):
            shapes = {key: tuple(state[key].shape) for key in tensors}
            assert shapes == {key: tensor.concrete(height, width) for key, tensor in tensors.items()}
    symbols = np.concatenate([state[step.symbols].numpy().ravel() for step in split.steps])
    indexes = np.concatenate([indexes_of(state[step.scales]).ravel() for step in split.steps])
    assert np.array_equal(state["z_symbols"].numpy(), golden["z_symbols"])
    assert np.array_equal(symbols, golden["stream_symbols"])
    assert np.array_equal(indexes, golden["stream_indexes"])
    assert largest_difference(state["y_hat"], golden["y_hat"]) <= 5e-5
    assert largest_difference(state["x_hat"], golden["x_hat"]) <= 1e-5


def _stream_order(full: torch.Tensor, split: Split) -> torch.Tensor:
    """Return [1, M, h, w] flattened as the stream has it."""
    return torch.cat([part_of_y(full, step).flatten() for step in split.steps])
