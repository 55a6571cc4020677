"""The stand-in for constriction: the same words from the same calls."""

import constriction
import numpy as np
import pytest

from mlic.tools.engines import constriction_twin

TOTAL = 1 << 24


@pytest.fixture
def rows(rng: np.random.Generator) -> list[np.ndarray]:
    """Frequencies less 1, as ``RowModels`` hands them on: wide, narrow, and with almost everything in one entry."""
    wide = rng.multinomial(TOTAL - 40, np.full(40, 1 / 40))
    narrow = rng.multinomial(TOTAL - 2, [0.3, 0.7])
    one = np.array([0, TOTAL - 4, 0, 0])
    return [row.astype(np.float64) for row in (wide, narrow, one)]


def encoded(engine, groups) -> np.ndarray:
    coder = engine.stream.stack.AnsCoder()
    for slots, row in reversed(groups):
        coder.encode_reverse(slots, engine.stream.model.Categorical(row, perfect=False))
    return coder.get_compressed()


def test_twin_writes_the_words_of_constriction_and_reads_them_back(rows: list[np.ndarray], rng: np.random.Generator):
    groups = [(rng.integers(0, len(row), 500, dtype=np.int32), row) for row in [*rows, *rows]]
    words = encoded(constriction_twin, groups)
    assert words.dtype == np.uint32
    assert np.array_equal(words, encoded(constriction, groups))
    coder = constriction_twin.stream.stack.AnsCoder(words)
    for slots, row in groups:
        assert not coder.is_empty()
        model = constriction_twin.stream.model.Categorical(row, perfect=False)
        assert np.array_equal(coder.decode(model, len(slots)), slots)
    assert coder.is_empty()


def test_clone_goes_on_on_its_own(rows: list[np.ndarray], rng: np.random.Generator):
    slots = rng.integers(0, len(rows[0]), 100, dtype=np.int32)
    coder = constriction_twin.stream.stack.AnsCoder(encoded(constriction, [(slots, rows[0])]))
    model = constriction_twin.stream.model.Categorical(rows[0], perfect=False)
    coder.decode(model, 30)
    for _ in range(2):
        assert np.array_equal(coder.clone().decode(model, 70), slots[30:])
    assert np.array_equal(coder.decode(model, 70), slots[30:])


def test_twin_of_nothing_is_nothing():
    assert encoded(constriction_twin, []).size == encoded(constriction, []).size == 0
    assert constriction_twin.stream.stack.AnsCoder(np.zeros(0, np.uint32)).is_empty()


def test_twin_reads_on_past_the_end_as_constriction_does(rows: list[np.ndarray]):
    def read(engine) -> list[int]:
        coder = engine.stream.stack.AnsCoder(np.array([7, 1], dtype=np.uint32))
        return coder.decode(engine.stream.model.Categorical(rows[0], perfect=False), 20).tolist()

    assert read(constriction_twin) == read(constriction)
