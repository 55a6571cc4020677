"""Decoding with second thoughts: the walk of a decoder whose engine may disagree with the encoder's.

A step's checksums tell that indexes differ, and ``syndrome.py`` finds what they were, likeliest first. A wrong reading
is noticed soon: it spoils the coder's state, hence every symbol after it, hence the next steps' scales. Then the walk
goes back to the likeliest reading that has not been tried, at whatever step. It also goes back to a step whose
checksums agreed if the next one makes no sense at all: one in some 30,000 pairs of changes leaves a 16-bit checksum as
it was.

Time is bounded: steps are visited at most twice as often as without disagreement, and a few times more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from mlic.runtime.coder import SymbolDecoder
from mlic.runtime.errors import MlicError
from mlic.runtime.walk import State, Step, visit, walk

EXTRA_VISITS = 16  # beyond twice the number of steps; a bundle with few steps has to try readings too
CONFIRMED_AFTER = 2  # steps in a row that agree; one alone may agree where a wrong reading changed hardly anything
UNNOTICED_COST = 11.0  # of a reading other than the one whose checksums agree: a chance of 2^-16


@dataclass(order=True)
class Branch:
    """A reading of one step that has not been tried.

    Attributes:
        cost: of all readings up to here and this one.
        position: of the step.
        pick: which of its readings.
        state: before the step.
        decoder: before the step.
    """

    cost: float
    position: int
    pick: int
    state: State = field(compare=False)
    decoder: SymbolDecoder = field(compare=False)


def straight_walk(steps: Sequence[Step], decoder: SymbolDecoder, state: State) -> tuple[State, SymbolDecoder]:
    """Visit every step once, for an arithmetic without repair; otherwise as ``decode_walk``.

    Raises:
        EngineMismatchError: this engine's indexes as a whole are not the encoder's.
        MlicError: the file is damaged, or a graph failed.
    """
    walk(steps, decoder, state)
    decoder.finish()
    return state, decoder


def decode_walk(steps: Sequence[Step], decoder: SymbolDecoder, state: State) -> tuple[State, SymbolDecoder]:
    """Visit every step as ``walk`` does, changing indexes where the encoder's must have been others.

    Args:
        steps: in coding order.
        decoder: has decoded z.
        state: holds what ``h_s`` gave.

    Returns:
        The state, which now holds what ``finish`` takes, and the decoder, which has come to its end and passed all
        checks.

    Raises:
        EngineMismatchError: the engines differ beyond repair.
        MlicError: the file is damaged, or a graph failed, and no index differed before that.
    """
    branches: list[Branch] = []
    visits_left = 2 * len(steps) + EXTRA_VISITS
    position, pick, agreed = 0, 0, 0
    first_failure: MlicError | None = None
    while True:
        try:
            while position < len(steps):
                if first_failure is not None and visits_left <= 0:
                    raise first_failure
                visits_left -= 1
                before = Branch(decoder.cost, position, pick, state.fork(), decoder.fork())
                decoder.pick = pick
                visit(steps[position], decoder, state)
                agreed = agreed + 1 if decoder.agreed else 0
                if agreed >= CONFIRMED_AFTER:
                    branches.clear()
                next_cost = decoder.cost + UNNOTICED_COST if decoder.agreed else decoder.next_cost
                if next_cost is not None:
                    before.cost, before.pick = next_cost, pick + 1
                    heappush(branches, before)
                position, pick = position + 1, 0
            decoder.finish()
        except MlicError as error:
            if first_failure is None:
                first_failure = decoder.blame(error)
        else:
            return state, decoder
        if not branches or visits_left <= 0:
            raise first_failure
        chosen = heappop(branches)
        position, pick, state, decoder = chosen.position, chosen.pick, chosen.state, chosen.decoder
        agreed = 0
