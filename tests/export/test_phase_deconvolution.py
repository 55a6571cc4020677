"""Transposed convolutions in phases: equal to the layer they replace, at every geometry they claim to fit."""

import pytest
import torch
from torch import nn

from mlic.export.split.fold import folded
from mlic.export.split.phase_deconvolution import PhaseDeconvolution


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding"),
    [(5, 2, 2, 1), (3, 2, 1, 1), (4, 2, 1, 0), (2, 2, 0, 0), (6, 3, 2, 1), (5, 4, 1, 1), (3, 1, 1, 0)],
)
@pytest.mark.parametrize("size", [(1, 1), (4, 7)])
def test_phases_give_the_values_of_the_layer(kernel, stride, padding, output_padding, size):
    torch.manual_seed(kernel * 100 + stride)
    layer = nn.ConvTranspose2d(3, 16, kernel, stride, padding, output_padding)
    assert PhaseDeconvolution.fits(layer)
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        found, expected = PhaseDeconvolution(layer)(x), layer(x)
    assert found.shape == expected.shape == (2, 16, stride * size[0], stride * size[1])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(32, 3, 5, 2, 2, 1),  # too few outputs to gain by it
        nn.ConvTranspose2d(16, 16, 5, 2, 2, 0),  # output is no multiple of the input
        nn.ConvTranspose2d(16, 16, 5, 2, 2, 1, groups=2),
        nn.ConvTranspose2d(16, 16, 5, 2, 2, 1, bias=False),
        nn.ConvTranspose2d(16, 16, (5, 3), 2, (2, 1), 1),
    ],
)
def test_other_layers_stay(layer: nn.ConvTranspose2d):
    assert not PhaseDeconvolution.fits(layer)
    model = folded(nn.Sequential(layer))
    assert isinstance(model[0], nn.ConvTranspose2d)


def test_folding_replaces_layers_and_leaves_the_original():
    model = nn.Sequential(nn.ConvTranspose2d(16, 16, 5, 2, 2, 1))
    assert isinstance(folded(model)[0], PhaseDeconvolution)
    assert isinstance(model[0], nn.ConvTranspose2d)
