"""Any engine reads any engine's file: photos and hostile pictures, more and more noise, and engines beyond repair."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlic.runtime import Codec
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.backends.openvino import OpenVinoBackend
from mlic.runtime.backtrack import EXTRA_VISITS
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import EngineMismatchError
from mlic.runtime.graph_bytes import read_graph
from mlic.runtime.shipped import shipped_bundle
from mlic.tools.engines.available import foreign_engines
from mlic.tools.engines.here import OnnxRuntimeAtLevel
from mlic.tools.engines.noisy import ChangedScales

ROOT = Path(__file__).resolve().parents[3]
KODAK = ROOT.parent / "shared/data/kodak"
PHOTO = ROOT / "tests/photos/kodim03.png"
# Standard deviation of the difference between two engines' scales, by the size of the scale: ONNX Runtime and OpenVINO
# on the shipped model, docs/portability.md.
MEASURED = (5e-8, 2.6e-7)
NATIVE = {
    "onnxruntime": lambda: OnnxRuntimeAtLevel("all", 1),
    "onnxruntime-none": lambda: OnnxRuntimeAtLevel("none", 1),
    "openvino": lambda: OpenVinoBackend(1),
}
FOREIGN = foreign_engines(ROOT / "build/engines")


def hostile_pictures(height=128, width=192):
    rng = np.random.default_rng(5)
    shape = (height, width, 3)
    checks = np.indices((height, width)).sum(axis=0) % 2 * 255
    blocks = np.kron(rng.integers(0, 2, (height // 16, width // 16, 3)), np.ones((16, 16, 1))) * 255
    return {
        "noise": rng.integers(0, 256, shape).astype(np.uint8),
        "black": np.zeros(shape, np.uint8),
        "white": np.full(shape, 255, np.uint8),
        "grey": np.full(shape, 127, np.uint8),
        "single pixels": np.repeat(checks[..., None], 3, axis=2).astype(np.uint8),
        "extreme contrast": blocks.astype(np.uint8),
        "one bright pixel": np.pad(np.full((1, 1, 3), 255, np.uint8), ((64, 63), (64, 127), (0, 0))),
    }


# Kodak's where they lie beside the project, otherwise the one that comes with it.
PHOTOS = {path.stem: path for path in sorted(KODAK.glob("*.png")) or [PHOTO]}


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def bundle():
    return Bundle.open(shipped_bundle("medium"))


@pytest.fixture(scope="module")
def native(bundle):
    return {name: Codec(bundle, start()) for name, start in NATIVE.items()}


def require_the_writers_picture(writer, reader, pixels):
    """Send a picture from one codec to the other; return how many indexes differed."""
    data = writer.encode(pixels)
    apart = np.abs(reader.decode(data).astype(int) - writer.decode(data))
    assert apart.max() <= 1
    assert np.array_equal(
        np.rint(reader.decode_latent(data) - writer.decode_latent(data)), np.zeros_like(writer.decode_latent(data))
    )
    return len(reader.inspect(data).changes)


@pytest.mark.parametrize(("writer", "reader"), list(itertools.permutations(NATIVE, 2)))
def test_every_engine_reads_hostile_pictures_of_every_other(native, writer, reader):
    for pixels in hostile_pictures().values():
        require_the_writers_picture(native[writer], native[reader], pixels)


@pytest.mark.parametrize("photo", PHOTOS)
def test_every_engine_reads_every_photo_of_every_other(native, photo):
    pixels = pixels_of(PHOTOS[photo])
    for writer, codec in native.items():
        data = codec.encode(pixels)
        expected = codec.decode(data).astype(int)
        for reader in native.keys() - {writer}:
            assert np.abs(native[reader].decode(data) - expected).max() <= 1, (writer, reader)


@pytest.mark.parametrize("name", FOREIGN)
def test_engines_in_other_processes_read_and_write(native, bundle, name):
    """Other versions of ONNX Runtime, and its WebAssembly build, which shares no kernel with the others."""
    with FOREIGN[name]() as backend:
        foreign = Codec(bundle, backend)
        pictures = [pixels_of(PHOTO)[:256, :384], *hostile_pictures().values()]
        for pixels in pictures:
            for other in ("onnxruntime", "openvino"):
                data = native[other].encode(pixels)
                assert np.abs(foreign.decode(data).astype(int) - native[other].decode(data)).max() <= 1
            data = foreign.encode(pixels)
            expected = foreign.decode(data).astype(int)
            assert all(np.abs(codec.decode(data) - expected).max() <= 1 for codec in native.values())


def noisy(bundle, factor, seed):
    rng = np.random.default_rng(seed)
    fixed, proportional = MEASURED

    def change(scales):
        return scales + factor * (fixed + proportional * np.abs(scales)) * rng.normal(0, 1, scales.shape)

    return Codec(bundle, ChangedScales(OnnxRuntimeBackend(1), change))


@pytest.fixture(scope="module")
def photo():
    return pixels_of(PHOTO)


@pytest.fixture(scope="module")
def written(native, photo):
    """A file, and the latent that it stands for."""
    data = native["onnxruntime"].encode(photo)
    return data, native["onnxruntime"].decode_latent(data)


@pytest.mark.parametrize("factor", [1, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_noise_of_ten_times_what_engines_differ_by_is_repaired(bundle, written, factor, seed):
    data, y_hat = written
    codec = noisy(bundle, factor, seed)
    assert np.abs(codec.decode_latent(data) - y_hat).max() < 1e-3
    assert len(codec.inspect(data).changes) > 0 or factor == 1


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 6), st.integers(0, 1 << 30))
def test_any_noise_gives_the_writers_latent_or_a_mismatch_in_bounded_time(bundle, written, exponent, seed):
    data, y_hat = written
    codec = noisy(bundle, 10**exponent, seed)
    steps = len(bundle.manifest.steps)
    try:
        decoded = codec.decode_latent(data)
    except EngineMismatchError:
        decoded = y_hat
    assert np.abs(decoded - y_hat).max() < 1e-3
    assert codec.backend.visits <= 2 * steps + EXTRA_VISITS


def tensor_float_32(scales):
    """Keep ten bits of the mantissa, as TF32 does of each factor."""
    bits = np.ascontiguousarray(scales).view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).view(np.float32)


def test_an_engine_in_tf32_is_refused_at_the_first_step(bundle, written):
    backend = ChangedScales(OnnxRuntimeBackend(1), tensor_float_32)
    with pytest.raises(EngineMismatchError, match=r"^step_00: 1 of 1 chunks .* beyond repair .*engine onnxruntime"):
        Codec(bundle, backend).decode(written[0])
    assert backend.visits <= 2 * len(bundle.manifest.steps) + EXTRA_VISITS


def test_an_engine_in_bfloat16_is_refused_at_the_first_step(bundle, written):
    class Bfloat16(OpenVinoBackend):
        def __init__(self):
            super().__init__(1)
            compile_model, self._read = self._core.compile_model, self._core.read_model
            self._core = type("Core", (), {})()
            self._core.compile_model = lambda model, device, config: compile_model(
                model, device, config | {"INFERENCE_PRECISION_HINT": "bf16"}
            )

        def open(self, path, graph):
            from mlic.runtime.backends.openvino import _Compiled

            model = self._read(read_graph(path, graph.spec.name))
            compiled = self._core.compile_model(model, "CPU", {})

            return _Compiled(graph.spec, compiled)

    backend = Bfloat16()
    if not backend.has_bf16:
        pytest.skip("this processor has no bfloat16")
    with pytest.raises(EngineMismatchError, match=r"^step_00: "):
        Codec(bundle, backend).decode(written[0])


def test_a_chain_in_half_precision_is_refused_at_the_first_step(bundle, written, tmp_path):
    import onnx

    from mlic.export.weights import half_precision

    class Float16(OnnxRuntimeBackend):
        def open(self, path, graph):
            changed = tmp_path / f"{graph.spec.name}.onnx"
            onnx.save(half_precision(onnx.load_from_string(read_graph(path, graph.spec.name))), changed)
            return super().open(changed, graph)

    with pytest.raises(EngineMismatchError, match=r"^step_00: "):
        Codec(bundle, Float16(1)).decode(written[0])
