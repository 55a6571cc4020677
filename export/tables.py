"""Integer frequency tables of a model, computed once at export and shipped with it.

Frequencies have 24 bits, so that rounding them costs nothing measurable. All arithmetic is float64; what a machine
rounds differently does not matter, since the tables travel in the bundle and are never built again.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from mlic.export.errors import ExportError
from mlic.export.models.entropy_bottleneck import EntropyBottleneck
from mlic.export.models.gaussian import SCALE_LEVELS, SCALE_MAX, SCALE_MIN
from mlic.runtime.arrays import Array

PRECISION = 24
MAX_SPAN = 1 << 14  # symbols of a channel of z; trained models stay below 200
TAIL = 6.10941020487  # -quantile(0.5e-9) of the standard normal: beyond it lies one part in 10^9


def default_scale_table() -> NDArray[np.float32]:
    """Return the 64 log-spaced scales of the released models, float32."""
    levels = torch.linspace(float(np.log(SCALE_MIN)), float(np.log(SCALE_MAX)), SCALE_LEVELS)
    table: NDArray[np.float32] = torch.exp(levels).numpy()
    return table


def frequencies(probabilities: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Return integers of at least 1 that sum to 2^24 and are in proportion to ``probabilities``.

    Args:
        probabilities: float64 [n], none negative, n < 2^24.
    """
    total = 1 << PRECISION
    spare = total - len(probabilities)
    exact = probabilities / probabilities.sum() * spare
    result = np.floor(exact).astype(np.int64)
    # The remainder goes to those that lost most by rounding down; stable, so equal inputs give equal tables.
    order = np.argsort(result - exact, kind="stable")
    result[order[: spare - result.sum()]] += 1
    rounded: NDArray[np.uint32] = (result + 1).astype(np.uint32)
    return rounded


def gaussian_tables(scale_table: NDArray[np.float32]) -> dict[str, Array]:
    """Return ``y_frequencies``, ``y_lengths`` and ``y_offsets`` for the indexes of ``scale_table``.

    Index k stands for all scales above entry k - 1 and up to entry k. Its table is that of their geometric mean,
    which costs a quarter of what the table of entry k would cost over scales spread evenly in the logarithm.
    Index 0 holds the scales at the lower bound, and its table is of the bound itself.
    """
    scales = scale_table.astype(np.float64)
    centres = np.concatenate([scales[:1], np.sqrt(scales[:-1] * scales[1:])])
    rows, offsets = [], []
    for scale, sigma in zip(scales, centres, strict=True):
        reach = int(np.ceil(scale * TAIL))
        edges = np.arange(-reach, reach + 2) - 0.5
        # Both halves from the lower tail, where the distribution function keeps its precision.
        lower = ndtr(-np.abs(edges) / sigma)
        pmf = np.abs(np.diff(lower))
        pmf[reach] = 1 - 2 * lower[reach]
        rows.append(frequencies(np.append(pmf, 2 * lower[0])))
        offsets.append(-reach)
    return _packed("y", rows, offsets)


def bottleneck_tables(bottleneck: EntropyBottleneck) -> dict[str, Array]:
    """Return ``z_frequencies``, ``z_lengths``, ``z_offsets`` and ``medians``.

    Raises:
        ExportError: the quantiles of a channel are too far apart for a table.
    """
    quantiles = bottleneck.quantiles.detach().double()[:, 0]
    low, median, high = quantiles.unbind(1)
    down = torch.clamp(torch.ceil(median - low), min=0).long()
    up = torch.clamp(torch.ceil(high - median), min=0).long()
    widest = int((down + up).argmax())
    if down[widest] + up[widest] > MAX_SPAN:
        raise ExportError(
            f"entropy_bottleneck.quantiles of channel {widest} are {low[widest]:g} and {high[widest]:g}; "
            f"expected at most {MAX_SPAN} apart"
        )
    rows, offsets = [], []
    longest = int((down + up).max()) + 1
    # Evaluated for all channels at once, from each one's lowest symbol.
    samples = (median - down)[:, None] + torch.arange(longest)
    with torch.no_grad():
        pmf = bottleneck.likelihood(samples[:, None].double())[:, 0].numpy()
        lower = bottleneck.logits_cumulative(samples[:, None].double() - 0.5)[:, 0]
        upper = bottleneck.logits_cumulative(samples[:, None].double() + 0.5)[:, 0]
    below, above = torch.sigmoid(lower).numpy(), torch.sigmoid(-upper).numpy()
    for channel, count in enumerate((down + up + 1).tolist()):
        tail = below[channel, 0] + above[channel, count - 1]
        rows.append(frequencies(np.append(pmf[channel, :count], tail)))
        offsets.append(-int(down[channel]))
    return _packed("z", rows, offsets) | {"medians": bottleneck.medians.numpy().astype(np.float32)}


def _packed(name: str, rows: list[NDArray[np.uint32]], offsets: list[int]) -> dict[str, Array]:
    return {
        f"{name}_frequencies": np.concatenate(rows),
        f"{name}_lengths": np.array([len(row) for row in rows], np.int32),
        f"{name}_offsets": np.array(offsets, np.int32),
    }
