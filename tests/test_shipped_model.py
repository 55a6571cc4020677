"""The shipped bundle: what it decodes is what it encoded, at every size, and its files are as small as they can be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import ndtr

from mlic.runtime import Codec
from mlic.runtime.arrays import Array, UInt8Array
from mlic.runtime.choices import DEFAULT_QUALITY, INTEGER, QUALITIES
from mlic.runtime.shipped import MODEL
from mlic.tools.quality import psnr
from tests.reference import REPOSITORY

PHOTO = REPOSITORY / "tests" / "photos" / "kodim03.png"
KODAK = REPOSITORY.parent / "shared" / "data" / "kodak"
PHOTOS = sorted(KODAK.glob("*.png")) or [PHOTO]
# One pixel, the sides of a padding cell and of the next, and their neighbours; each against a few others.
SIDES = (1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 130)
SIZES = [(a, b) for i, a in enumerate(SIDES) for b in (SIDES[i], SIDES[-1 - i], SIDES[(5 * i + 3) % len(SIDES)])]


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.load(threads=1)


@pytest.fixture(scope="module", params=[q for q in QUALITIES if q != DEFAULT_QUALITY])
def other_codec(request: pytest.FixtureRequest) -> Codec:
    return Codec.load(quality=request.param, threads=1)


@pytest.fixture(scope="module")
def integer_codec() -> Codec:
    return Codec.load(INTEGER, threads=1)


def load(path: Path) -> UInt8Array:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("height", "width"), dict.fromkeys(SIZES))
def test_decoded_latent_is_the_encoders_at_every_size(codec: Codec, height: int, width: int):
    pixels = load(PHOTO)[100 : 100 + height, 200 : 200 + width]
    data = codec.encode(pixels)
    assert np.array_equal(codec.decode_latent(data), codec.trace(pixels)["y_hat"])
    assert codec.decode(data).shape == (height, width, 3)


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_photo_comes_back_and_its_file_is_as_small_as_the_likelihoods_say(codec: Codec, path: Path):
    check_photo(codec, path)


def test_other_qualities_do_the_same(other_codec: Codec):
    check_photo(other_codec, PHOTO)


def test_higher_quality_is_a_larger_file_and_a_nearer_picture():
    pixels = load(PHOTO)
    codecs = [Codec.load(quality=quality) for quality in QUALITIES]
    files = [codec.encode(pixels) for codec in codecs]
    nearness = [psnr(codec.decode(data), pixels) for codec, data in zip(codecs, files, strict=True)]
    assert len(files[0]) < len(files[1]) < len(files[2])
    assert nearness == sorted(nearness)


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_integer_model_is_the_float_one_within_a_hundredth(codec: Codec, integer_codec: Codec, path: Path):
    pixels = load(path)
    data, files = integer_codec.encode(pixels), codec.encode(pixels)
    assert np.array_equal(integer_codec.decode_latent(data), integer_codec.trace(pixels)["y_hat"])
    assert abs(len(data) / len(files) - 1) < 0.01
    assert psnr(integer_codec.decode(data), pixels) > psnr(codec.decode(files), pixels) - 0.05


def check_photo(codec: Codec, path: Path) -> None:
    pixels = load(path)
    data, trace = codec.encode(pixels), codec.trace(pixels)
    assert np.array_equal(codec.decode_latent(data), trace["y_hat"])
    assert len(data) <= 1.005 * likelihood_bits(codec, trace) / 8 + 100
    assert len(data) < path.stat().st_size / 10
    assert psnr(codec.decode(data), pixels) > 22  # recognisable, whatever the photo


def test_shipped_models_fit_their_budget():
    folder = REPOSITORY / "runtime" / "models"
    names = {f"{MODEL}-{quality}" for quality in QUALITIES} | {f"{MODEL}-{DEFAULT_QUALITY}-{INTEGER}"}
    assert {b.name for b in folder.iterdir()} == names
    sizes = {b.name: sum(f.stat().st_size for f in b.rglob("*") if f.is_file()) for b in folder.iterdir()}
    assert all(size < 24e6 for size in sizes.values()), sizes
    assert sum(sizes.values()) < 40e6, sizes


def likelihood_bits(codec: Codec, trace: dict[str, Array]) -> float:
    """Return the information of a picture's symbols under the model's own densities, not the coder's tables.

    Likelihoods have the floor of training, 1e-9, which an escape code can undercut.
    """
    bits = 0.0
    for symbols, scales in zip(trace["symbols"], trace["scales"], strict=True):
        distance, sigma = np.abs(symbols).astype(np.float64), np.maximum(scales.astype(np.float64), 0.11)
        likelihood = ndtr((0.5 - distance) / sigma) - ndtr((-0.5 - distance) / sigma)
        bits -= np.log2(np.maximum(likelihood, 1e-9)).sum()
    tables = codec.bundle.entropy.z
    for channel, values in enumerate(trace["z_symbols"][0]):
        start = int(tables.starts[channel])
        row = tables.frequencies[start : start + int(tables.lengths[channel])] / 2**24
        slots = values.ravel() - int(tables.offsets[channel])
        inside = (slots >= 0) & (slots < len(row) - 1)
        bits -= np.log2(np.maximum(row[np.where(inside, slots, len(row) - 1)], 1e-9)).sum()
    return float(bits)
