"""What ``runtime/ans.py`` uses of constriction, on the readable coder: for machines that constriction has no wheel for.

It has none for arm64 under Linux. Put on Python's path as ``constriction.py`` this file takes its place there; the
words are the same (``tests/tools/engines/test_constriction_twin.py``) and so is everything above them.
"""

from __future__ import annotations

from copy import copy
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

TOTAL = 1 << 24  # what the frequencies of a row sum to


class Categorical:
    """A row of frequencies."""

    def __init__(self, probabilities: NDArray[np.float64], perfect: bool) -> None:
        """Take a row as ``RowModels`` gives it.

        Args:
            probabilities: float64 [n], each frequency less 1; together with n they sum to 2^24, so that constriction's
                ``1 + floor(p * (2^24 - n) / sum(p))`` is the frequency.
            perfect: False; the other way to round is not here.
        """
        assert not perfect
        self.starts = [0, *accumulate((probabilities.astype(np.int64) + 1).tolist())]
        assert self.starts[-1] == TOTAL


class AnsCoder:
    """The stack."""

    def __init__(self, words: NDArray[np.uint32] | None = None) -> None:
        # Only now: that module imports ans.py, which imports this one.
        from mlic.runtime.ans_reference import ReferenceStack  # noqa: PLC0415

        self._stack = ReferenceStack(None if words is None else words.tolist())

    def clone(self) -> AnsCoder:
        """Return a stack that goes on from here on its own."""
        other = copy(self)
        other._stack = copy(self._stack)
        other._stack.words = list(self._stack.words)
        return other

    def encode_reverse(self, slots: NDArray[np.int32], model: Categorical) -> None:
        """Push slots, the last one first."""
        starts = model.starts
        for slot in reversed(slots.tolist()):
            self._stack.push(starts[slot], starts[slot + 1] - starts[slot])

    def decode(self, model: Categorical, count: int) -> NDArray[np.int32]:
        """Pop slots: int32 [count]."""
        return np.array([self._stack.pop(model.starts) for _ in range(count)], dtype=np.int32)

    def get_compressed(self) -> NDArray[np.uint32]:
        """Return everything pushed: uint32 [words]."""
        return np.array(self._stack.stored(), dtype=np.uint32)

    def is_empty(self) -> bool:
        """Whether everything was popped."""
        return not (self._stack.state or self._stack.words)


# `constriction.stream.model.Categorical` and `constriction.stream.stack.AnsCoder`
stream = SimpleNamespace(model=SimpleNamespace(Categorical=Categorical), stack=SimpleNamespace(AnsCoder=AnsCoder))
