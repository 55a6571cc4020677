"""Files that ask for more than they hold, or more than is allowed, go to both runtimes, which say the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mlic.runtime import Codec, container
from mlic.runtime.coder import MAX_SYMBOL_BITS
from mlic.runtime.errors import MlicError, ShapeError
from mlic.runtime.escape import MAX_BITS
from mlic.runtime.manifest import Padding
from tests.native.programs import STATUSES
from tests.tiny_bundle import Y_CHANNELS, Z_CHANNELS, build_tiny_bundle

pytestmark = pytest.mark.xdist_group("native")  # one build


def said_by(codec: Codec, data: bytes) -> tuple[int, str]:
    """Return status and text of what Python makes of a file."""
    try:
        codec.decode(data)
    except MlicError as error:
        return STATUSES[type(error)], str(error)
    return 0, ""


@pytest.mark.parametrize(("part", "bits"), [("latents", MAX_SYMBOL_BITS), ("escapes", MAX_BITS)])
def test_more_bytes_than_symbols_can_take_are_refused_alike(driver, tiny, codec, make_photo, part, bits):
    stream = container.read(codec.encode(make_photo(70, 90)))
    symbols = Y_CHANNELS * 8 * 8 + Z_CHANNELS * 2 * 2
    most = bits * symbols // 8 + 8
    name = "LATS" if part == "latents" else "ESCP"
    for size in (most // 4 * 4, most // 4 * 4 + 4, 1 << 20):
        data = container.write(replace(stream, **{part: b"\1" * size}))
        status, text = driver.try_to_decode(tiny, data)
        assert (status, text) == said_by(codec, data)
        assert status != 0
        refused = text == f"{name} has {size} bytes; the symbols of this picture take at most {most}"
        assert refused == (size > most), text


MAX_PIXELS = 1 << 16
PADDED = 1 << 20  # the limit for padded pictures that belongs to so few


@pytest.fixture(scope="module", params=[64, 4096])
def limited(request, driver, tmp_path_factory):
    """A bundle's padding, and codecs on both sides that take pictures of few pixels."""
    multiple = request.param
    folder = build_tiny_bundle(tmp_path_factory.mktemp("limited"), padding=Padding(multiple, "centre", "edge"))
    native = driver.open(f"limited-{multiple}", folder, tile_pixels=1 << 24, max_pixels=MAX_PIXELS)
    codec = Codec.load(folder, "onnxruntime", threads=1, tile_pixels=1 << 24, max_pixels=MAX_PIXELS)
    return multiple, native, codec


SIZES = [(1, 1), (1, 16384), (1, 16385), (16385, 1), (2, 1 << 15), (2, (1 << 15) + 1), (1 << 20, 1)]


def grows(height, width, multiple):
    """Tell whether a picture is within its limit, and not so once padded."""
    padded = -(-height // multiple) * -(-width // multiple) * multiple**2
    return height * width <= MAX_PIXELS and padded > PADDED


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_files_of_pictures_that_grow_by_padding_are_refused_alike(driver, limited, height, width):
    multiple, native, codec = limited
    manifest = codec.bundle.manifest
    stream = container.Bitstream(manifest.model_id, width, height, manifest.arithmetic, b"", b"", b"")
    data = container.write(stream)
    status, text = said_by(codec, data)
    assert driver.try_to_decode(native, data) == (status, text)
    if grows(height, width, multiple):
        assert status == 22
        assert f"is padded to {-(-width // multiple) * multiple} x " in text
        assert f"; the limit is {PADDED} pixels (4 times max_pixels)" in text
    elif height * width > MAX_PIXELS:
        assert status == 22
    else:
        assert (status, text) == (21, "SYND has 0 bytes; expected 6 or more")


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pictures_that_grow_by_padding_are_encoded_by_neither(driver, limited, tmp_path, height, width):
    multiple, native, codec = limited
    pixels = np.zeros((height, width, 3), np.uint8)
    if height * width <= MAX_PIXELS and not grows(height, width, multiple):
        assert driver.encode(native, pixels) == codec.encode(pixels)
        return
    with pytest.raises(ShapeError) as refusal:
        codec.encode(pixels)
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    status, text = driver.ask("encode", native, tmp_path / "pixels", width, height, tmp_path / "file")
    assert status == 10
    assert ("is padded to" in text) == grows(height, width, multiple)
    assert text == str(refusal.value) or height * width > MAX_PIXELS


@pytest.mark.parametrize("limit", [1 << 62, (1 << 64) - 1])
def test_a_limit_near_the_largest_number_is_none(driver, bundle_folder, codec, limit):
    """Four times as much is more than a machine word holds."""
    native = driver.open("unlimited", bundle_folder, max_pixels=limit)
    pixels = np.full((1, 16385, 3), 7, np.uint8)  # over what is free once padded
    assert driver.encode(native, pixels) == codec.encode(pixels)
