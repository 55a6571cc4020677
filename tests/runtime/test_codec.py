"""Whole pictures through a miniature bundle."""

import io
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec, Metadata, Source, container
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.entropy_model import dequantize
from mlic.runtime.errors import (
    BackendError,
    BitstreamError,
    BundleError,
    EngineMismatchError,
    ImageError,
    ImageWarning,
    ShapeError,
    TruncatedStreamError,
    UnsupportedStreamError,
)
from mlic.runtime.manifest import Padding
from mlic.runtime.metadata import MAX_XMP_BYTES
from tests.tiny_bundle import build_tiny_bundle

SIDES = [1, 2, 15, 16, 17, 63, 64, 65, 100, 127, 128, 129, 130]
SIZES = [(height, SIDES[-1 - index]) for index, height in enumerate(SIDES)] + [(1, 1), (64, 64), (128, 128), (130, 130)]
PADDINGS = [Padding(64, place, fill) for place in ("top-left", "centre") for fill in ("zeros", "edge")]
PADDINGS.append(Padding(128, "centre", "zeros"))


@pytest.fixture(scope="module", params=PADDINGS, ids=lambda p: f"{p.multiple}-{p.placement}-{p.fill}")
def padded_codec(request, tmp_path_factory):
    folder = build_tiny_bundle(tmp_path_factory.mktemp("padded") / "tiny", padding=request.param)
    return Codec.load(folder, threads=1)


@pytest.fixture(scope="module")
def small(codec, make_photo):
    return codec.encode(make_photo(20, 30))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_decodes_to_the_latent_that_was_encoded(padded_codec, make_photo, size):
    pixels = make_photo(*size)
    data = padded_codec.encode(pixels)
    decoded = padded_codec.decode(data)
    assert decoded.shape == pixels.shape
    assert decoded.dtype == np.uint8
    assert padded_codec.decode_latent(data).tobytes() == padded_codec.trace(pixels)["y_hat"].tobytes()


def test_a_plain_colour_comes_back(padded_codec):
    colour = np.array([200, 30, 100], np.uint8)
    pixels = np.broadcast_to(colour, (130, 70, 3))
    difference = np.abs(padded_codec.decode(padded_codec.encode(pixels)).astype(int) - colour)
    inside = difference[48:80, 20:40]  # away from the padding, whose edge runs through blocks
    assert inside.mean() < 5  # half a step of y is 255 / 48
    assert inside.max() < 25  # and the three slopes add theirs


def test_a_picture_keeps_its_place(padded_codec):
    pixels = np.zeros((96, 112, 3), np.uint8)
    pixels[:40, :56] = (255, 0, 0)
    decoded = padded_codec.decode(padded_codec.encode(pixels)).astype(int)
    assert decoded[8:24, 8:40, 0].mean() > 200
    assert decoded[8:24, 8:40, 1:].mean() < 50
    assert decoded[64:, 80:].mean() < 50


def test_encoding_twice_gives_the_same_bytes(codec, make_photo):
    assert codec.encode(make_photo(50, 70)) == codec.encode(make_photo(50, 70))


def test_one_and_two_threads_read_each_other(codec, bundle_folder, make_photo):
    other = Codec.load(bundle_folder, threads=2)
    pixels = make_photo(130, 200)
    assert np.array_equal(codec.decode(other.encode(pixels)), other.decode(codec.encode(pixels)))


def test_grey_and_pillow_pictures_are_taken(codec, make_photo):
    grey = make_photo(40, 50)[..., 0]
    colour = np.stack([grey] * 3, axis=-1)
    expected = codec.encode(colour, Metadata(source=Source.GREY))
    assert codec.encode(grey) == expected
    assert codec.encode(Image.fromarray(grey)) == expected
    assert codec.encode(Image.fromarray(colour)) == codec.encode(colour) != expected


def test_grey_pictures_come_back_grey(codec, make_photo):
    grey = make_photo(40, 50)[..., 0]
    planes = codec.decode(codec.encode(np.stack([grey] * 3, axis=-1))).astype(int)
    assert np.ptp(planes, axis=2).any()  # as colour, the planes come out different
    data = codec.encode(grey)
    decoded = codec.decode(data)
    assert np.array_equal(decoded, np.rint(planes.mean(axis=2, keepdims=True)).repeat(3, axis=2))
    image = codec.decode_image(data)
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image), decoded[..., 0])
    assert np.array_equal(next(codec.decode_many([data])), decoded)
    assert container.read_metadata(codec.encode(grey, Metadata(xmp=b"<x/>"))) == Metadata(
        xmp=b"<x/>", source=Source.GREY
    )


def test_a_decoded_image_has_what_went_with_the_picture(codec, make_photo):
    metadata = Metadata(b"profile", b"II*\0\x08\0\0\0\0\0\0\0\0\0", b"<x/>", Source.DEEP)
    data = codec.encode(make_photo(20, 30), metadata)
    assert container.read_metadata(data) == metadata
    image = codec.decode_image(data)
    assert (image.mode, image.size) == ("RGB", (30, 20))
    assert np.array_equal(np.asarray(image), codec.decode(data))
    assert image.info == {"icc_profile": b"profile", "exif": b"Exif\0\0" + metadata.exif, "xmp": b"<x/>"}
    assert codec.decode_image(codec.encode(make_photo(20, 30))).info == {}


def test_damaged_exif_is_left_out_and_does_not_stop_encoding(codec, make_photo):
    with pytest.warns(ImageWarning, match="its EXIF is damaged and was left out: it begins with b'junk'"):
        data = codec.encode(make_photo(20, 30), Metadata(exif=b"junk", xmp=b"<x/>"))
    assert container.read_metadata(data) == Metadata(xmp=b"<x/>")


def test_strided_pictures_are_taken(codec, make_photo):
    pixels = make_photo(40, 50)
    assert codec.encode(pixels[::-1, ::2]) == codec.encode(pixels[::-1, ::2].copy())


def test_a_pillow_picture_is_turned_upright_and_keeps_its_profile(codec, make_photo):
    profile = bytes(16) + b"RGB " + bytes(108)
    pixels = make_photo(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(file, "PNG", exif=exif, icc_profile=profile)
    data = codec.encode(Image.open(file))
    stored = container.read_metadata(data)
    assert stored.icc_profile == profile
    assert Image.open(file).getexif()[0x0112] == 6
    exif[0x0112] = 1
    assert stored.exif == exif.tobytes()[6:]
    assert data == codec.encode(pixels, stored)
    assert container.read_metadata(codec.encode(Image.open(file), Metadata(b"mine"))) == Metadata(b"mine")
    assert container.read_metadata(next(codec.encode_many([Image.open(file)]))) == stored
    assert container.read_metadata(codec.encode(pixels)) == Metadata()


def test_transparency_is_warned_of(codec):
    with pytest.warns(ImageWarning, match="transparency"):
        codec.encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))


def test_a_trace_holds_everything_on_the_way(codec, make_photo):
    trace = codec.trace(make_photo(100, 130))
    assert list(trace) == ["y", "z_symbols", "scales", "means", "indexes", "symbols", "y_hat"]
    assert trace["y"].shape == trace["y_hat"].shape == (1, 6, 8, 12)
    assert trace["z_symbols"].shape == (1, 4, 2, 3)
    shapes = [(1, 2, 8, 6)] * 4 + [(1, 2, 8, 12)]
    for key, dtype in (("scales", "float32"), ("means", "float32"), ("indexes", "uint8"), ("symbols", "int32")):
        assert [array.shape for array in trace[key]] == shapes
        assert {str(array.dtype) for array in trace[key]} == {dtype}
    assert np.array_equal(trace["y_hat"][:, 4:], dequantize(trace["symbols"][-1], trace["means"][-1]))
    assert np.abs(trace["y"] - trace["y_hat"]).max() <= 0.5 + 1e-5  # rounding, and a little of float32


def test_ordinary_pictures_escape_their_tables(codec, make_photo):
    """What the other tests show holds with escapes, as this one shows that there are some."""
    assert container.read(codec.encode(make_photo(130, 130))).escapes


def test_graphs_are_opened_when_needed(bundle_folder, make_photo):
    encoder, decoder = Codec.load(bundle_folder, threads=1), Codec.load(bundle_folder, threads=1)
    data = encoder.encode(make_photo(20, 20))
    decoder.decode(data)
    steps = [f"step_{number:02d}" for number in range(5)]
    assert encoder.info["open_graphs"] == ["g_a", "h_a", "h_s", *steps]
    assert decoder.info["open_graphs"] == ["h_s", *steps, "finish", "g_s"]


def test_graphs_can_be_opened_ahead_of_the_first_picture(bundle_folder, make_photo):
    codec = Codec.load(bundle_folder, threads=1)
    codec.open(encode=False)
    assert "g_s" in codec.info["open_graphs"]
    assert "g_a" not in codec.info["open_graphs"]
    codec.open()
    opened = codec.info["open_graphs"]
    assert opened == list(codec.bundle.manifest.graphs)
    codec.decode(codec.encode(make_photo(20, 20)))
    assert codec.info["open_graphs"] == opened


def test_a_file_that_cannot_be_decoded_opens_no_graph(bundle_folder):
    codec = Codec.load(bundle_folder, threads=1)
    with pytest.raises(TruncatedStreamError):
        codec.decode(b"MLIC")
    assert codec.info["open_graphs"] == []


def test_info_is_ready_for_json(codec):
    info = json.loads(json.dumps(codec.info))
    assert info["name"] == "tiny-0"
    assert info["model_id"] == codec.bundle.manifest.model_id.hex()
    assert info["backend"].startswith("onnxruntime")
    assert info["steps"] == 5


def test_many_pictures_give_what_each_alone_does(codec, make_photo):
    pictures = [make_photo(40 + 30 * seed, 70, seed=seed) for seed in range(4)]
    files = [codec.encode(picture) for picture in pictures]
    assert list(codec.encode_many(iter(pictures))) == files
    for found, data in zip(codec.decode_many(files), files, strict=True):
        np.testing.assert_array_equal(found, codec.decode(data))


def test_damaged_file_among_many_is_reported_after_those_before_it(codec, small):
    results = codec.decode_many([small, small[:-3], small])
    np.testing.assert_array_equal(next(results), codec.decode(small))
    with pytest.raises(TruncatedStreamError):
        next(results)


def test_one_codec_works_in_several_threads(bundle_folder, make_photo):
    codec = Codec.load(bundle_folder, threads=1)
    pictures = [make_photo(30 + seed, 90 - seed, seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(codec.encode, pictures))
        decoded = list(pool.map(codec.decode, files))
    assert files == [codec.encode(picture) for picture in pictures]
    assert all(np.array_equal(picture, codec.decode(data)) for picture, data in zip(decoded, files, strict=True))


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 0, 3), np.uint8), "a.png", None, []],
)
def test_what_is_no_picture_is_a_shape_error(codec, picture):
    with pytest.raises(ShapeError, match="picture is"):
        codec.encode(picture)


def test_large_pictures_are_refused_in_both_directions(bundle_folder, codec, make_photo):
    limited = Codec.load(bundle_folder, threads=1, max_pixels=600)
    assert limited.decode(limited.encode(make_photo(20, 30))).shape == (20, 30, 3)
    with pytest.raises(ShapeError, match="31 x 20 pixels; the limits are 600"):
        limited.encode(make_photo(20, 31))
    with pytest.raises(ImageError, match="31 x 20 pixels; expected 1 to 600"):
        limited.encode(Image.fromarray(make_photo(20, 31)))
    with pytest.raises(UnsupportedStreamError, match="31 x 20 pixels; the limit is 600"):
        limited.decode(codec.encode(make_photo(20, 31)))


def test_every_prefix_is_truncated(codec, small):
    for length in range(len(small)):
        with pytest.raises(TruncatedStreamError):
            codec.decode(small[:length])


def test_every_flipped_bit_is_noticed(codec, small):
    for bit in range(8 * len(small)):
        changed = bytearray(small)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            codec.decode(bytes(changed))


def test_trailing_data_is_reported(codec, small):
    with pytest.raises(BitstreamError, match="1 bytes follow"):
        codec.decode(small + b"x")


def test_every_forged_bit_gives_a_picture_or_a_typed_error(codec, small):
    """A file whose checksum is right and whose contents are not never fails in another way."""
    for bit in range(8 * (len(small) - 4)):
        changed = bytearray(small)
        changed[bit // 8] ^= 1 << bit % 8
        struct.pack_into("<I", changed, len(changed) - 4, zlib.crc32(changed[:-4]))
        try:
            decoded = codec.decode(bytes(changed))
        except (BitstreamError, EngineMismatchError):
            continue
        assert decoded.dtype == np.uint8


def test_a_foreign_file_is_called_by_its_name(codec):
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    with pytest.raises(UnsupportedStreamError, match="this is a PNG picture"):
        codec.decode(file.getvalue())


def test_a_file_of_another_model_names_both(codec, tmp_path, small):
    other = Codec.load(build_tiny_bundle(tmp_path / "other", seed=1), threads=1)
    ours, theirs = (which.bundle.manifest.model_id.hex() for which in (codec, other))
    with pytest.raises(UnsupportedStreamError, match=f"is of model {ours}; bundle tiny-1 is model {theirs}"):
        other.decode(small)


class Nudged(OnnxRuntimeBackend):
    """An engine whose scales of one step are a little off."""

    def open(self, path, graph):
        opened = super().open(path, graph)
        if graph.spec.name != "step_02":
            return opened
        run = opened.run

        def nudge(inputs):
            outputs = run(inputs)
            outputs["scales_02"] = outputs["scales_02"] + np.float32(0.3)
            return outputs

        opened.run = nudge
        return opened


def test_an_engine_that_disagrees_is_named_and_gives_no_picture(bundle_folder, small):
    nudged = Codec.load(bundle_folder, backend=Nudged(threads=1))
    with pytest.raises(
        EngineMismatchError, match=r"step_02: 1 of 1 .*engine onnxruntime .* arithmetic float32-syndrome"
    ):
        nudged.decode(small)


def test_a_failing_engine_is_a_backend_error(bundle_folder, small):
    class Broken(OnnxRuntimeBackend):
        def open(self, path, graph):
            raise BackendError("graph h_s: no memory")

    with pytest.raises(BackendError, match="no memory"):
        Codec.load(bundle_folder, backend=Broken(threads=1)).decode(small)


def test_a_missing_bundle_is_a_bundle_error(tmp_path):
    with pytest.raises(BundleError, match="no such folder"):
        Codec.load(tmp_path / "none")


def test_the_miniature_bundle_is_seeded(tmp_path, bundle_folder):
    again = build_tiny_bundle(tmp_path / "again")
    assert (again / "manifest.json").read_bytes() == (bundle_folder / "manifest.json").read_bytes()
    other = Bundle.open(build_tiny_bundle(tmp_path / "other", seed=1))
    assert other.manifest.model_id != Bundle.open(again).manifest.model_id


def test_padding_may_not_make_many_pixels_of_few(bundle_folder):
    """A picture of one row is padded to 64."""
    row = np.zeros((1, 70_000, 3), np.uint8)
    data = Codec.load(bundle_folder, threads=1).encode(row)
    codec = Codec.load(bundle_folder, threads=1, max_pixels=70_000)
    message = "70000 x 1 pixels is padded to 70016 x 64; the limit is 1048576 pixels"
    with pytest.raises(UnsupportedStreamError, match=message):
        codec.decode(data)
    with pytest.raises(ShapeError, match=message):
        codec.encode(row)
    codec.max_pixels = 70_016 * 16
    assert codec.decode(data).shape == row.shape


@pytest.mark.parametrize("metadata", [Metadata(b""), Metadata(xmp=bytes(MAX_XMP_BYTES + 1))])
def test_metadata_that_cannot_be_written_is_refused_before_the_work_begins(codec, make_photo, metadata):
    stages = []
    with pytest.raises(ImageError, match=f"bytes; expected 1 to {MAX_XMP_BYTES}"):
        codec.encode(make_photo(8, 8), metadata, stages.append)
    assert not stages
