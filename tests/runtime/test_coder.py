"""The two directions of the coder, without graphs."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.coder import MAX_SYMBOL_BITS, Models, SymbolDecoder, SymbolEncoder
from mlic.runtime.container import Bitstream
from mlic.runtime.errors import BackendError, BitstreamError, CorruptStreamError, EngineMismatchError
from mlic.runtime.escape import MAX_BITS
from mlic.runtime.manifest import StepSpec
from mlic.runtime.tracing import SymbolTracer

STEPS = [StepSpec("step_00", (0, 2), "anchor"), StepSpec("step_01", (2, 3), "all")]
SHAPES = [(1, 2, 4, 2), (1, 1, 4, 4)]
Z_SHAPE = (1, 4, 1, 1)


@pytest.fixture(scope="module")
def models(entropy):
    return Models(entropy)


def make_case(seed, spread=2.0):
    rng = np.random.default_rng(seed)
    z = np.rint(rng.normal(0, spread, Z_SHAPE)).astype(np.float32)
    scales = [rng.normal(1, 3, shape).astype(np.float32) for shape in SHAPES]
    means = [rng.normal(0, 2, shape).astype(np.float32) for shape in SHAPES]
    parts = [rng.normal(0, spread, shape).astype(np.float32) for shape in SHAPES]
    return z, scales, means, parts


def encode(models, case):
    z, scales, means, parts = case
    encoder = SymbolEncoder(models)
    symbols = [encoder.code_z(z)]
    symbols += [encoder.code(*args) for args in zip(STEPS, scales, means, parts, strict=True)]
    return Bitstream(bytes(8), 64, 64, "float32-syndrome", *encoder.finish()), symbols


def decode(models, stream, scales, means):
    decoder = SymbolDecoder(models, stream, [16, 16], "engine 1")
    symbols = [decoder.code_z(Z_SHAPE)]
    symbols += [decoder.code(*args, None) for args in zip(STEPS, scales, means, strict=True)]
    decoder.finish()
    return symbols


@given(st.integers(0, 1 << 30), st.sampled_from([0.1, 3.0, 300.0, 1e6]))
def test_round_trip(models, seed, spread):
    case = make_case(seed, spread)
    stream, symbols = encode(models, case)
    decoded = decode(models, stream, case[1], case[2])
    assert all(a.tobytes() == b.tobytes() for a, b in zip(symbols, decoded, strict=True))
    assert all(a.dtype == np.float32 for a in decoded)


def test_symbols_have_no_negative_zeros(models):
    z, scales, means, _ = make_case(1)
    _, symbols = encode(models, (-0.0 * z, scales, means, [mean - np.float32(0.1) for mean in means]))
    assert not any(np.signbit(values).any() for values in symbols)


def test_encoding_twice_gives_the_same_bytes(models):
    assert encode(models, make_case(2))[0] == encode(models, make_case(2))[0]


def test_another_index_stops_the_decoder_before_its_step(models):
    case = make_case(3)
    stream, _ = encode(models, case)
    case[1][1][0, 0, 0, 0] += 5
    with pytest.raises(EngineMismatchError, match="step_01"):
        decode(models, stream, case[1], case[2])


@given(st.sampled_from(["latents", "escapes"]), st.integers(0, 10000))
def test_a_flipped_bit_gives_other_symbols_or_a_typed_error(models, part, place):
    """The file's checksum is out of play here: this is what a forged file would meet."""
    case = make_case(4, 30.0)
    stream, symbols = encode(models, case)
    data = bytearray(getattr(stream, part))
    data[place // 8 % len(data)] ^= 1 << place % 8
    forged = dataclasses.replace(stream, **{part: bytes(data)})
    try:
        decoded = decode(models, forged, case[1], case[2])
    except (BitstreamError, EngineMismatchError):
        return
    assert any((a != b).any() for a, b in zip(symbols, decoded, strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["scales", "means"])
def test_values_that_are_not_finite_are_errors_of_the_graph(models, value, name):
    case = make_case(5)
    stream, _ = encode(models, case)
    case[{"scales": 1, "means": 2}[name]][0].flat[3] = value
    with pytest.raises(BackendError, match=f"graph step_00: {name} hold NaN or infinite"):
        encode(models, case)
    if name == "means":
        return  # a decoder does not look at them: they may lie on a device, and NaN in a picture is noticed at its end
    with pytest.raises(BackendError, match=f"graph step_00: {name} hold NaN or infinite"):
        decode(models, stream, case[1], case[2])


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e7, -3e7])
def test_a_latent_that_cannot_be_coded_is_an_error_and_not_clipped(models, value):
    case = make_case(6)
    case[3][1].flat[0] = value
    with pytest.raises(BackendError, match="graph step_01: symbol"):
        encode(models, case)


def test_a_tracer_keeps_what_passes(models, entropy):
    z, scales, means, parts = make_case(7)
    encoder = SymbolEncoder(models)
    tracer = SymbolTracer(encoder, models.indexing)
    encoder.code_z(z)
    for step, *arrays in zip(STEPS, scales, means, parts, strict=True):
        tracer.code(step, *arrays)
    expected = encode(models, (z, scales, means, parts))
    assert encoder.finish().latents == expected[0].latents
    assert [symbols.tolist() for symbols in tracer.symbols] == [symbols.tolist() for symbols in expected[1][1:]]
    assert np.array_equal(tracer.indexes[1], entropy.build_indexes(scales[1]))


@pytest.mark.parametrize("part", ["latents", "escapes"])
def test_more_bytes_than_symbols_can_take_are_refused_before_they_are_unpacked(models, part):
    stream, _ = encode(models, make_case(0, 3.0))
    symbols = 32 + np.prod(Z_SHAPE)
    most = int((MAX_SYMBOL_BITS if part == "latents" else MAX_BITS) * symbols // 8 + 8)
    name = "LATS" if part == "latents" else "ESCP"
    for size in (most + 4, 1 << 24):
        decoder = SymbolDecoder(models, dataclasses.replace(stream, **{part: b"\1" * size}), [16, 16], "engine 1")
        with pytest.raises(CorruptStreamError, match=f"{name} has {size} bytes; .* take at most {most}"):
            decoder.code_z(Z_SHAPE)


def test_symbols_of_the_least_likely_kind_stay_within_the_limit(models):
    """Every symbol escapes, as far from its row as can be."""
    z, scales, means, _ = make_case(0, 1.0)
    case = z, scales, [np.zeros_like(mean) for mean in means], [np.full_like(mean, 1 << 23) for mean in means]
    stream, symbols = encode(models, case)
    decoded = decode(models, stream, scales, case[2])
    assert all(np.array_equal(a, b) for a, b in zip(symbols, decoded, strict=True))
