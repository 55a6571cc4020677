"""Orientation in EXIF and XMP: read, and set to upright in place."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from mlic.runtime.errors import ImageWarning
from mlic.runtime.metadata import Metadata, Source
from mlic.runtime.orientation import orientation_of, upright
from tests.exif_blocks import exif_block, thumbnail, xmp_packet

orders = pytest.mark.parametrize("order", ["<", ">"])


def loaded(exif):
    tags = Image.Exif()
    tags.load(exif)
    return tags


@orders
@pytest.mark.parametrize("kind", [1, 3, 4])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_says_how_a_picture_lies(orientation, kind, order):
    exif = exif_block(orientation, order, kind=kind)
    assert orientation_of(Metadata(exif=exif)) == orientation
    assert loaded(exif)[0x0112] == (orientation if kind != 1 else bytes([orientation]))  # Pillow makes nothing of these
    assert orientation_of(Metadata(exif=b"Exif\0\0" + exif)) == orientation


@orders
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_but_orientation_and_thumbnail_stays_byte_for_byte(orientation, order):
    exif = exif_block(orientation, order)
    found = upright(Metadata(exif=exif)).exif
    assert len(found) == len(exif)
    assert loaded(found)[0x0112] == 1
    if orientation == 1:
        assert found == exif
        return
    expected = exif_block(1, order)
    second = struct.pack(order + "I", 8 + 2 + 48 + 4 + 2 + 24 + 4)
    expected = expected.replace(second, bytes(4), 1).replace(thumbnail(), bytes(len(thumbnail())))
    assert found == expected
    assert loaded(found).get_ifd(0x8769) == loaded(exif).get_ifd(0x8769)
    assert loaded(exif).get_ifd(ExifTags.IFD.IFD1)
    assert not loaded(found).get_ifd(ExifTags.IFD.IFD1)


def test_upright_metadata_stay_as_they_are():
    metadata = Metadata(b"profile", exif_block(1), xmp_packet(1), Source.GREY)
    assert upright(metadata) == metadata
    turned = upright(Metadata(exif=exif_block(8), xmp=xmp_packet(8)))
    assert upright(turned) == turned


def test_the_prefix_of_jpeg_is_taken_off():
    assert upright(Metadata(exif=b"Exif\0\0Exif\0\0" + exif_block())).exif == exif_block()


def test_exif_comes_before_xmp():
    assert orientation_of(Metadata(exif=exif_block(6), xmp=xmp_packet(3))) == 6
    assert orientation_of(Metadata(exif=exif_block(None), xmp=xmp_packet(3))) == 3
    assert orientation_of(Metadata(xmp=xmp_packet(3))) == 3
    assert orientation_of(Metadata(exif=exif_block(1), xmp=xmp_packet(3))) == 1
    assert orientation_of(Metadata(exif=exif_block(None), xmp=xmp_packet())) == orientation_of(Metadata()) == 1


def test_the_thumbnail_goes_too_where_xmp_alone_tells_of_a_turn():
    found = upright(Metadata(exif=exif_block(None), xmp=xmp_packet(3)))
    assert not loaded(found.exif).get_ifd(ExifTags.IFD.IFD1)
    assert found.xmp == xmp_packet(1)


@pytest.mark.parametrize("value", [0, 9, 77, 65535])
def test_impossible_orientations_are_upright(value):
    metadata = Metadata(exif=exif_block(value), xmp=xmp_packet(value))
    assert orientation_of(metadata) == orientation_of(Metadata(xmp=xmp_packet(value))) == 1
    assert upright(metadata) == Metadata(exif=exif_block(1), xmp=xmp_packet(1))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"<a tiff:Orientation='6'/>", b"<a tiff:Orientation='1'/>"),
        (b'<a tiff:Orientation = "8"/>', b'<a tiff:Orientation = "1"/>'),
        (b"<tiff:Orientation>\n3</tiff:Orientation>", b"<tiff:Orientation>\n1</tiff:Orientation>"),
        (b"Orientation=6 exif:PixelXDimension='6'", b"Orientation=6 exif:PixelXDimension='6'"),
    ],
)
def test_orientation_in_xmp_becomes_1(before, after):
    assert upright(Metadata(xmp=before)).xmp == after


@orders
def test_the_first_of_several_entries_counts_and_all_are_set(order):
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0), struct.pack(order + "HHIHH", 0x0112, 3, 1, 3, 0)
    head = exif_block(order=order)[:8] + struct.pack(order + "H", 2)
    exif = head + b"".join(entry) + bytes(4)
    assert orientation_of(Metadata(exif=exif)) == 6
    one = struct.pack(order + "HHIHH", 0x0112, 3, 1, 1, 0)
    assert upright(Metadata(exif=exif)).exif == head + one * 2 + bytes(4)


DAMAGED = [
    b"",
    b"II*\0",
    b"junk of more than eight bytes",
    b"II\0*" + exif_block()[4:],
    b"II*\0" + struct.pack("<I", 4) + exif_block()[8:],
    b"II*\0" + struct.pack("<I", 1 << 31) + exif_block()[8:],
    exif_block()[:9],
    exif_block()[:40],
]


@pytest.mark.parametrize("exif", DAMAGED)
def test_damaged_exif_is_left_out_with_a_warning(exif):
    with pytest.raises(ValueError, match=r"it begins with|its directory"):
        orientation_of(Metadata(exif=exif))
    with pytest.warns(ImageWarning, match="the picture: its EXIF is damaged and was left out: it"):
        assert upright(Metadata(exif=exif, xmp=xmp_packet(6))) == Metadata(xmp=xmp_packet(1))


def test_a_thumbnail_that_is_none_is_not_wiped():
    """Its link may lead anywhere; here, into the first directory, and to something that is no JPEG."""
    for place, size in ((10, 40), (150, 10), (1 << 31, 1 << 31), (200, 1 << 31)):
        exif = bytearray(exif_block(6))
        exif[10:12] = b"\xff\xd8"  # a tag that looks like the beginning of a JPEG
        second = exif.index(struct.pack("<HHI", 0x0201, 4, 1))
        exif[second + 8 : second + 12] = struct.pack("<I", place)
        exif[second + 20 : second + 24] = struct.pack("<I", size)
        found = upright(Metadata(exif=bytes(exif))).exif
        assert sum(a != b for a, b in zip(found, exif, strict=True)) == 2  # the orientation and the link


def test_a_link_to_nowhere_is_cut():
    exif = exif_block(6, with_thumbnail=False)
    for link in (len(exif), len(exif) - 1, 1 << 31, 8):
        linked = exif[:58] + struct.pack("<I", link) + exif[62:]
        assert upright(Metadata(exif=linked)).exif == exif_block(1, with_thumbnail=False)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: b"II*\0\x08\0\0\0" + data), st.data())
@pytest.mark.filterwarnings("ignore:the picture")
def test_whatever_the_bytes_exif_is_upright_or_left_out(exif, data):
    for case in (exif, mutated(exif_block(data.draw(st.integers(1, 8)), data.draw(st.sampled_from("<>"))), data)):
        found = upright(Metadata(exif=case))
        assert orientation_of(found) == 1
        assert found.exif is None or len(found.exif) <= len(case)


def mutated(exif, data):
    changed = bytearray(exif)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, min(len(exif), 130) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed[: data.draw(st.integers(0, len(exif)))])


@given(st.binary(max_size=200), st.text(max_size=80))
def test_xmp_of_any_kind_is_upright_afterwards(raw, text):
    for xmp in (raw, text.encode(errors="replace"), b'tiff:Orientation="' + raw):
        assert orientation_of(upright(Metadata(xmp=xmp))) == 1
