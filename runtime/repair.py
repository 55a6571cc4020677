"""From a chunk's wrong checksum to the likeliest indexes of the encoder.

Two engines disagree on an index where a scale lies so close to a boundary of the scale table that their errors fall
on different sides of it. The *candidates* are the indexes with the nearest boundaries, each with the one change that
crosses it. A set of changes explains a checksum if its effects sum to the difference; this module finds such sets and
puts them in order of likelihood.

**Likelihood.** For noise of level b, a candidate at distance d crosses with probability q = exp(-d / b) / 2, the tail
of a Laplace distribution: wide enough for outliers. b is not known, as it depends on both engines and the model. So the
likelihood of a set is averaged over all levels, evenly in log b: small sets of near candidates win over large or far
ones at any level, and near candidates that did *not* cross speak against a high one. Costs are negative natural
logarithms of likelihoods, relative to that of no change at all.

**Search.** Among 2^n sets one in ``2 ** width`` explains a random checksum by chance, so it pays to look at about that
many of the likeliest: every single change among the nearest few thousand (lookup), every pair among the nearest few
hundred (a hash join), every triple among fewer, and every set of any size among the very nearest (a join of the sums of
two halves). The sizes bound the time, whatever a file holds.

``syndrome_reference.py`` is the readable twin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlic.runtime.arrays import Float32Array, UInt8Array
from mlic.runtime.checksums import Checksum, Remainders

Places = tuple[int, ...]

LEVELS = 2.0 ** np.arange(-27, -7)  # of noise: from a last digit to far beyond what can be repaired
# An explanation may be less likely than a checksum that fits by chance, by so many nats: the true one is still found
# among some e^5 false ones, and later steps tell them apart. Further than that only costs time.
MARGIN = 5.0


@dataclass(frozen=True)
class Reach:
    """How many of the nearest candidates are searched for sets of each size."""

    singles: int
    pairs: int
    triples: int
    any: int


REACH = {16: Reach(1024, 512, 96, 20), 32: Reach(8192, 2048, 256, 26)}


@dataclass(frozen=True)
class Candidates:
    """Indexes of a chunk that may differ from the encoder's, nearest boundary first.

    Attributes:
        places: int64 [n], where in the chunk.
        indexes: uint8 [n], what each would become.
        distances: float64 [n], rising; of the scale from the boundary.
        effects: uint64 [n], of each change on the checksum.
    """

    places: NDArray[np.int64]
    indexes: UInt8Array
    distances: NDArray[np.float64]
    effects: Remainders

    def explanation(self, cost: float, chosen: list[int]) -> Explanation:
        """Return the change of some candidates, given by their positions."""
        return Explanation(cost, self.places[chosen], self.indexes[chosen], self.distances[chosen])


@dataclass(frozen=True)
class Explanation:
    """A set of changes that explains a checksum.

    Attributes:
        cost: negative natural logarithm of its likelihood relative to that of no change.
        places: int64 [n], where in the chunk; empty for no change.
        indexes: uint8 [n], what each becomes.
        distances: float64 [n], of the changed candidates; see ``Candidates``.
    """

    cost: float
    places: NDArray[np.int64]
    indexes: UInt8Array
    distances: NDArray[np.float64]


class Repair:
    """Explains checksums for one scale table.

    Args:
        scale_table: float32 [L], rising.
        checksum: that the file uses.
    """

    def __init__(self, scale_table: Float32Array, checksum: Checksum) -> None:
        bounds = scale_table[:-1].astype(np.float64)
        self._below = np.concatenate([[-np.inf], bounds])
        self._above = np.concatenate([bounds, [np.inf]])
        self._checksum = checksum
        self._reach = REACH[checksum.width]

    def candidates(self, indexes: UInt8Array, scales: Float32Array) -> Candidates:
        """Return a chunk's candidates.

        Args:
            indexes: uint8 [n], this engine's.
            scales: float32 [n], from which they were made; finite.
        """
        wide = scales.astype(np.float64)
        down, up = wide - self._below[indexes], self._above[indexes] - wide
        distances = np.minimum(down, up)
        count = min(self._reach.singles, len(indexes))
        limit = np.partition(distances, count - 1)[count - 1]
        # Equal distances in the order of places: every reader has to take the same candidates
        places = np.flatnonzero(distances <= limit)
        places = places[np.argsort(distances[places], kind="stable")][:count]
        places = places[np.isfinite(distances[places])]  # with a table of one entry there is nothing to change to
        ours = indexes[places]
        changed = np.where(up[places] < down[places], ours + 1, ours - 1).astype(np.uint8)
        effects = self._checksum.effects(len(indexes) - 1 - places, ours ^ changed)
        return Candidates(places, changed, distances[places], effects)

    def explanations(self, candidates: Candidates, difference: int) -> list[Explanation]:
        """Return sets of changes with a given effect, likeliest first.

        Args:
            candidates: of the chunk.
            difference: of the two checksums, as ``Checksum.difference`` returns it.

        Returns:
            All that were found and are not less likely than chance; none if the engines differ too much.
        """
        found = sets_with_sum(candidates.effects, difference, self._reach)
        costs = costs_of(candidates.distances, found)
        limit = self._checksum.width * math.log(2) + MARGIN
        ranked = sorted((cost, places) for cost, places in zip(costs, found, strict=True) if cost <= limit)
        return [candidates.explanation(cost, list(chosen)) for cost, chosen in ranked]


def sets_with_sum(effects: Remainders, wanted: int, reach: Reach) -> list[Places]:
    """Return sets of effects whose exclusive or is ``wanted``, each once, as rising positions.

    Args:
        effects: uint64 [n], likeliest first.
        wanted: the sum.
        reach: how far to look for sets of each size.
    """
    target = np.uint64(wanted)
    found: set[Places] = {(int(place),) for place in np.flatnonzero(effects[: reach.singles] == target)}
    if wanted == 0:
        found.add(())
    near = effects[: reach.pairs]
    found |= {tuple(sorted(pair)) for pair in _joined(near, near ^ target) if pair[0] != pair[1]}
    near = effects[: reach.triples]
    first, second = np.triu_indices(len(near), 1)
    for pair, third in _joined(near[first] ^ near[second], near ^ target):
        chosen = {int(first[pair]), int(second[pair]), third}
        if len(chosen) == 3:
            found.add(tuple(sorted(chosen)))
    near = effects[: reach.any]
    half = len(near) // 2
    for left, right in _joined(_sums(near[:half]), _sums(near[half:]) ^ target):
        chosen_bits = left | right << half
        found.add(tuple(place for place in range(len(near)) if chosen_bits >> place & 1))
    return sorted(found)


def costs_of(distances: NDArray[np.float64], sets: list[Places]) -> list[float]:
    """Return the cost of each set of candidates; see the module's description.

    Args:
        distances: float64 [n], of all candidates.
        sets: positions in ``distances``.
    """
    crossed = np.log(0.5) - distances[None] / LEVELS[:, None]
    stayed = np.log1p(-np.exp(crossed))
    nothing = stayed.sum(axis=1)
    ratios = crossed - stayed
    likelihoods = [nothing + ratios[:, list(chosen)].sum(axis=1) for chosen in sets]
    return [float(np.logaddexp.reduce(nothing) - np.logaddexp.reduce(values)) for values in likelihoods]


def _joined(left: Remainders, right: Remainders) -> list[tuple[int, int]]:
    """Return the positions of all pairs of equal values."""
    order = np.argsort(left, kind="stable")
    ordered = left[order]
    begin, end = (np.searchsorted(ordered, right, side=side) for side in ("left", "right"))
    return [
        (int(order[place]), int(other))
        for other in np.flatnonzero(end > begin)
        for place in range(begin[other], end[other])
    ]


def _sums(effects: Remainders) -> Remainders:
    """Return the exclusive or of every subset; bit k of the position says whether effect k is in it."""
    sums = np.zeros(1, dtype=np.uint64)
    for effect in effects:
        sums = np.concatenate([sums, sums ^ effect])
    return sums
