"""Whole pictures through a bundle whose entropy path is in integers."""

import dataclasses
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec, Metadata, container, pillow
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import (
    BackendError,
    BitstreamError,
    BundleError,
    CorruptStreamError,
    EngineMismatchError,
    UnsupportedStreamError,
)
from mlic.runtime.manifest import Padding, TensorSpec, Tiling
from mlic.runtime.manifest_json import json_from_manifest, manifest_from_json
from mlic.runtime.proof import Proof
from mlic.runtime.wiring import wiring_problems
from tests.integer_bundle import build_integer_bundle
from tests.pillow_plugin import registered
from tests.tiny_bundle import SCALES, Y_CHANNELS

SIZES = [(1, 1), (16, 130), (64, 64), (65, 100), (130, 17)]


class OtherIntegers:
    """An engine that gives other values for one output of one graph.

    Args:
        graph: its name.
        change: takes its outputs and returns some of them changed.
    """

    name, granted = "other", "other integers 1.0"

    def __init__(self, graph, change):
        self._inner, self._graph, self._change = OnnxRuntimeBackend(1), graph, change

    def open(self, path, graph):
        opened = self._inner.open(path, graph)
        return _Changed(opened, self._change) if graph.spec.name == self._graph else opened


class _Changed:
    def __init__(self, inner, change):
        self.spec, self._inner, self._change = inner.spec, inner, change

    def run(self, inputs):
        outputs = self._inner.run(inputs)
        return outputs | self._change(outputs)


def one_more(outputs):
    """Raise one index of step_02 by one."""
    indexes = outputs["indexes_02"].copy()
    indexes.flat[-1] ^= 1
    return {"indexes_02": indexes}


@pytest.fixture
def unproven(monkeypatch):
    """Lets every engine pass."""
    monkeypatch.setattr(Proof, "run", lambda self: None)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("place", ["top-left", "centre"])
def test_any_size_decodes_to_the_latent_that_was_encoded(tmp_path, make_photo, size, place):
    folder = build_integer_bundle(tmp_path / "b", padding=Padding(64, place, "edge"))
    codec = Codec.load(folder, threads=1)
    pixels = make_photo(*size)
    data = codec.encode(pixels)
    trace = codec.trace(pixels)
    assert codec.decode(data).shape == pixels.shape
    assert codec.decode_latent(data).tobytes() == trace["y_hat"].tobytes()
    assert np.abs(trace["y_hat"] - trace["y"]).max() <= 0.5
    assert codec.encode(pixels) == data
    assert codec.inspect(data).changes == ()


def test_noise_escapes_and_comes_back(integer_codec, rng):
    pixels = rng.integers(0, 256, (70, 90, 3)).astype(np.uint8)
    data = integer_codec.encode(pixels)
    assert container.read(data).escapes
    assert np.array_equal(integer_codec.decode_latent(data), integer_codec.trace(pixels)["y_hat"])


def test_the_file_says_integer_and_ends_with_the_crc_of_all_indexes(integer_codec, make_photo):
    pixels = make_photo(40, 50)
    data = integer_codec.encode(pixels)
    trace = integer_codec.trace(pixels)
    indexes = b"".join(step.tobytes() for step in trace["indexes"])
    assert data[5] == 2
    stream = container.read(data)
    assert stream.arithmetic == "integer"
    assert stream.checks == struct.pack("<I", zlib.crc32(indexes))
    assert data[-24:-12] == struct.pack("<I", 4) + b"CHCK" + stream.checks
    assert b"SYND" not in data
    assert "scales" not in trace
    assert all(step.dtype == np.uint8 and step.max() < SCALES for step in trace["indexes"])


def test_replay_gives_the_indexes(integer_codec, make_photo):
    trace = integer_codec.trace(make_photo(100, 150))
    found = integer_codec.replay(trace["z_symbols"], trace["symbols"])
    assert [step.tobytes() for step in found] == [step.tobytes() for step in trace["indexes"]]


def test_metadata_regions_and_many_pictures_are_as_with_floats(tmp_path, make_photo):
    folder = build_integer_bundle(tmp_path / "b", tiling=Tiling(16, 16))
    codec = Codec.load(folder, threads=1, tile_pixels=1 << 13)
    pictures = [make_photo(150, 170, seed) for seed in range(3)]
    files = list(codec.encode_many(pictures))
    assert files == [codec.encode(picture) for picture in pictures]
    decoded = list(codec.decode_many(files))
    part = codec.decode(files[1], region=(30, 20, 60, 70))
    assert np.array_equal(part, decoded[1][20:90, 30:90])
    metadata = Metadata(xmp=b"<x/>")
    assert container.read_metadata(codec.encode(pictures[0], metadata)) == metadata


def test_a_grid_has_integer_cells_alone(integer_codec, codec, make_photo):
    pixels = make_photo(100, 150)
    gridded = Codec(integer_codec.bundle, integer_codec.backend, latent_pixels=64 * 64)
    data = gridded.encode(pixels)
    grid = container.read(data).grid
    assert len(grid.cells) == 6
    assert {cell.arithmetic for cell in grid.cells} == {"integer"}
    assert {len(cell.checks) for cell in grid.cells} == {4}
    decoded = integer_codec.decode(data)
    assert np.array_equal(decoded[:64, :64], integer_codec.decode(integer_codec.encode(pixels[:64, :64])))
    assert np.array_equal(gridded.decode(data, region=(70, 10, 20, 30)), decoded[10:40, 70:90])
    float_cell = codec.encode(pixels[:64, :64])
    foreign = dataclasses.replace(container.read(float_cell), model_id=integer_codec.bundle.manifest.model_id)
    cells = (foreign, *grid.cells[1:])
    mixed = dataclasses.replace(container.read(data), grid=dataclasses.replace(grid, cells=cells))
    with pytest.raises(CorruptStreamError, match=r"cell 1 of 6 is of model .*, float32-syndrome"):
        integer_codec.decode(container.write(mixed))


def test_threads_may_share_a_codec(integer_folder, make_photo):
    codec = Codec.load(integer_folder, threads=1)
    pictures = [make_photo(64 + seed, 90, seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(codec.encode, pictures))
        latents = list(pool.map(codec.decode_latent, files))
    for pixels, latent in zip(pictures, latents, strict=True):
        assert np.array_equal(latent, codec.trace(pixels)["y_hat"])


def test_threads_of_the_engine_change_nothing(integer_folder, integer_codec, make_photo):
    pixels = make_photo(200, 130)
    assert Codec.load(integer_folder, threads=2).encode(pixels) == integer_codec.encode(pixels)


@pytest.mark.parametrize("graph", ["h_s", "step_02", "finish"])
def test_an_engine_with_other_integers_is_refused_before_it_reads_or_writes(integer_codec, make_photo, graph):
    def change(outputs):
        name = list(outputs)[-1]
        changed = outputs[name].copy()
        changed.flat[3] += 1
        return {name: changed}

    other = Codec(integer_codec.bundle, OtherIntegers(graph, change))
    pixels = make_photo(20, 30)
    data = integer_codec.encode(pixels)
    message = f"graph {graph}: engine other integers 1.0 does not compute the integers .* bundle tiny-0-integer"
    with pytest.raises(EngineMismatchError, match=message):
        other.encode(pixels)
    assert "g_a" not in other.info["open_graphs"]  # refused before the work
    for call in (
        lambda: other.encode(pixels),
        lambda: other.decode(data),
        lambda: other.inspect(data),
        lambda: other.trace(pixels),
        other.open,
        other.prove,
    ):
        with pytest.raises(EngineMismatchError, match=message):
            call()


def test_an_index_that_differs_is_noticed_at_the_end(integer_codec, make_photo, unproven):
    other = Codec(integer_codec.bundle, OtherIntegers("step_02", one_more))
    pixels = make_photo(100, 150)
    for writer, reader in ((integer_codec, other), (other, integer_codec)):
        data = writer.encode(pixels)
        assert np.array_equal(writer.decode_latent(data), writer.trace(pixels)["y_hat"])
        with pytest.raises(EngineMismatchError, match="the table indexes differ from the encoder's"):
            reader.decode(data)


def test_an_index_that_changes_no_symbol_is_noticed_too(integer_codec, make_photo, unproven):
    """The CRC alone is wrong: the file is as an engine with other indexes would have written it."""
    data = integer_codec.encode(make_photo(40, 50))
    stream = container.read(data)
    forged = container.write(dataclasses.replace(stream, checks=bytes(byte ^ 255 for byte in stream.checks)))
    with pytest.raises(
        EngineMismatchError,
        match=r"differ from the encoder's: this engine's integer .* file is damaged \(engine .*, arithmetic integer\)",
    ):
        integer_codec.decode(forged)


def test_a_forged_stream_gives_typed_errors_or_another_picture_never_a_crash(integer_codec, make_photo, rng):
    data = integer_codec.encode(make_photo(60, 60))
    stream = container.read(data)
    kinds = set()
    for _ in range(150):
        latents = bytearray(stream.latents)
        latents[rng.integers(len(latents))] ^= 1 << rng.integers(8)
        try:
            integer_codec.decode_latent(container.write(dataclasses.replace(stream, latents=bytes(latents))))
        except (BitstreamError, EngineMismatchError) as error:
            kinds.add(type(error))
    assert kinds == {CorruptStreamError, EngineMismatchError}


def test_symbols_left_over_are_damage(integer_codec, make_photo):
    stream = container.read(integer_codec.encode(make_photo(30, 30)))
    longer = dataclasses.replace(stream, escapes=stream.escapes + b"\x80")
    with pytest.raises(CorruptStreamError):
        integer_codec.decode(container.write(longer))


def test_an_index_beyond_the_tables_is_an_error_of_the_graph(integer_codec, make_photo, unproven):
    def too_large(outputs):
        indexes = outputs["indexes_02"].copy()
        indexes.flat[0] = SCALES
        return {"indexes_02": indexes}

    other = Codec(integer_codec.bundle, OtherIntegers("step_02", too_large))
    message = f"graph step_02: table index {SCALES}; expected 0 to {SCALES - 1}"
    with pytest.raises(BackendError, match=message):
        other.encode(make_photo(20, 20))
    with pytest.raises(BackendError, match=message):
        other.decode(integer_codec.encode(make_photo(20, 20)))


def test_means_that_are_not_finite_are_an_error_of_the_graph(integer_codec, make_photo, unproven):
    other = Codec(
        integer_codec.bundle, OtherIntegers("step_01", lambda outputs: {"means_01": outputs["means_01"] * np.nan})
    )
    with pytest.raises(BackendError, match="graph step_01: means hold NaN or infinite values"):
        other.encode(make_photo(20, 20))


def test_files_of_the_other_arithmetic_are_refused_with_both_names(codec, integer_codec, make_photo):
    pixels = make_photo(20, 30)
    for writer, reader in ((codec, integer_codec), (integer_codec, codec)):
        theirs, ours = writer.bundle.manifest, reader.bundle.manifest
        with pytest.raises(
            UnsupportedStreamError,
            match=f"of model {theirs.model_id.hex()}, arithmetic {theirs.arithmetic}; bundle {ours.name} is model "
            f"{ours.model_id.hex()}, arithmetic {ours.arithmetic}",
        ):
            reader.decode(writer.encode(pixels))
    forged = dataclasses.replace(container.read(codec.encode(pixels)), model_id=integer_codec.bundle.manifest.model_id)
    with pytest.raises(UnsupportedStreamError, match=r"needs arithmetic float32-syndrome; bundle .* has integer"):
        integer_codec.decode(container.write(forged))


def test_pillow_opens_files_of_a_registered_integer_bundle(integer_folder, integer_codec, make_photo, monkeypatch):
    data = integer_codec.encode(make_photo(30, 40))
    with registered(monkeypatch, "onnxruntime", 1):
        pillow.register(integer_folder, threads=1)
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image), integer_codec.decode(data))


@pytest.fixture(scope="module")
def manifest(integer_folder):
    return manifest_from_json((integer_folder / "manifest.json").read_text())


def change_graph(manifest, name, **changes):
    graph = manifest.graphs[name]
    spec = dataclasses.replace(graph.spec, **changes)
    return dataclasses.replace(manifest, graphs=manifest.graphs | {name: dataclasses.replace(graph, spec=spec)})


def test_the_manifest_comes_back_with_its_names_and_types(manifest):
    assert wiring_problems(manifest) == []
    assert manifest_from_json(json_from_manifest(manifest)) == manifest
    assert manifest.graphs["h_s"].spec.outputs["hyper.code"].dtype == "int8"
    assert manifest.graphs["step_03"].spec.outputs["y_hat_03.code"].dtype == "int32"


def test_steps_give_indexes_in_the_place_of_scales(manifest):
    outputs = dict(manifest.graphs["step_00"].spec.outputs)
    shape = outputs.pop("indexes_00").shape
    assert wiring_problems(change_graph(manifest, "step_00", outputs=outputs)) == [
        "graph step_00 gives indexes_00 as nothing; expected uint8 [1, 2, height/16, width/32]"
    ]
    outputs["indexes_00"] = TensorSpec("float32", shape)
    assert "expected uint8 [1, 2," in wiring_problems(change_graph(manifest, "step_00", outputs=outputs))[0]
    assert (
        "gives scales_00 as nothing" in wiring_problems(dataclasses.replace(manifest, arithmetic="float32-syndrome"))[0]
    )


def test_a_bundle_without_a_certificate_is_refused(manifest):
    assert wiring_problems(dataclasses.replace(manifest, certificate=None)) == [
        "there is no certificate, by which engines prove that they compute integers exactly"
    ]


def test_a_bundle_is_opened_only_with_its_own_certificate(tmp_path):
    folder = build_integer_bundle(tmp_path / "b")
    path = folder / "certificate.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(BundleError, match="bundle tiny-0-integer: SHA-256 differs from the manifest's: certificate"):
        Bundle.open(folder)
    path.unlink()
    with pytest.raises(BundleError, match=r"cannot read certificate\.json"):
        Bundle.open(folder)


def test_float_and_integer_bundle_share_tables_and_transforms_but_no_identity(codec, integer_codec):
    ours, theirs = integer_codec.bundle.manifest, codec.bundle.manifest
    assert ours.model_id != theirs.model_id
    assert ours.tables_sha256 == theirs.tables_sha256
    assert ours.y_channels == Y_CHANNELS
