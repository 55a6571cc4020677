"""Picture files of all kinds, made here with Pillow."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from mlic.runtime.errors import ImageError, ImageWarning
from mlic.runtime.image_files import (
    Picture,
    eight_bits_from_sixteen,
    picture_from_pil,
    pillow_reads,
    read_image,
    write_image,
)
from mlic.runtime.metadata import Metadata, Source

RGB_PROFILE = bytes(16) + b"RGB " + bytes(108)
GREY_PROFILE = bytes(16) + b"GRAY" + bytes(108)


@pytest.fixture
def pixels(make_photo):
    return make_photo(12, 9)


def names(folder):
    return [path.name for path in folder.iterdir()]


def saved(image, suffix=".png", **options):
    file = io.BytesIO()
    image.save(file, format={".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".gif": "GIF"}[suffix], **options)
    file.seek(0)
    return file


def png(width, height, bits, colour_type, rows):
    """Return a PNG file written by hand."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp", ".tif", ".tiff", ".bmp", ".ppm"])
def test_lossless_files_round_trip(tmp_path, pixels, suffix):
    path = tmp_path / f"picture{suffix}"
    write_image(path, pixels)
    assert np.array_equal(read_image(path).pixels, pixels)
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_jpeg_files_come_close(tmp_path, suffix):
    smooth = np.full((16, 16, 3), (10, 128, 250), np.uint8)
    write_image(tmp_path / f"a{suffix}", smooth)
    assert np.abs(read_image(tmp_path / f"a{suffix}").pixels.astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_profile_is_carried(tmp_path, pixels, suffix):
    write_image(tmp_path / f"a{suffix}", pixels, Metadata(RGB_PROFILE))
    assert read_image(tmp_path / f"a{suffix}").metadata == Metadata(RGB_PROFILE)


def test_a_profile_of_other_colours_is_left_out(pixels):
    with pytest.warns(ImageWarning, match="profile is for other pixels"):
        picture = read_image(saved(Image.fromarray(pixels), ".tif", icc_profile=GREY_PROFILE))
    assert picture.metadata == Metadata()


def test_a_grey_profile_goes_with_a_grey_picture(pixels):
    picture = read_image(saved(Image.fromarray(pixels).convert("L"), icc_profile=GREY_PROFILE))
    assert picture.metadata == Metadata(GREY_PROFILE, source=Source.GREY)


def test_no_profile_is_none(pixels):
    assert read_image(saved(Image.fromarray(pixels))).metadata == Metadata()


def test_grey_and_one_bit_become_rgb(pixels):
    grey = Image.fromarray(pixels).convert("L")
    assert np.array_equal(read_image(saved(grey)).pixels, np.stack([np.asarray(grey)] * 3, axis=-1))
    assert set(np.unique(read_image(saved(grey.convert("1"))).pixels)) <= {0, 255}


@pytest.mark.parametrize(
    ("mode", "source"),
    [
        ("1", Source.GREY),
        ("L", Source.GREY),
        ("LA", Source.GREY | Source.TRANSPARENT),
        ("I;16", Source.GREY | Source.DEEP),
        ("P", Source(0)),
        ("RGB", Source(0)),
        ("RGBA", Source.TRANSPARENT),
    ],
)
@pytest.mark.filterwarnings("ignore:the picture")
def test_what_the_source_had_is_kept(mode, source):
    image = Image.new(mode, (3, 2))
    assert read_image(saved(image)).metadata.source == source
    assert picture_from_pil(image).metadata.source == source


def test_palettes_are_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert read_image(saved(image)).pixels.tolist() == [[[1, 2, 3], [200, 100, 50]]]


def test_a_transparent_palette_entry_becomes_white():
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 200, 100, 50])
    image.putpixel((1, 0), 1)
    with pytest.warns(ImageWarning, match="transparency was composited on white"):
        picture = read_image(saved(image, transparency=0))
    assert picture.pixels.tolist() == [[[255, 255, 255], [200, 100, 50]]]
    with pytest.warns(ImageWarning, match="transparency"):
        picture = read_image(saved(image, transparency=b"\x00\xff"))
    assert picture.pixels.tolist() == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 51)).convert(mode)
    with pytest.warns(ImageWarning, match="transparency"):
        assert set(read_image(saved(image)).pixels.ravel().tolist()) == {204}


def test_opaque_alpha_is_dropped_in_silence(pixels):
    assert np.array_equal(read_image(saved(Image.fromarray(pixels).convert("RGBA"))).pixels, pixels)


def test_a_transparent_colour_becomes_white():
    image = Image.new("RGB", (2, 1), (9, 8, 7))
    image.putpixel((1, 0), (1, 2, 3))
    with pytest.warns(ImageWarning, match="transparency"):
        picture = read_image(saved(image, transparency=(9, 8, 7)))
    assert picture.pixels.tolist() == [[[255, 255, 255], [1, 2, 3]]]


def test_sixteen_bits_are_rounded_to_eight():
    values = np.array([[0, 128, 129, 32768, 65406, 65407, 65535]], np.uint16)
    for suffix in (".png", ".tif"):
        with pytest.warns(ImageWarning, match="16 bits"):
            picture = read_image(saved(Image.fromarray(values), suffix))
        assert picture.pixels[0, :, 1].tolist() == [0, 0, 1, 128, 254, 255, 255]


def test_the_reduction_is_the_nearest_of_256_levels():
    values = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(eight_bits_from_sixteen(values), np.rint(values / 257).astype(np.uint8))


def test_big_endian_and_32_bit_greys():
    image = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 0, 65535))
    with pytest.warns(ImageWarning, match="16 bits"):
        assert picture_from_pil(image).pixels[..., 0].tolist() == [[0, 255]]
    with pytest.warns(ImageWarning, match="16 bits"):
        assert picture_from_pil(Image.fromarray(np.array([[257, 65535]], np.int32))).pixels[0, 0, 0] == 1
    for values in (np.array([[70000]], np.int32), np.array([[-1]], np.int32)):
        with pytest.raises(ImageError, match="32-bit"):
            picture_from_pil(Image.fromarray(values))


def test_sixteen_bits_of_colour_are_said_to_be_lost():
    file = io.BytesIO(png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x1234, 0xFF00, 0x00FF)))
    with pytest.warns(ImageWarning, match="16 bits a channel"):
        picture = read_image(file)
    assert picture.pixels.tolist() == [[[0x12, 0xFF, 0x00]]]
    assert picture.metadata.source == Source.DEEP


def test_cmyk_is_converted_and_its_profile_left_out():
    image = Image.new("CMYK", (8, 8), (0, 0, 0, 255))
    with pytest.warns(ImageWarning, match="profile"):
        picture = read_image(saved(image, ".jpg", icc_profile=bytes(16) + b"CMYK" + bytes(108)))
    assert picture.metadata == Metadata()
    assert picture.pixels.max() < 5


def test_the_first_of_several_frames_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    with pytest.warns(ImageWarning, match="several frames"):
        picture = read_image(saved(frames[0], ".gif", save_all=True, append_images=frames[1:]))
    assert picture.pixels[0, 0].tolist() == [255, 0, 0]


def test_float_pixels_are_refused():
    with pytest.raises(ImageError, match="mode F"):
        read_image(saved(Image.new("F", (2, 2)), ".tif"))


def test_a_cut_file_is_an_image_error(pixels, tmp_path):
    data = saved(Image.fromarray(np.tile(pixels, (9, 9, 1)))).getvalue()
    for length in (0, 4, 20, 60, len(data) // 2, len(data) - 30):
        (tmp_path / "cut.png").write_bytes(data[:length])
        with pytest.raises(ImageError, match=r"cut\.png: ") as caught:
            read_image(tmp_path / "cut.png")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hello", b"MLI", bytes(1000)])
def test_a_foreign_file_is_an_image_error(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="not a picture in a known format"):
        read_image(tmp_path / "a.png")


def test_a_mlic_file_is_told_from_what_is_no_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(b"MLIC\1\1\0\0")
    with pytest.raises(ImageError, match=r"a\.png: is a \.mlic file already; decode it first"):
        read_image(tmp_path / "a.png")


def test_missing_files_and_folders_are_image_errors(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png: No such file or directory"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(tmp_path)


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path):
    with pytest.raises(ImageError, match="5 x 4 pixels; expected 1 to 19"):
        read_image(saved(Image.new("RGB", (5, 4))), max_pixels=19)
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000, 1, 0, b""))
    with pytest.raises(ImageError, match=r"bomb\.png: too many pixels; the limit is 268435456"):
        read_image(tmp_path / "bomb.png")


def test_pillows_warning_of_a_large_picture_is_an_image_error_where_warnings_are_errors():
    large = io.BytesIO(png(10000, 10000, 1, 0, b""))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="too many pixels"):
            read_image(large)


def test_pipes_are_read_and_written(pixels):
    class Pipe(io.RawIOBase):
        def __init__(self, data):
            self.data = io.BytesIO(data)

        def readable(self):
            return True

        def readinto(self, buffer):
            return self.data.readinto(buffer)

    out = io.BytesIO()
    write_image(out, pixels)
    assert out.getvalue()[:4] == b"\x89PNG"
    assert np.array_equal(read_image(io.BufferedReader(Pipe(out.getvalue()))).pixels, pixels)
    out = io.BytesIO()
    write_image(out, pixels, suffix=".ppm")
    assert out.getvalue()[:2] == b"P6"


def test_an_unknown_suffix_lists_what_is_possible(tmp_path, pixels):
    for name in ("a.xyz", "a"):
        with pytest.raises(ImageError, match=r"possible: \.png, \.jpg"):
            write_image(tmp_path / name, pixels)
    assert names(tmp_path) == []


def test_what_cannot_be_written_is_an_image_error(tmp_path, pixels):
    with pytest.raises(ImageError, match=r"a\.png: No such file or directory"):
        write_image(tmp_path / "none" / "a.png", pixels)
    with pytest.raises(ImageError, match=r"a\.jpg: "):
        write_image(tmp_path / "a.jpg", np.zeros((1, 70000, 3), np.uint8))
    assert names(tmp_path) == []


def test_a_pillow_image_is_not_changed(pixels):
    image = Image.fromarray(pixels)
    picture = picture_from_pil(image)
    assert isinstance(picture, Picture)
    picture.pixels[:] = 0
    assert np.array_equal(np.asarray(image), pixels)


def test_pillows_limit_can_be_raised_for_a_while_and_is_not_lowered(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ImageError, match="too many pixels"):
        read_image(tmp_path / "a.png")
    with pillow_reads(1200):
        assert read_image(tmp_path / "a.png").pixels.shape == (30, 40, 3)
    with pillow_reads(1):
        assert Image.MAX_IMAGE_PIXELS == 500
    assert Image.MAX_IMAGE_PIXELS == 500
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pillow_reads(1):
        assert Image.MAX_IMAGE_PIXELS is None
