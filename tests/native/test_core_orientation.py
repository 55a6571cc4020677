"""EXIF and XMP of an upright picture become what Python makes of them."""

from __future__ import annotations

import struct
import warnings

import pytest

from mlic.runtime.errors import ImageWarning
from mlic.runtime.metadata import Metadata
from mlic.runtime.orientation import upright
from tests.native.test_core_container import parts_of

pytestmark = pytest.mark.xdist_group("native_core")  # one build

XMPS = (
    None,
    b"<x tiff:Orientation='6' tiff:Orientation = \"8\"/>",
    b"<tiff:Orientation>3</tiff:Orientation>",
    b"tiff:Orientation tiff:Orientation = '12'",
    b"tiff:Orientation=6 tiff:Orientation>",
    b"tiff:Orientation\x0b>\x0c\r\n\t 2",
    b"tiff:OrientationX='6' <tiff:Orientation>0008<",
    b"tiff:Orientation='",
)


def exif(order: str, kind: int = 3, value: int = 6, count: int = 1, thumbnail: bool = True) -> bytes:
    """Return EXIF with an orientation, something else, and a thumbnail in its second directory."""
    format_ = {1: "B3x", 3: "H2x", 4: "I"}.get(kind, "I")
    magic = b"II*\0" if order == "<" else b"MM\0*"
    first = struct.pack(order + "H", 2) + struct.pack(order + "HHI" + format_, 0x0112, kind, count, value)
    first += struct.pack(order + "HHII", 0x010F, 2, 4, 0x41424344)
    link = 8 + len(first) + 4
    second = struct.pack(order + "H", 2)
    second += struct.pack(order + "HHII", 0x0201, 4, 1, link + 30) + struct.pack(order + "HHII", 0x0202, 4, 1, 8)
    head = magic + struct.pack(order + "I", 8) + first
    if not thumbnail:
        return head + struct.pack(order + "I", 0)
    return head + struct.pack(order + "I", link) + second + bytes(4) + b"\xff\xd8 thumb and more"


def exif_whose_thumbnail_is_its_own_link() -> bytes:
    """Return EXIF in which the link to the second directory looks like the beginning of a JPEG, and is said to be."""
    first = struct.pack("<H", 1) + struct.pack("<HHIH2x", 0x0112, 3, 1, 6)
    end, link = 8 + len(first), 0x0000D8FF
    head = b"II*\0" + struct.pack("<I", 8) + first + struct.pack("<I", link)
    second = struct.pack("<H", 2)
    second += struct.pack("<HHII", 0x0201, 4, 1, end) + struct.pack("<HHII", 0x0202, 4, 1, 100)
    return head + b"x" * (link - len(head)) + second


def same(probe, metadata: Metadata) -> bool:
    """Compare, and return whether the EXIF was found good; libmlic refuses what Python leaves out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImageWarning)
        expected = upright(metadata)
    if caught:
        assert probe.status("upright", *parts_of(metadata)) == 10
    else:
        assert probe.ask("upright", *parts_of(metadata)) == list(parts_of(expected))
    return not caught


@pytest.mark.parametrize("order", "<>")
def test_orientations_of_every_kind_become_upright(probe, order):
    for kind in (1, 2, 3, 4):
        for value in range(10):
            for count in (1, 2):
                assert same(probe, Metadata(exif=exif(order, kind, value, count)))
    assert same(probe, Metadata(exif=exif(order, thumbnail=False)))
    assert same(probe, Metadata(exif=exif_whose_thumbnail_is_its_own_link()))
    assert same(probe, Metadata(exif=b"Exif\0\0Exif\0\0" + exif(order)))


@pytest.mark.parametrize("xmp", XMPS)
def test_orientations_in_xmp_become_upright(probe, xmp):
    for file in (None, exif("<", 7), exif(">", 3, 1), exif("<", 3, 8)):
        assert same(probe, Metadata(b"profile", file, xmp))


@pytest.mark.parametrize("order", "<>")
def test_damaged_exif_is_noticed_alike(probe, order):
    whole, seen = exif(order), set()
    for length in range(len(whole)):
        seen.add(same(probe, Metadata(exif=whole[:length])))
    for place in range(len(whole)):
        for value in (0, 1, 7, 127, 255):
            changed = whole[:place] + bytes([value]) + whole[place + 1 :]
            seen.add(same(probe, Metadata(exif=changed, xmp=XMPS[1])))
    assert seen == {True, False}
