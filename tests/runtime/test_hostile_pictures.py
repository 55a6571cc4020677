"""Picture files made to harm: each ends in one ImageError, soon, and in little memory."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime.codec import Codec
from mlic.runtime.errors import ImageError
from mlic.runtime.image_files import picture_from_pil, read_image

BOMB = zlib.compress(bytes(64 << 20), 9)  # 64 MB in 64 kB
LIMIT_MB = 192  # of memory above that of the interpreter; the bombs below stand for gigabytes

LIMIT = 1 << 26  # pixels


def png_chunk(name, contents):
    return struct.pack(">I", len(contents)) + name + contents + struct.pack(">I", zlib.crc32(name + contents))


def png(width, height, *chunks, data=b""):
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = png_chunk(b"IDAT", data or zlib.compress(bytes(height * (3 * width + 1))) if width * height < 99 else data)
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + body + png_chunk(b"IEND", b"")


def tiff(entries, following=0, data=b""):
    """Return a little-endian TIFF file of one directory at byte 8: entries are tag, type, count and value."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", following) + data


def tiff_of(width, height, following=0, *more):
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200),
        (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, min(width * height, 1 << 31)), *more,
    ]  # fmt: skip
    return tiff(sorted(entries), following, bytes(1200))


def gif(width, height, frame_width, frame_height):
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, frame_width, frame_height, 0)
    return screen + frame + b"\x02\x02\x4c\x01\x00;"


def webp(width, height):
    size = (width - 1) | (height - 1) << 14
    lossless = b"\x2f" + struct.pack("<I", size) + bytes(40)
    chunk = b"VP8L" + struct.pack("<I", len(lossless)) + lossless + b"\0" * (len(lossless) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def icon(inner):
    """Return an ICO file whose directory says 16 x 16, whatever is in it."""
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 24, len(inner), 22) + inner


def packed_png(width, height):
    """Return a complete PNG picture of one colour, some thousand times smaller than its pixels."""
    buffer = BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    "PNG of 2^31 pixels a side": png((1 << 31) - 1, (1 << 31) - 1, data=zlib.compress(b"")),
    "PNG above Pillow's limit": png(20000, 20000, data=zlib.compress(b"")),
    "PNG with a bomb for a profile": png(3, 3, png_chunk(b"iCCP", b"a\0\0" + BOMB)),
    "PNG with a bomb for a text": png(3, 3, png_chunk(b"zTXt", b"a\0\0" + BOMB)),
    "PNG with an international bomb": png(3, 3, png_chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB)),
    "PNG with many texts": png(3, 3, *[png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 70),
    "PNG with more pixels than it says": png(3, 3, data=BOMB),
    "TIFF of 2^32 pixels a side": tiff_of((1 << 32) - 1, (1 << 32) - 1),
    "TIFF above the limit": tiff_of(60000, 60000),
    "TIFF whose directory follows itself": tiff_of(30, 30, 8),
    "TIFF whose directories go on for ever": tiff_of(30, 30, 100),
    "TIFF with a huge entry": tiff_of(30, 30, 0, (34675, 7, (1 << 32) - 1, 8)),
    "TIFF whose profile is a number": tiff_of(30, 30, 0, (34675, 3, 1, 7)),
    "TIFF with a directory within itself": tiff_of(30, 30, 0, (34665, 4, 1, 8), (330, 4, 1, 8)),
    "GIF of 65535 pixels a side": gif(65535, 65535, 1, 1),
    "GIF whose frame is larger than it": gif(1, 1, 65535, 65535),
    "WebP of 16384 pixels a side": webp(16384, 16384),
    "icon with more pixels than it says": icon(packed_png(9000, 9000)),
    "icon with as many as Pillow bears": icon(packed_png(13000, 13000)),
    "BMP of 2^31 pixels": b"BM" + struct.pack("<IHHIIIIHHII", 90, 0, 0, 54, 40, 1 << 31, 1, 1, 24, 0, 0) + bytes(40),
    "PPM of 10^9 pixels a side": b"P6 1000000000 1000000000 255 " + bytes(99),
    "PPM with a number without an end": b"P6 " + b"1" * 5000,
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n%%EOF\n",
}
READ = ("PNG with more pixels than it says", "TIFF whose directory follows itself",
        "TIFF whose directories go on for ever", "TIFF with a huge entry", "TIFF whose profile is a number",
        "TIFF with a directory within itself")  # fmt: skip


@pytest.fixture(autouse=True)
def _warnings_are_not_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def measured(tmp_path):
    """Returns a function that reads a file in another process: what it said, and by how many MB its memory grew."""
    script = (
        "import resource, sys, warnings; from PIL import Image; warnings.simplefilter('ignore')\n"
        "from mlic.runtime.errors import ImageError; from mlic.runtime.image_files import read_image\n"
        "Image.init(); peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try: said = str(read_image(sys.argv[1]).pixels.shape)\n"
        "except ImageError as error: said = f'ImageError {error}'\n"
        "print((peak() - before) // 1024, said)"
    )

    def measured(data):
        (tmp_path / "file").write_bytes(data)
        result = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "file")],
            capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (20, 20)),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        grown, said = result.stdout.rstrip("\n").split(" ", 1)
        return int(grown), said

    return measured


@pytest.mark.parametrize("name", FILES)
def test_bomb_ends_soon_and_in_little_memory(name, measured):
    grown, said = measured(FILES[name])
    assert "\n" not in said
    if name not in READ:
        assert said.startswith("ImageError "), said
    assert grown < LIMIT_MB


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (FILES["PNG of 2^31 pixels a side"], f"too many pixels; the limit is {LIMIT}"),
        (FILES["TIFF above the limit"], f"too many pixels; the limit is {LIMIT}"),
        (FILES["icon with more pixels than it says"], "ICO files are not read"),
        (png(10000, 7000, data=zlib.compress(b"")), f"10000 x 7000 pixels; expected 1 to {LIMIT}"),
        (FILES["EPS"], "EPS files are not read"),
    ],
)
def test_the_limit_is_named(data, message):
    with pytest.raises(ImageError, match=message):
        read_image(BytesIO(data), LIMIT)


def test_an_eps_file_is_never_given_to_ghostscript(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ImageError, match="EPS files are not read"):
        read_image(BytesIO(FILES["EPS"]))
    assert not (tmp_path / "ran").exists()


def test_what_pillow_raises_is_an_image_error(monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(ImageError, match="the picture: cannot be read: two lines"):
        read_image(BytesIO(b""))


def test_a_picture_that_is_larger_once_it_is_decoded_is_refused(monkeypatch):
    image = Image.new("RGB", (4, 4))
    monkeypatch.setattr(image, "load", lambda: setattr(image, "_size", (99, 99)))
    with pytest.raises(ImageError, match="99 x 99 pixels; expected 1 to 16"):
        picture_from_pil(image, max_pixels=16)


def test_a_profile_that_is_no_bytes_is_left_out():
    assert read_image(BytesIO(FILES["TIFF whose profile is a number"])).metadata.icc_profile is None


class Pipe(BytesIO):
    """A file that cannot seek and never ends."""

    taken = 0

    def seekable(self):
        return False

    def read(self, size=-1):
        assert size >= 0, "reads to an end that never comes"
        self.taken += size
        return bytes(size)


def test_no_more_is_read_than_pictures_of_the_limit_need(tmp_path):
    pipe = Pipe()
    with pytest.raises(ImageError, match="the file is larger than 67110464 bytes, the limit for its number of pixels"):
        read_image(pipe, max_pixels=100)
    assert pipe.taken == (1 << 26) + 1601
    path = tmp_path / "sparse.webp"
    with path.open("wb") as file:
        file.write(webp(10, 10))
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="the file is larger than"):
        read_image(path)
    with path.open("rb") as file, pytest.raises(ImageError, match="the file is larger than"):
        read_image(file)


def test_a_file_object_is_read_from_where_it_stands():
    buffer = BytesIO()
    Image.fromarray(np.full((3, 4, 3), 9, np.uint8)).save(buffer, "PNG")
    assert read_image(BytesIO(buffer.getvalue())).pixels.shape == (3, 4, 3)


def test_a_picture_object_of_pillow_that_is_a_bomb_is_a_typed_error(codec):
    buffer = BytesIO()
    Image.new("1", (20000, 5)).save(buffer, "PNG")
    with Image.open(buffer) as image, pytest.raises(ImageError, match="expected 1 to 4096"):
        Codec(codec.bundle, codec.backend, max_pixels=4096).encode(image)
