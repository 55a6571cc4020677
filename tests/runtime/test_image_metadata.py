"""Metadata from picture files of every kind through the codec's pictures and back into files."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from mlic.runtime import Codec, image_metadata
from mlic.runtime.errors import ImageWarning
from mlic.runtime.image_files import image_from, picture_from_pil, picture_with, read_image, write_image
from mlic.runtime.metadata import Metadata, Source
from mlic.runtime.orientation import orientation_of, upright
from tests.exif_blocks import exif_block, xmp_packet

RGB_PROFILE = bytes(16) + b"RGB " + bytes(range(108))
GREY_PROFILE = bytes(16) + b"GRAY" + bytes(range(108))
FULL = Metadata(RGB_PROFILE, exif_block(), xmp_packet())
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
Image.init()
needs_avif = pytest.mark.skipif("AVIF" not in Image.SAVE, reason="Pillow without AVIF")
formats = pytest.mark.parametrize(
    "name", ["PNG", "JPEG", "WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif)], ids=str.lower
)
# How a picture that looks like ``a`` is stored under each orientation.
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.fixture
def pixels(make_photo):
    return make_photo(24, 40)


def tags_of(exif):
    """Return what EXIF says, whatever the order of its bytes."""
    tags = Image.Exif()
    tags.load(exif)
    details, places = tags.get_ifd(ExifTags.IFD.Exif), tags.get_ifd(ExifTags.IFD.GPSInfo)
    own = {tag: value for tag, value in tags.items() if tag not in (0x8769, 0x8825, 0x0112)}
    return own, dict(details), dict(places)


def saved(pixels, name, exif=None, xmp=None, icc_profile=None):
    """Return a file with metadata, written by Pillow or, where Pillow does not write them, by hand."""
    file = io.BytesIO()
    options = dict(LOSSLESS.get(name, {"quality": 95}))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if exif is not None:
        options["exif"] = b"Exif\0\0" + exif
    if icc_profile is not None:
        options["icc_profile"] = icc_profile
    if xmp is not None and name == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif xmp is not None and name == "TIFF":
        tags = Image.Exif()
        tags.load(options.pop("exif", b""))
        tags[0x02BC] = xmp
        options["exif"] = tags
    elif xmp is not None and name == "JPEG":
        segment = b"http://ns.adobe.com/xap/1.0/\0" + xmp
        options["extra"] = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    elif xmp is not None:
        options["xmp"] = xmp
    image.save(file, name, **options)
    return file


@formats
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("says", ["exif", "xmp"])
def test_photos_in_every_orientation_are_upright_afterwards(name, orientation, says, pixels):
    turned = STORED[orientation](pixels)
    metadata = {says: exif_block(orientation) if says == "exif" else xmp_packet(orientation)}
    file = saved(turned, name, **metadata)
    picture = read_image(file)
    if name in LOSSLESS and name != "AVIF":
        assert np.array_equal(picture.pixels, pixels)
    assert picture.pixels.shape == pixels.shape
    assert np.abs(picture.pixels.astype(int) - pixels).mean() < 12
    assert orientation_of(picture.metadata) == 1
    if says == "exif":
        assert tags_of(picture.metadata.exif)[1] == tags_of(exif_block())[1]


@formats
def test_what_a_file_holds_is_found(name, pixels):
    picture = read_image(saved(pixels, name, FULL.exif, FULL.xmp, FULL.icc_profile))
    assert (picture.metadata.icc_profile, picture.metadata.xmp) == (FULL.icc_profile, FULL.xmp)
    if name == "TIFF":  # tags of the picture itself, gathered
        assert tags_of(picture.metadata.exif)[1:] == tags_of(FULL.exif)[1:]
        assert tags_of(picture.metadata.exif)[0] == {0x010F: "Canon", 0x0110: "Canon EOS R5"}
    elif name == "AVIF":  # Pillow's writer makes EXIF anew
        assert tags_of(picture.metadata.exif) == tags_of(FULL.exif)
    else:
        assert picture.metadata.exif == FULL.exif


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_what_goes_with_a_picture_is_written(suffix, pixels, tmp_path):
    write_image(tmp_path / f"a{suffix}", pixels, FULL)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.info["icc_profile"] == FULL.icc_profile
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[0x9003] == "2024:05:06 07:08:09"
        assert image.getexif()[0x010F] == "Canon"
        assert image.size == (40, 24)
    found = read_image(tmp_path / f"a{suffix}")
    assert found.metadata.xmp == FULL.xmp
    assert tags_of(found.metadata.exif)[1] == tags_of(FULL.exif)[1]
    if suffix != ".tif":
        assert found.metadata == FULL
    if suffix != ".jpg":
        assert np.array_equal(found.pixels, pixels)


@pytest.mark.parametrize("suffix", [".bmp", ".ppm"])
def test_formats_without_a_place_for_metadata_are_written_in_silence(suffix, pixels, tmp_path):
    write_image(tmp_path / f"a{suffix}", pixels, FULL)
    found = read_image(tmp_path / f"a{suffix}")
    assert np.array_equal(found.pixels, pixels)
    assert found.metadata == Metadata()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".ppm"])
def test_a_picture_without_metadata_gets_none(suffix, pixels, tmp_path):
    write_image(tmp_path / f"a{suffix}", pixels)
    assert read_image(tmp_path / f"a{suffix}").metadata == Metadata()


def test_tiff_is_compressed_unless_it_holds_exif(pixels, tmp_path):
    for name, metadata in (("plain", Metadata(RGB_PROFILE, xmp=xmp_packet())), ("exif", FULL)):
        write_image(tmp_path / f"{name}.tif", pixels, metadata)
        with Image.open(tmp_path / f"{name}.tif") as image:
            assert image.info["compression"] == {"plain": "tiff_adobe_deflate", "exif": "raw"}[name]
            assert image.info["xmp"] == xmp_packet()


def test_exif_does_not_change_how_tiff_stores_pixels(pixels, tmp_path):
    """EXIF of a TIFF or a raw file names the width, strips and compression of another picture."""
    tags = Image.Exif()
    tags.load(exif_block())
    tags.update({0x0100: 6000, 0x0101: 4000, 0x0103: 6, 0x0106: 0, 0x0111: 8, 0x0117: 9, 0x0116: 1, 0x011C: 2})
    write_image(tmp_path / "a.tif", pixels, Metadata(exif=tags.tobytes()[6:]))
    assert np.array_equal(read_image(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (Metadata(RGB_PROFILE, exif_block() + bytes(66000)), r"EXIF of \d+ bytes does not fit into JPEG"),
        (Metadata(RGB_PROFILE, xmp=xmp_packet() + b" " * 66000), r"XMP of \d+ bytes does not fit into JPEG"),
    ],
)
def test_what_is_too_large_for_jpeg_is_left_out_with_a_warning(metadata, message, pixels, tmp_path):
    with pytest.warns(ImageWarning, match=message):
        write_image(tmp_path / "a.jpg", pixels, metadata)
    assert read_image(tmp_path / "a.jpg").metadata == Metadata(RGB_PROFILE)
    write_image(tmp_path / "a.png", pixels, metadata)
    assert read_image(tmp_path / "a.png").metadata == metadata


@pytest.mark.parametrize(("field", "overhead"), [("exif", 6), ("xmp", 29)])
def test_jpeg_takes_all_that_a_segment_can_hold(field, overhead, pixels, tmp_path):
    start = exif_block() if field == "exif" else xmp_packet()
    largest = Metadata(**{field: start.ljust(65533 - overhead)})
    write_image(tmp_path / "a.jpg", pixels, largest)
    assert read_image(tmp_path / "a.jpg").metadata == largest
    with pytest.warns(ImageWarning, match="65534 bytes does not fit"):
        write_image(tmp_path / "a.jpg", pixels, Metadata(**{field: start.ljust(65534 - overhead)}))


def test_exif_that_pillow_cannot_write_anew_is_left_out_of_tiff(pixels, tmp_path):
    exif = bytearray(exif_block())
    place = exif.index(struct.pack("<H", 0x8769)) + 8
    exif[place : place + 4] = struct.pack("<I", len(exif) - 1)  # the inner directory is cut
    with pytest.warns(UserWarning, match="EXIF"):
        write_image(tmp_path / "a.tif", pixels, Metadata(RGB_PROFILE, bytes(exif)))
    assert read_image(tmp_path / "a.tif").metadata.icc_profile == RGB_PROFILE


@formats
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # of Pillow
def test_damaged_exif_does_not_keep_a_picture_from_being_read(name, pixels):
    if name in ("TIFF", "AVIF"):
        pytest.skip("Pillow does not write damaged EXIF there")
    file = saved(pixels, name, b"II*\0 and nothing that makes sense", xmp_packet(6))
    with pytest.warns(ImageWarning, match="its EXIF is damaged and was left out"):
        picture = read_image(file)
    assert picture.metadata == Metadata(xmp=xmp_packet(1))
    assert picture.pixels.shape == (40, 24, 3)  # XMP says that it is turned


def test_damaged_tags_do_not_keep_a_tiff_from_being_read(pixels, monkeypatch):
    def fail(tags):
        raise TypeError("no rational")

    file = saved(pixels, "TIFF", exif_block())
    monkeypatch.setattr(image_metadata, "_descriptive", fail)
    with pytest.warns(ImageWarning, match="EXIF is damaged and was left out: no rational"):
        picture = read_image(file)
    assert picture.metadata == Metadata()
    assert np.array_equal(picture.pixels, pixels)


def test_exif_as_imagemagick_once_wrote_it_is_found(pixels):
    data = b"Exif\0\0" + exif_block(3)
    image = Image.fromarray(pixels)
    image.info["Raw profile type exif"] = f"\nexif\n{len(data):8}\n{data.hex()}\n"
    picture = picture_from_pil(image)
    assert picture.metadata.exif is not None
    assert tags_of(picture.metadata.exif) == tags_of(exif_block())
    assert np.array_equal(picture.pixels, np.rot90(pixels, 2))
    image.info["Raw profile type exif"] = "\nexif\n 4\nno hexadecimal digits\n"
    with pytest.warns(ImageWarning, match="damaged"):
        assert picture_from_pil(image).metadata == Metadata()


def test_metadata_behind_the_pixels_of_png_are_found(pixels):
    data = saved(pixels, "PNG", exif_block(6)).getvalue()
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + struct.unpack(">I", data[start : start + 4])[0]]
    moved = data.replace(chunk, b"").replace(b"\0\0\0\0IEND", chunk + b"\0\0\0\0IEND")
    picture = read_image(io.BytesIO(moved))
    assert tags_of(picture.metadata.exif)[1] == tags_of(exif_block())[1]
    assert picture.pixels.shape == (40, 24, 3)


def test_what_is_too_large_for_a_file_is_left_out_with_a_warning(pixels, monkeypatch):
    monkeypatch.setattr(image_metadata, "MAX_EXIF_BYTES", 50)
    monkeypatch.setattr(image_metadata, "MAX_XMP_BYTES", 60)
    file = saved(pixels, "PNG", FULL.exif, FULL.xmp, FULL.icc_profile)
    with pytest.warns(ImageWarning) as caught:
        assert read_image(file).metadata == Metadata(RGB_PROFILE)
    assert [str(warning.message).split(" of ")[0] for warning in caught] == [
        "the picture: its EXIF",
        "the picture: its XMP",
    ]


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".png", "L"), (".jpg", "L"), (".tif", "L"), (".bmp", "L"), (".webp", "RGB"), (".ppm", "RGB")]
)
def test_grey_pictures_are_written_grey_where_the_format_can(suffix, mode, pixels, tmp_path):
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    write_image(tmp_path / f"a{suffix}", grey, Metadata(source=Source.GREY))
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.mode == mode
    found = read_image(tmp_path / f"a{suffix}")
    assert found.metadata.is_grey == (mode == "L")
    if suffix != ".jpg":
        assert np.array_equal(found.pixels, grey)


def test_profiles_go_only_where_they_fit_the_pixels(pixels, tmp_path):
    grey = Metadata(GREY_PROFILE, source=Source.GREY)
    write_image(tmp_path / "grey.png", pixels, grey)
    assert read_image(tmp_path / "grey.png").metadata == grey
    with pytest.warns(ImageWarning, match="profile is not for pixels of mode RGB"):
        write_image(tmp_path / "grey.webp", pixels, grey)
    with pytest.warns(ImageWarning, match="profile is not for pixels of mode L"):
        write_image(tmp_path / "a.png", pixels, Metadata(RGB_PROFILE, source=Source.GREY))
    assert read_image(tmp_path / "a.png").metadata == Metadata(source=Source.GREY)


def test_an_image_made_from_a_file_is_as_pillow_would_have_read_it(pixels):
    image = image_from(pixels, FULL)
    assert image.getexif()[0x010F] == "Canon"
    assert image.info == {"icc_profile": RGB_PROFILE, "exif": b"Exif\0\0" + FULL.exif, "xmp": FULL.xmp}
    assert image_from(pixels, Metadata(source=Source.GREY)).mode == "L"
    assert picture_from_pil(image).metadata == FULL


def test_an_image_may_be_given_other_metadata(pixels):
    image = Image.fromarray(pixels)
    image.info |= {"exif": b"Exif\0\0" + exif_block(6), "icc_profile": RGB_PROFILE}
    plain = picture_with(image, Metadata())
    assert np.array_equal(plain.pixels, pixels)
    assert plain.metadata == Metadata()
    turned = picture_with(image, Metadata(exif=exif_block(3)))
    assert np.array_equal(turned.pixels, np.rot90(pixels, 2))
    assert orientation_of(turned.metadata) == 1


def test_a_pillow_image_keeps_its_own_metadata(pixels):
    image = Image.open(saved(pixels, "JPEG", exif_block(6), xmp_packet(6), RGB_PROFILE))
    before = dict(image.info)
    picture_from_pil(image)
    assert image.info == before
    assert image.size == (40, 24)


blobs = st.none() | st.binary(min_size=1, max_size=300)


@given(
    order=st.sampled_from("<>"),
    orientation=st.integers(1, 8),
    note=st.binary(min_size=1, max_size=300),
    profile=st.none() | st.binary(max_size=300).map(lambda data: bytes(16) + b"RGB " + data),
    title=st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
    name=st.sampled_from([".png", ".jpg", ".webp"]),
)
def test_metadata_come_through_pictures_files_and_containers(
    codec: Codec, order, orientation, note, profile, title, name
):
    xmp = None if title is None else xmp_packet(orientation) + title.encode()
    stored = Metadata(profile, exif_block(orientation, order, maker_note=note), xmp)
    data = codec.encode(np.zeros((5, 9, 3), np.uint8), stored)
    image = codec.decode_image(data)
    assert image.size == (9, 5)
    file = io.BytesIO()
    write_image(file, np.asarray(image), picture_from_pil(image).metadata, suffix=name)
    found = read_image(file).metadata
    assert found.icc_profile == profile
    assert found.xmp == (None if title is None else xmp_packet(1) + title.encode())
    assert tags_of(found.exif)[1][0x927C][:-4] == note
    assert found.exif == upright(stored).exif
