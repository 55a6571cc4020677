"""Frequency tables: ours against the density they stand for, the official ones against the official code's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr

from mlic.export.errors import ExportError
from mlic.export.models.entropy_bottleneck import EntropyBottleneck
from mlic.export.models.gaussian import GaussianConditional
from mlic.export.models.mlicpp import Mlicpp, MlicppWidths
from mlic.export.official_tables import fill_tables, quantized_cdf
from mlic.export.tables import MAX_SPAN, bottleneck_tables, default_scale_table, frequencies, gaussian_tables
from mlic.runtime.arrays import Array
from mlic.runtime.entropy_model import EntropyModel, FrequencyTables
from tests.reference import load_golden

TOTAL = 1 << 24


@pytest.fixture(scope="module")
def scales() -> NDArray[np.float32]:
    return default_scale_table()


@pytest.fixture(scope="module")
def gaussian(scales: NDArray[np.float32]) -> FrequencyTables:
    return FrequencyTables.from_arrays(gaussian_tables(scales), "y")


@pytest.fixture(scope="module")
def bottleneck() -> EntropyBottleneck:
    """Densities that differ from channel to channel, with quantiles found as training finds them."""
    torch.manual_seed(3)
    module = EntropyBottleneck(6)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith(("_matrix", "_factor")):
                parameter.add_(torch.randn_like(parameter), alpha=0.5)
        module._bias0 += torch.linspace(-8, 8, 6)[:, None, None]
        module.quantiles[:, 0] = torch.tensor([_quantiles(module, channel) for channel in range(6)])
    return module


def _quantiles(module: EntropyBottleneck, channel: int) -> list[float]:
    """Return where the logits of a channel pass the targets, by bisection."""
    found = []
    for target in module.target.tolist():
        low, high = -2000.0, 2000.0
        while high - low > 1e-4:
            middle = (low + high) / 2
            logits = module.logits_cumulative(torch.full((module.channels, 1, 1), middle, dtype=torch.float64))
            low, high = (middle, high) if float(logits[channel]) < target else (low, middle)
        found.append(low)
    return found


def centres(scales: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the scale whose table each index has: the geometric mean of its range."""
    values = scales.astype(np.float64)
    return np.concatenate([values[:1], np.sqrt(values[:-1] * values[1:])])


def entropy(probabilities: Array) -> float:
    return float(-(probabilities * np.log2(np.where(probabilities > 0, probabilities, 1))).sum())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300).filter(lambda values: sum(values) > 1e-6))
def test_frequencies_sum_to_2_to_the_24_and_none_is_zero(probabilities: list[float]):
    found = frequencies(np.array(probabilities))
    assert found.dtype == np.uint32
    assert int(found.sum()) == TOTAL
    assert found.min() >= 1
    exact = np.array(probabilities) / sum(probabilities) * (TOTAL - len(probabilities))
    assert np.abs(found - 1 - exact).max() <= 1


def test_frequencies_keep_the_order_of_equal_probabilities():
    assert frequencies(np.ones(3)).tolist() == [5592406, 5592405, 5592405]


def test_default_scales_are_those_of_the_official_code(scales: NDArray[np.float32]):
    assert np.array_equal(scales, load_golden("gaussian_tables.npz")["scale_table"])


def test_rows_pass_the_checks_of_the_runtime(scales: NDArray[np.float32], bottleneck: EntropyBottleneck):
    tables = {"scale_table": scales} | gaussian_tables(scales) | bottleneck_tables(bottleneck)
    model = EntropyModel.from_arrays(tables)
    assert (len(model.y), len(model.z)) == (64, 6)
    assert tables["medians"].dtype == np.float32


def test_gaussian_rows_are_symmetric_and_centred(gaussian: FrequencyTables):
    # Within one: what is left after rounding goes to one side.
    for index in range(len(gaussian)):
        symbols = gaussian.row(index)[:-1].astype(np.int64)
        assert len(symbols) == 1 - 2 * gaussian.offsets[index]
        assert symbols[-gaussian.offsets[index]] >= symbols.max() - 1
        assert np.abs(symbols - symbols[::-1]).max() <= 1


def test_gaussian_rows_end_where_the_official_ones_do(gaussian: FrequencyTables):
    golden = load_golden("gaussian_tables.npz")
    assert np.array_equal(gaussian.offsets, golden["offset"])
    assert np.array_equal(gaussian.lengths, golden["cdf_length"] - 1)  # of a CDF, one more than of frequencies


def test_escape_of_gaussian_rows_is_the_mass_outside(scales: NDArray[np.float32], gaussian: FrequencyTables):
    for index, sigma in enumerate(centres(scales)):
        outside = 2 * ndtr((gaussian.offsets[index] - 0.5) / sigma)
        assert outside <= 1e-9
        assert gaussian.row(index)[-1] == 1 + round(outside * TOTAL)


def test_gaussian_rows_cost_what_their_density_does(scales: NDArray[np.float32], gaussian: FrequencyTables):
    for index, sigma in enumerate(centres(scales)):
        row = gaussian.row(index)
        symbols = gaussian.offsets[index] + np.arange(len(row) - 1)
        mass = ndtr(-(np.abs(symbols) - 0.5) / sigma) - ndtr(-(np.abs(symbols) + 0.5) / sigma)
        mass = np.append(mass, 1 - mass.sum())
        cost = float(-(mass * np.log2(row / TOTAL)).sum())
        # An entry more for each symbol shows where the entropy itself is next to nothing.
        assert cost <= entropy(mass) * 1.0002 + len(row) / TOTAL, sigma


def test_row_at_the_centre_of_its_range_beats_one_at_its_end(scales: NDArray[np.float32], gaussian: FrequencyTables):
    index = 30
    row = gaussian.row(index) / TOTAL
    symbols = gaussian.offsets[index] + np.arange(len(row) - 1)
    ours = theirs = 0.0
    for scale in np.exp(np.linspace(math.log(scales[index - 1]), math.log(scales[index]), 20)):
        mass = np.diff(ndtr((np.append(symbols, symbols[-1] + 1) - 0.5) / scale))
        end = np.diff(ndtr((np.append(symbols, symbols[-1] + 1) - 0.5) / float(scales[index])))
        ours += float(-(mass * np.log2(row[:-1])).sum())
        theirs += float(-(mass * np.log2(end)).sum())
    assert ours < theirs


def test_bottleneck_rows_are_the_masses_around_the_median(bottleneck: EntropyBottleneck):
    arrays = bottleneck_tables(bottleneck)
    tables = FrequencyTables.from_arrays(arrays, "z")
    assert np.array_equal(arrays["medians"], bottleneck.quantiles[:, 0, 1].detach().numpy())
    assert len(set(tables.lengths.tolist())) > 1  # channels of different widths, or the loop proves little
    for channel in range(len(tables)):
        row = tables.row(channel)
        symbols = tables.offsets[channel] + np.arange(len(row) - 1)
        edges = bottleneck.medians[channel].double() + torch.tensor([*(symbols - 0.5), symbols[-1] + 0.5])
        logits = bottleneck.logits_cumulative(edges.repeat(6, 1, 1))[channel, 0].detach()
        cumulative = torch.sigmoid(logits).numpy()
        mass = np.append(np.diff(cumulative), cumulative[0] + 1 - cumulative[-1])
        assert mass[-1] <= 1.1e-9
        np.testing.assert_allclose(row.astype(np.float64), 1 + mass / mass.sum() * (TOTAL - len(row)), atol=1.01)
        assert -(mass * np.log2(row / TOTAL)).sum() <= entropy(mass) * 1.0002 + len(row) / TOTAL


def test_tail_of_each_bottleneck_row_is_its_own(bottleneck: EntropyBottleneck):
    # The official tables take every channel's upper tail behind the longest one; ours must not, or a short row's
    # escape would cost too much.
    with torch.no_grad():
        short = EntropyBottleneck(6)
        short.load_state_dict(bottleneck.state_dict())
        short.quantiles[0, 0, 2] = short.quantiles[0, 0, 1] + 1
    tables = FrequencyTables.from_arrays(bottleneck_tables(short), "z")
    median = float(bottleneck.medians[0])
    above = bottleneck.logits_cumulative(torch.full((6, 1, 1), median + 1.5, dtype=torch.float64))[0, 0, 0]
    expected = float(torch.sigmoid(-above.detach()))
    assert tables.row(0)[-1] / TOTAL == pytest.approx(expected, rel=1e-3)


def test_medians_outside_their_quantiles_still_make_a_row():
    module = EntropyBottleneck(2)
    with torch.no_grad():
        module.quantiles[0, 0] = torch.tensor([5.0, 0.0, -5.0])
    tables = FrequencyTables.from_arrays(bottleneck_tables(module), "z")
    assert (tables.lengths[0], tables.offsets[0]) == (2, 0)  # the median, and the escape


def test_quantiles_too_far_apart_are_refused_before_memory_is_taken():
    module = EntropyBottleneck(3)
    with torch.no_grad():
        module.quantiles[1, 0, 2] = 1e12
    with pytest.raises(ExportError, match=rf"quantiles of channel 1 are -10 and 1e\+12; expected at most {MAX_SPAN} "):
        bottleneck_tables(module)


def test_official_gaussian_tables_are_equal_to_the_last_bit():
    golden = load_golden("gaussian_tables.npz")
    holder = torch.nn.ModuleDict({"gaussian": GaussianConditional()})
    fill_tables(holder)
    module = holder["gaussian"]
    assert np.array_equal(module.get_buffer("scale_table").numpy(), golden["scale_table"])
    assert np.array_equal(module.get_buffer("_quantized_cdf").numpy(), golden["quantized_cdf"])
    assert np.array_equal(module.get_buffer("_offset").numpy(), golden["offset"])
    assert np.array_equal(module.get_buffer("_cdf_length").numpy(), golden["cdf_length"])
    assert {buffer.dtype for name, buffer in module.named_buffers() if name.startswith("_")} == {torch.int32}


def test_constants_of_the_priors_are_the_official_ones():
    golden = load_golden("gaussian_tables.npz")
    gaussian, bottleneck = GaussianConditional(), EntropyBottleneck(1)
    assert np.array_equal(bottleneck.target.numpy(), golden["eb_target"])
    assert np.array_equal(gaussian.get_buffer("scale_bound").numpy(), golden["scale_bound"])
    assert np.array_equal(gaussian.get_buffer("lower_bound_scale.bound").numpy(), golden["lower_bound_scale"])
    for module in (gaussian, bottleneck):
        assert np.array_equal(module.get_buffer("likelihood_lower_bound.bound").numpy(), golden["likelihood_bound"])


def test_quantized_cdf_follows_the_recipe_on_small_rows():
    # First row of the Gaussian tables: the mass of one symbol is all but everything.
    row = np.array([2.7e-6, 1 - 5.5e-6, 2.7e-6, 1e-12], np.float32)
    assert quantized_cdf(row).tolist() == [0, 1, 65534, 65535, 65536]
    # Halves are rounded away from zero: 0.5 / 65536 counts as one.
    half = np.float32(0.5 / 65536)
    assert quantized_cdf(np.array([half, 1 - half, 0], np.float32)).tolist()[:2] == [0, 1]


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=60).filter(lambda values: sum(values) > 0.01))
def test_quantized_cdf_rises_from_0_to_65536(values: list[float]):
    probabilities = (np.array(values) / sum(values)).astype(np.float32)
    cdf = quantized_cdf(probabilities)
    assert (cdf[0], cdf[-1]) == (0, 65536)
    assert (np.diff(cdf) >= 1).all()


def test_filling_twice_changes_nothing():
    torch.manual_seed(0)
    model = Mlicpp(MlicppWidths(n=16, m=32))
    fill_tables(model)
    first = {key: value.clone() for key, value in model.state_dict().items()}
    fill_tables(model)
    assert all(torch.equal(first[key], value) for key, value in model.state_dict().items())
