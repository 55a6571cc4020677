"""The 16-bit tables that official code keeps inside checkpoints (``spec`` of CompressAI's entropy layer).

Bundles do not use them: they carry finer tables of their own. Checkpoints that we write do, so that the official code
can read them, and their equality with the official ones checks our densities to the last bit.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlic.export.models.entropy_bottleneck import EntropyBottleneck
from mlic.export.models.gaussian import GaussianConditional
from mlic.export.tables import TAIL, default_scale_table

PRECISION = 16


def quantized_cdf(probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the cumulative frequencies [n + 1] of n probabilities, every frequency at least 1.

    Args:
        probabilities: float32 [n], the last one the mass outside the table.
    """
    total = 1 << PRECISION
    scaled = (probabilities * np.float32(total)).astype(np.float64)
    counts = np.floor(scaled + 0.5).astype(np.int64)  # halves away from zero; none is negative
    counts = total * counts // counts.sum()
    cdf = np.concatenate([[0], np.cumsum(counts)])
    cdf[-1] = total
    for i in range(len(probabilities)):
        if cdf[i] != cdf[i + 1]:
            continue
        widths = np.diff(cdf)
        candidates = np.where(widths > 1, widths, total + 1)
        donor = int(np.argmin(candidates))
        if donor < i:
            cdf[donor + 1 : i + 1] -= 1
        else:
            cdf[i + 1 : donor + 1] += 1
    return cdf.astype(np.int32)


def fill_tables(model: nn.Module) -> None:
    """Fill the table buffers of a model's bottleneck and Gaussian, as official training does before it saves."""
    for module in model.modules():
        if isinstance(module, EntropyBottleneck):
            _fill_bottleneck(module)
        elif isinstance(module, GaussianConditional):
            _fill_gaussian(module)


def _fill_bottleneck(module: EntropyBottleneck) -> None:
    low, median, high = module.quantiles.detach()[:, 0].unbind(1)
    down = torch.clamp(torch.ceil(median - low).int(), min=0)
    up = torch.clamp(torch.ceil(high - median).int(), min=0)
    lengths = down + up + 1
    samples = (median - down)[:, None, None] + torch.arange(int(lengths.max()))
    with torch.no_grad():
        pmf = module.likelihood(samples)[:, 0]
        lower = module.logits_cumulative(samples - 0.5)
        upper = module.logits_cumulative(samples + 0.5)
    # The upper tail is taken behind the longest channel's last sample, not this channel's: as the official code does.
    tail = torch.sigmoid(lower[:, 0, :1]) + torch.sigmoid(-upper[:, 0, -1:])
    _set_tables(module, pmf, tail, lengths, -down)


def _fill_gaussian(module: GaussianConditional) -> None:
    scales = torch.from_numpy(default_scale_table())
    module.scale_table = scales
    reach = torch.ceil(scales * TAIL).int()
    lengths = 2 * reach + 1
    distance = torch.abs(torch.arange(int(lengths.max())).int() - reach[:, None]).float()
    sigma = scales[:, None]
    pmf = _normal_cdf((0.5 - distance) / sigma) - _normal_cdf((-0.5 - distance) / sigma)
    tail = 2 * _normal_cdf((-0.5 - distance[:, :1]) / sigma)
    _set_tables(module, pmf, tail, lengths, -reach)


def _set_tables(module: nn.Module, pmf: Tensor, tail: Tensor, lengths: Tensor, offsets: Tensor) -> None:
    table = torch.zeros(len(pmf), int(lengths.max()) + 2, dtype=torch.int32)
    for row, count in enumerate(lengths.tolist()):
        cdf = quantized_cdf(torch.cat([pmf[row, :count], tail[row]]).numpy())
        table[row, : count + 2] = torch.from_numpy(cdf)
    module._quantized_cdf = table
    module._cdf_length = (lengths + 2).int()
    module._offset = offsets.int()


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-(2**-0.5) * x)
