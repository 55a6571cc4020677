"""The native reader and writer of files does what Python's does, and refuses what it refuses."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from mlic.runtime import Codec, container
from mlic.runtime.choices import MAX_PIXELS, QUALITIES
from mlic.runtime.container import MAX_LATENT_PIXELS, Bitstream
from mlic.runtime.errors import BitstreamError
from mlic.runtime.grid import cell_boxes, cell_size
from mlic.runtime.metadata import MAX_EXIF_BYTES, MAX_ICC_BYTES, MAX_XMP_BYTES, Metadata, Source
from tests.native.core_probe import RefusedError, status_of
from tests.native.programs import STATUSES

pytestmark = pytest.mark.xdist_group("native_core")  # one build

EXIF = b"II*\0\x08\0\0\0\0\0\0\0\0\0"


@pytest.fixture(scope="module", params=[*QUALITIES, "tiny", "grid", "integer", "integer grid"])
def file(request, codec, integer_codec, make_photo):
    """A file of each bundle that ships, one with escapes and metadata, and one with a grid and all metadata."""
    if request.param.startswith("integer"):
        codec = integer_codec
    if request.param in ("tiny", "integer"):
        return codec.encode(make_photo(70, 90), Metadata(bytes(range(256)) * 3, xmp=b"<x/>"))
    if request.param.endswith("grid"):
        gridded = Codec(codec.bundle, codec.backend, latent_pixels=64 * 64)
        metadata = Metadata(b"a profile", EXIF, b"<x/>", Source.DEEP | Source.TRANSPARENT)
        return gridded.encode(make_photo(65, 80), metadata)
    return Codec.load(quality=request.param, threads=1).encode(make_photo(64, 64))


def sealed(data):
    """Return a file with a checksum that fits."""
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def same_status(probe, data):
    expected = status_of(container.read, data)
    assert probe.status("read_container", data, MAX_PIXELS, MAX_LATENT_PIXELS) == expected, data.hex()
    return expected


def parts_of(metadata: Metadata) -> Iterator[bytes]:
    """Yield metadata as the probe takes and gives it."""
    for part in (metadata.icc_profile, metadata.exif, metadata.xmp):
        yield b"\0" if part is None else b"\1"
        yield part or b""
    yield bytes([metadata.source])


def coded(stream: Bitstream) -> list[bytes]:
    """Return what a stream codes as the probe gives it."""
    if stream.grid is None:
        return [stream.latents, stream.escapes, stream.checks]
    size = [struct.pack("<I", side) for side in (stream.grid.cell_width, stream.grid.cell_height)]
    return [*size, *(part for cell in stream.grid.cells for part in coded(cell))]


def test_a_file_is_taken_apart_and_written_as_python_does(probe, file):
    stream = container.read(file)
    model_id, width, height, arithmetic, *parts = probe.ask("read_container", file, MAX_PIXELS, MAX_LATENT_PIXELS)
    assert (model_id, arithmetic.decode()) == (stream.model_id, stream.arithmetic)
    assert struct.unpack("<II", width + height) == (stream.width, stream.height)
    assert parts == [*parts_of(stream.metadata), *coded(stream)]
    assert probe.ask("read_header", file[:24], MAX_LATENT_PIXELS) == [model_id, width, height, arithmetic]
    assert probe.ask("rewrite_container", file) == [file]
    if stream.grid is None:
        assert probe.ask("write_container", model_id, width, height, arithmetic, *parts) == [file]


def test_every_prefix_is_refused_alike(probe, file):
    assert {same_status(probe, file[:length]) for length in range(len(file))} == {20}


def test_every_flipped_bit_is_refused_alike_whether_the_checksum_was_repaired_or_not(probe, file):
    seen = set()
    for bit in range(8 * len(file)):
        changed = bytearray(file)
        changed[bit // 8] ^= 1 << bit % 8
        assert same_status(probe, bytes(changed)) != 0
        seen.add(same_status(probe, sealed(bytes(changed))))
    assert seen == {0, 20, 21, 22}


def test_trailing_data_is_refused_alike(probe, file):
    for extra in (b"\0", b"MLIC", file):
        assert same_status(probe, file + extra) == 21


def test_random_chunks_are_refused_alike(probe, file, rng):
    names = [
        b"LATS",
        b"ESCP",
        b"SYND",
        b"CHCK",
        b"GRID",
        b"iccp",
        b"exif",
        b"xmpd",
        b"orig",
        b"note",
        b"MORE",
        b"ENDS",
        b"LA1S",
    ]
    contents = [
        b"",
        bytes(4),
        b"abcde",
        zlib.compress(b"profile"),
        zlib.compress(b"x") + b"y",
        zlib.compress(b""),
        b"7",
    ]
    seen = set()
    for _ in range(3000):
        chosen = [names[place] for place in rng.integers(0, len(names), rng.integers(1, 6))]
        filled = [contents[place] for place in rng.integers(0, len(contents), len(chosen))]
        chunks = [struct.pack("<I", len(data)) + name + data for name, data in zip(chosen, filled, strict=True)]
        seen.add(same_status(probe, sealed(file[:24] + b"".join(chunks) + b"\4\0\0\0ENDS" + bytes(4))))
        own = struct.pack("<I", 4) + (b"SYND", b"CHCK")[file[5] - 1] + b"abcd"
        body = struct.pack("<I", 4) + b"LATS" + bytes(4) + own + b"".join(chunks)
        seen.add(same_status(probe, sealed(file[:24] + body + b"\4\0\0\0ENDS" + bytes(4))))
    assert seen == {0, 21, 22}


@pytest.mark.parametrize(
    ("name", "limit"), [(b"iccp", MAX_ICC_BYTES), (b"exif", MAX_EXIF_BYTES), (b"xmpd", MAX_XMP_BYTES)]
)
def test_metadata_is_unpacked_within_the_same_bounds(probe, codec, make_photo, name, limit):
    plain = codec.encode(make_photo(8, 8))
    seen = set()
    for packed in (
        zlib.compress(bytes(limit)), zlib.compress(bytes(limit + 1)), zlib.compress(b"a" * 99)[:-1],
        b"", zlib.compressobj(zdict=b"abc").compress(b"") + b"x", zlib.compress(bytes(1 << 14)), b"no zlib",
    ):  # fmt: skip
        chunk = struct.pack("<I", len(packed)) + name + packed
        seen.add(same_status(probe, sealed(plain[:-12] + chunk + plain[-12:])))
    assert seen == {0, 21}


@pytest.mark.parametrize("place", range(3))
def test_metadata_is_written_within_the_same_bounds(probe, place):
    head = [bytes(8), struct.pack("<I", 8), struct.pack("<I", 8), "float32-syndrome"]
    for size, status in ((0, 10), (1, 0), (MAX_XMP_BYTES, 0), (MAX_XMP_BYTES + 1, 10)):
        parts = list(parts_of(Metadata()))
        parts[2 * place : 2 * place + 2] = b"\1", bytes(size)
        assert probe.status("write_container", *head, *parts, b"", b"", b"") == status


@pytest.mark.parametrize("flags", [b"\0", b"\1", b"\7", b"\xff", b"", b"\1\1"])
def test_flags_of_the_source_are_read_alike(probe, codec, make_photo, flags):
    plain = codec.encode(make_photo(8, 8))
    data = sealed(plain[:-12] + struct.pack("<I", len(flags)) + b"orig" + flags + plain[-12:])
    if same_status(probe, data) == 0:
        found = probe.ask("read_container", data, MAX_PIXELS, MAX_LATENT_PIXELS)[4:11]
        assert found == list(parts_of(container.read(data).metadata))


def test_foreign_files_and_impossible_headers_are_refused_alike(probe, file):
    foreign = [
        b"\x89PNG\r\n",
        b"\xff\xd8\xff\xe0",
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"\0\0\0\x1cftypavif",
        b"{",
        b"",
        b"ML",
        b"hello",
    ]
    for data in foreign:
        same_status(probe, data)
        same_status(probe, data + bytes(30))
    for side in (0, 1, 1 << 13, 1 << 14, 1 << 20, (1 << 20) + 1, (1 << 32) - 1):
        for offset in (16, 20):
            same_status(probe, sealed(file[:offset] + struct.pack("<I", side) + file[offset + 4 :]))
    stream = container.read(file)
    pixels = stream.width * stream.height
    assert probe.status("read_header", file, pixels) == 0
    assert probe.status("read_header", file, pixels - 1) == 22


def test_a_stream_of_python_is_written_back(probe):
    """The smallest file: no words, no escapes."""
    empty = Bitstream(bytes(8), 1, 1, "float32-syndrome", b"", b"", bytes(6))
    data = container.write(empty)
    assert same_status(probe, data) == 0


def outcome_of(function, *arguments) -> tuple[int, str]:
    """Return status and text of what a function raises; 0 and nothing if it does not."""
    try:
        function(*arguments)
    except BitstreamError as error:
        return STATUSES[type(error)], str(error)
    except RefusedError as error:
        return error.status, str(error)
    return 0, ""


@pytest.mark.parametrize("code", range(4))
def test_checks_are_those_of_the_arithmetic_in_both(probe, code):
    """Every arithmetic with the chunk of every other, both or none, and of several sizes; texts are the same."""
    head = b"MLIC\1" + bytes([code]) + bytes(10) + struct.pack("<II", 8, 8)
    accepted = set()
    for sizes in itertools.product([None, 0, 3, 4, 5, 6], [None, 0, 3, 4, 5]):
        checks = [
            struct.pack("<I", size) + name + bytes(size)
            for name, size in zip((b"SYND", b"CHCK"), sizes, strict=True)
            if size is not None
        ]
        body = head + struct.pack("<I", 4) + b"LATS\1\0\0\0" + b"".join(checks) + struct.pack("<I", 4) + b"ENDS"
        data = body + struct.pack("<I", zlib.crc32(body))
        expected = outcome_of(container.read, data)
        assert outcome_of(probe.ask, "read_container", data, MAX_PIXELS, MAX_LATENT_PIXELS) == expected
        if expected == (0, ""):
            accepted.add(sizes)
            assert probe.ask("rewrite_container", data) == [data]
    assert accepted == {1: {(size, None) for size in (0, 3, 4, 5, 6)}, 2: {(None, 4)}}.get(code, set())


def grid_file(codec, make_photo, height=130, width=70) -> bytes:
    return Codec(codec.bundle, codec.backend, latent_pixels=64 * 64).encode(make_photo(height, width))


@pytest.mark.parametrize("width", [64, 70])  # one column of cells, whose width may be no larger than needed; and two
def test_every_truncated_or_changed_grid_in_a_whole_file_is_refused_alike(probe, codec, make_photo, rng, width):
    """The outer checksum fits; lengths, headers and checksums of cells do not."""
    file = grid_file(codec, make_photo, 130, width)
    contents = file[32:-12]  # header and frame before, ENDS behind

    def whole(changed: bytes) -> bytes:
        body = file[:24] + struct.pack("<I", len(changed)) + b"GRID" + changed
        return sealed(body + b"\4\0\0\0ENDS" + bytes(4))

    assert whole(contents) == file
    assert {same_status(probe, whole(contents[:length])) for length in range(len(contents))} == {21}
    assert same_status(probe, whole(contents + b"x")) == 21
    seen = set()
    for start in range(0, len(contents) - 4):  # numbers anywhere, sizes of cells and lengths among them
        for value in (0, 64, 128, 1 << 31, int(rng.integers(0, 1 << 32))):
            changed = contents[:start] + struct.pack("<I", value) + contents[start + 4 :]
            seen.add(same_status(probe, whole(changed)))
    assert seen == {0, 21, 22}  # 0: the value that was there


def test_forged_cells_are_refused_alike(probe, codec, make_photo):
    """Each cell's own checksum fits, too: every flipped bit of a cell, and chunks that it must not have."""
    file = grid_file(codec, make_photo, 64, 70)
    (length,) = struct.unpack_from("<I", file, 40)
    cell, rest = file[44 : 44 + length], file[44 + length : -12]

    def with_cell(changed: bytes) -> bytes:
        contents = file[32:40] + struct.pack("<I", len(changed)) + changed + rest
        body = file[:24] + struct.pack("<I", len(contents)) + b"GRID" + contents
        return sealed(body + b"\4\0\0\0ENDS" + bytes(4))

    assert with_cell(cell) == file
    seen = set()
    for bit in range(8 * (len(cell) - 4)):
        changed = bytearray(cell)
        changed[bit // 8] ^= 1 << bit % 8
        seen.add(same_status(probe, with_cell(sealed(bytes(changed)))))
    assert seen == {0, 21, 22}
    for name in (b"iccp", b"note", b"MORE", b"orig", b"GRID"):
        chunk = struct.pack("<I", 3) + name + b"abc"
        assert same_status(probe, with_cell(sealed(cell[:-12] + chunk + cell[-12:]))) == 21
    nested = grid_file(codec, make_photo, 65, 64)
    assert same_status(probe, with_cell(nested)) == 21
    assert same_status(probe, with_cell(b"\x89PNG1234")) == 22


def test_limits_of_pictures_and_latents_are_the_same(probe, codec, make_photo):
    for file in (codec.encode(make_photo(70, 90)), grid_file(codec, make_photo)):
        for limits in ((1 << 12, 1 << 12), (6300, 6300), (6299, 6300), (6300, 6299), (9100, 4096), (9100, 4095)):
            expected = status_of(container.read, file, *limits)
            assert probe.status("read_container", file, *limits) == expected


@pytest.mark.parametrize(("multiple", "latent_pixels"), [(64, 4096), (64, 12345), (128, 16384), (64, 1 << 26)])
def test_cells_lie_where_pythons_do(probe, rng, multiple, latent_pixels):
    sizes = [(1, 1), (64, 65), (1 << 14, 1 << 14), (1, 1 << 20)]
    sizes += [tuple(int(side) for side in rng.integers(1, 5000, 2)) for _ in range(20)]
    for height, width in sizes:
        if height * width > 1000 * latent_pixels:
            continue
        rows, columns, *boxes = probe.ask("cells", np.array([height, width, multiple, latent_pixels]))
        size = cell_size(height, width, multiple, latent_pixels)
        assert struct.unpack("<qq", rows + columns) == size
        assert boxes == [np.array(box).tobytes() for box in cell_boxes(height, width, *size)]
