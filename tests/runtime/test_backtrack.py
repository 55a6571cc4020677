"""Going back to another reading, on graphs made of Python: each step's scales depend on all symbols before it."""

import numpy as np
import pytest

from mlic.runtime.backtrack import EXTRA_VISITS, decode_walk
from mlic.runtime.checksums import CRC16
from mlic.runtime.coder import Models, SymbolDecoder, SymbolEncoder
from mlic.runtime.container import Bitstream
from mlic.runtime.errors import BackendError, CorruptStreamError, EngineMismatchError
from mlic.runtime.manifest import GraphSpec, StepSpec, TensorSpec
from mlic.runtime.walk import State, Step, walk

SHAPE = (1, 1, 128, 256)  # 32768 symbols a step: one chunk
SIZE = 32768
NUM_STEPS = 4
ANY = TensorSpec("float32", SHAPE)
Z_SHAPE = (1, 4, 1, 1)


class SensitiveGraph:
    """A step whose scales change a lot where the symbols before it do, but for chosen places.

    Args:
        number: of the step.
        fixed: place -> scale, whatever the symbols.
    """

    def __init__(self, number, fixed):
        names = [f"symbols_{before:02d}" for before in range(number)]
        outputs = {f"{what}_{number:02d}": ANY for what in ("scales", "means")}
        self.spec = GraphSpec(f"step_{number:02d}", dict.fromkeys(names, ANY), outputs, True)
        self.number, self.fixed, self.runs = number, fixed, 0

    def run(self, inputs):
        self.runs += 1
        rng = np.random.default_rng(self.number)
        scales = np.exp(rng.uniform(-3, 2.5, SHAPE)).astype(np.float32)
        for before in range(self.number):
            scales *= 1.5 + np.sin(inputs[f"symbols_{before:02d}"])
        for place, scale in self.fixed.items():
            scales.reshape(-1)[place] = scale
        means = rng.normal(0, 1, SHAPE).astype(np.float32)
        return {f"scales_{self.number:02d}": scales, f"means_{self.number:02d}": means}


class Start:
    spec = GraphSpec("h_s", {"z_symbols": ANY}, {"hyper": ANY}, True)

    def run(self, inputs):
        return {"hyper": np.zeros(SHAPE, np.float32)}


class Chain:
    """An engine; ``fixed[number]`` gives the places of a step where engines are made to differ."""

    def __init__(self, fixed=None, graph=SensitiveGraph):
        self.graphs = [graph(number, (fixed or {}).get(number, {})) for number in range(NUM_STEPS)]
        self.steps = [Step(StepSpec(one.spec.name, (0, 1), "all"), one) for one in self.graphs]

    def state(self):
        finish = GraphSpec("finish", {f"symbols_{number:02d}": ANY for number in range(NUM_STEPS)}, {}, True)
        state = State([Start.spec, *(one.spec for one in self.graphs), finish], {"z_symbols": np.zeros(1)})
        state.run(Start())
        return state

    @property
    def visits(self):
        return sum(graph.runs for graph in self.graphs)


@pytest.fixture(scope="module")
def models(entropy):
    return Models(entropy)


def encode(models, chain):
    coder = SymbolEncoder(models)
    coder.code_z(np.zeros(Z_SHAPE, np.float32))
    y = np.random.default_rng(9).normal(0, 2, SHAPE).astype(np.float32)
    state = walk(chain.steps, coder, chain.state(), y)
    return Bitstream(bytes(8), 64, 64, "float32-syndrome", *coder.finish()), state


def decode(models, chain, stream):
    decoder = SymbolDecoder(models, stream, [SIZE] * NUM_STEPS, "engine 1")
    decoder.code_z(Z_SHAPE)
    return decode_walk(chain.steps, decoder, chain.state())


def check(models, theirs, ours):
    """Encode on one chain, decode on the other, compare the symbols; return the decoder."""
    stream, expected = encode(models, theirs)
    state, decoder = decode(models, ours, stream)
    for name in sorted(expected.names()):
        assert np.array_equal(state._arrays[name], expected._arrays[name]), name
    return decoder


def around(models, places, theirs, ours, index=5):
    """Return two engines' scales at some places, given as distances above the boundary below ``index``."""
    bound = float(models.entropy.scale_table[index - 1])
    return tuple({place: np.float32(bound + distance) for place in places} for distance in (theirs, ours))


def test_without_disagreement_every_step_is_visited_once(models):
    ours = Chain()
    decoder = check(models, Chain(), ours)
    assert (ours.visits, decoder.changes, decoder.cost) == (NUM_STEPS, (), 0)


def test_a_step_that_differs_is_corrected_without_going_back(models):
    theirs, ours = around(models, [17, 4000], -2e-6, 1e-6)
    chain = Chain({1: ours, 3: ours})
    decoder = check(models, Chain({1: theirs, 3: theirs}), chain)
    assert chain.visits == NUM_STEPS
    found = [(change.graph, change.place, change.ours, change.theirs) for change in decoder.changes]
    assert found == [(graph, place, 5, 4) for graph in ("step_01", "step_03") for place in (17, 4000)]


def misleading_places():
    """Return a place and three others which, taken together, change the checksum alike.

    Two would not do: the polynomial is divisible by x + 1, so a checksum tells odd numbers of bits from even ones.
    """
    effects = CRC16.effects(SIZE - 1 - np.arange(SIZE), np.full(SIZE, 5 ^ 4, np.uint8))
    place_of = {int(effect): place for place, effect in enumerate(effects)}
    for third in range(300, SIZE):
        together = int(effects[100] ^ effects[200] ^ effects[third])
        if together in place_of and place_of[together] not in (100, 200, third):
            return place_of[together], 100, 200, third
    raise AssertionError


@pytest.mark.parametrize("step", range(NUM_STEPS))
def test_a_wrong_reading_is_noticed_later_and_taken_back(models, step):
    """Three scales very near a boundary explain the checksum as well as the one farther off that really crossed."""
    crossed, *near = misleading_places()
    theirs_near, ours_near = around(models, near, 1e-7, 1e-7)
    theirs_far, ours_far = around(models, [crossed], -1e-6, 3e-5)
    chain = Chain({step: ours_near | ours_far})
    decoder = check(models, Chain({step: theirs_near | theirs_far}), chain)
    assert chain.visits > NUM_STEPS or step == NUM_STEPS - 1
    assert [change.place for change in decoder.changes] == [crossed]


@pytest.mark.parametrize("step", range(NUM_STEPS))
def test_changes_that_leave_the_checksum_as_it_was_are_found_when_the_next_step_makes_no_sense(models, step):
    """x has order 32767 modulo the 16-bit polynomial: equal changes that far apart cancel."""
    theirs, ours = around(models, [0, SIZE - 1], -2e-6, 1e-6)
    chain = Chain({step: ours})
    decoder = check(models, Chain({step: theirs}), chain)
    assert [change.place for change in decoder.changes] == [0, SIZE - 1]
    assert chain.visits > NUM_STEPS or step == NUM_STEPS - 1


class Noisy(SensitiveGraph):
    """An engine beyond repair from the third step on."""

    def run(self, inputs):
        outputs = super().run(inputs)
        if self.number >= 2:
            outputs[f"scales_{self.number:02d}"] *= np.random.default_rng(self.runs).normal(1, 0.01, SHAPE)
        return {name: array.astype(np.float32) for name, array in outputs.items()}


def test_beyond_repair_the_first_bad_step_is_named_and_the_number_of_visits_is_bounded(models):
    stream, _ = encode(models, Chain())
    chain = Chain(graph=Noisy)
    with pytest.raises(EngineMismatchError, match=r"^step_02: 1 of 1 chunks .* beyond repair \(engine engine 1, arith"):
        decode(models, chain, stream)
    assert chain.visits <= 2 * NUM_STEPS + EXTRA_VISITS


class Failing(SensitiveGraph):
    def run(self, inputs):
        if self.number == 2:
            raise BackendError("graph step_02: no memory")
        return super().run(inputs)


def test_a_failing_graph_is_reported_as_such(models):
    stream, _ = encode(models, Chain())
    with pytest.raises(BackendError, match="no memory"):
        decode(models, Chain(graph=Failing), stream)


def test_a_failure_after_a_correction_names_the_corrected_step(models):
    theirs, ours = around(models, [17], -2e-6, 1e-6)
    stream, _ = encode(models, Chain({1: theirs}))
    with pytest.raises(EngineMismatchError, match=r"^step_01: 1 of 1 chunks") as caught:
        decode(models, Chain({1: ours}, graph=Failing), stream)
    assert isinstance(caught.value.__cause__, BackendError)


def test_symbols_left_over_are_corrupt_where_all_indexes_agreed(models):
    stream, _ = encode(models, Chain())
    damaged = Bitstream(bytes(8), 64, 64, "float32-syndrome", b"\1\0\0\0" * 9 + stream.latents, b"", stream.checks)
    with pytest.raises(CorruptStreamError):
        decode(models, Chain(), damaged)
