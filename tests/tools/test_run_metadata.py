"""``mlic-run`` and what goes with a picture: carried, stripped, shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mlic.runtime import Codec, Metadata, container, read_metadata
from mlic.runtime.container import Bitstream
from mlic.runtime.image_files import read_image
from mlic.tools.describe import description
from tests.exif_blocks import exif_block, xmp_packet

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FULL = Metadata(SRGB, exif_block(), xmp_packet())


@pytest.fixture
def photo(tmp_path: Path, make_photo) -> Path:
    path = tmp_path / "a.jpg"
    options = {"exif": b"Exif\0\0" + exif_block(6), "xmp": xmp_packet(6), "icc_profile": SRGB}
    Image.fromarray(make_photo(40, 60)).save(path, **options)
    return path


def info(mlic, name: str) -> dict[str, object]:
    row = json.loads(mlic("info", name, "--json").out)
    assert isinstance(row, dict)
    return row


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_metadata_travel_with_the_picture(suffix: str, mlic, photo: Path):
    assert mlic("encode", "a.jpg").code == 0
    stored = read_metadata(Path("a.mlic").read_bytes())
    assert stored == read_image(photo).metadata
    assert (stored.icc_profile, stored.xmp) == (SRGB, xmp_packet(1))
    assert mlic("decode", "a.mlic", f"b.{suffix}").err == ""
    with Image.open(f"b.{suffix}") as image:
        assert image.size == (40, 60)
        assert image.info["icc_profile"] == SRGB
        assert image.info["xmp"] == xmp_packet(1)
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[0x0110] == "Canon EOS R5"


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_strip_leaves_the_profile_alone(command: str, mlic, photo: Path):
    assert mlic("encode", "a.jpg", *(["--strip"] if command == "encode" else [])).code == 0
    stored = read_metadata(Path("a.mlic").read_bytes())
    assert (stored == Metadata(SRGB)) == (command == "encode")
    assert mlic("decode", "a.mlic", "b.png", *(["--strip"] if command == "decode" else [])).code == 0
    found = read_image("b.png")
    assert found.metadata == Metadata(SRGB)
    assert found.pixels.shape == (60, 40, 3)  # upright all the same


@pytest.mark.parametrize("strip", [(), ("--strip",)])
def test_grey_pictures_come_back_grey(strip: tuple[str, ...], mlic, tmp_path: Path, make_photo, codec: Codec):
    Image.fromarray(make_photo(40, 60)[..., 0]).save("a.png")
    assert mlic("encode", "a.png", *strip).code == 0
    assert info(mlic, "a.mlic")["grey"] is True
    assert mlic("decode", "a.mlic", "b.png", *strip).code == 0
    with Image.open("b.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), codec.decode(Path("a.mlic").read_bytes())[..., 0])


def test_info_shows_what_goes_with_the_picture(mlic, photo: Path):
    mlic("encode", "a.jpg")
    row = info(mlic, "a.mlic")
    assert (row["icc_bytes"], row["exif_bytes"], row["xmp_bytes"]) == (len(SRGB), len(exif_block()), len(xmp_packet(1)))
    assert row["icc_description"] == "sRGB built-in"
    assert (row["camera"], row["taken"]) == ("Canon EOS R5", "2024:05:06 07:08:09")
    assert row["grey"] is row["source_had_transparency"] is row["source_had_more_than_8_bits"] is False
    text = mlic("info", "a.mlic").out
    assert re.search(r"^camera +Canon EOS R5$", text, re.M)
    assert re.search(r"^icc_description +sRGB built-in$", text, re.M)


@pytest.mark.filterwarnings("ignore:the picture")
def test_info_shows_what_the_source_had(mlic, tmp_path: Path):
    Image.new("LA", (20, 20), (100, 100)).save("la.png")
    Image.fromarray(np.full((20, 20), 5000, np.uint16)).save("deep.png")
    for name, expected in (("la", [True, True, False]), ("deep", [True, False, True])):
        assert mlic("encode", f"{name}.png").code == 0
        row = info(mlic, f"{name}.mlic")
        assert [row[key] for key in ("grey", "source_had_transparency", "source_had_more_than_8_bits")] == expected
    assert re.search(r"^source_had_more_than_8_bits +yes$", mlic("info", "deep.mlic").out, re.M)


@pytest.mark.filterwarnings("default")
def test_damaged_exif_is_one_warning_and_no_failure(mlic, tmp_path: Path, make_photo):
    Image.fromarray(make_photo(20, 20)).save("a.webp", exif=b"Exif\0\0neither II nor MM")
    result = mlic("encode", "a.webp")
    assert result.code == 0
    assert re.fullmatch(
        r"mlic-run encode: warning: the picture: its EXIF is damaged and was left out: .*\n", result.err
    )
    assert info(mlic, "a.mlic")["exif_bytes"] == 0


@pytest.mark.filterwarnings("default")
def test_jpeg_leaves_out_what_it_cannot_hold(mlic, tmp_path: Path, codec: Codec, make_photo):
    Path("a.mlic").write_bytes(codec.encode(make_photo(20, 20), Metadata(exif=exif_block() + bytes(70000))))
    result = mlic("decode", "a.mlic", "a.jpg")
    assert result.code == 0
    assert re.fullmatch(r"mlic-run decode: warning: the picture: its EXIF of \d+ bytes does not fit .*\n", result.err)
    assert mlic("decode", "a.mlic", "a.bmp").err == ""


def described(exif: bytes, profile: bytes | None = None) -> dict[str, object]:
    """Describe a file with any bytes for metadata, as only somebody else would write it."""
    metadata = Metadata(profile, exif)
    stream = Bitstream(bytes(8), 4, 4, "float32-syndrome", b"", b"", bytes(6), metadata)
    return description(container.write(stream), 1000)


def test_a_description_cannot_steer_a_terminal():
    hostile = exif_block().replace(b"Canon EOS R5", b"\x1b]0;gone\x07\x9b1")
    assert described(hostile)["camera"] == "Canon ]0;gone  1"
    profile = SRGB.replace("sRGB built-in".encode("utf-16-be"), "\x1b[2J built-i".encode("utf-16-be")[: 2 * 13])
    assert profile != SRGB
    assert described(hostile, profile)["icc_description"] == "[2J built-i"


def test_a_description_does_not_fail_whatever_the_bytes(rng: np.random.Generator):
    assert described(b"junk", b"junk")["icc_description"] is described(b"junk")["camera"] is None
    for _ in range(300):
        block = bytearray(exif_block())
        for place in rng.integers(0, 130, 4):
            block[place] = rng.integers(0, 256)
        row = described(bytes(block))
        assert all(row[key] is None or isinstance(row[key], str) for key in ("camera", "taken"))
