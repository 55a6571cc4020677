"""The picture grid in the file format."""

import dataclasses
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.container import Bitstream, read, write
from mlic.runtime.errors import BitstreamError, CorruptStreamError, TruncatedStreamError, UnsupportedStreamError
from mlic.runtime.grid import Grid, cell_boxes, cell_size
from mlic.runtime.metadata import Metadata
from mlic.runtime.tiles import Box

MODEL = bytes(range(8))


def plain(width, height, latents=b"\1\2\3\4", **others):
    return Bitstream(MODEL, width, height, "float32-syndrome", latents, b"", b"\x0f\x10", **others)


def gridded(width, height, cell_width, cell_height):
    boxes = list(cell_boxes(height, width, cell_height, cell_width))
    cells = tuple(plain(box.width, box.height, bytes([number, 0, 0, 0])) for number, box in enumerate(boxes))
    return Bitstream(MODEL, width, height, "float32-syndrome", b"", b"", b"", grid=Grid(cell_width, cell_height, cells))


def sealed(body):
    return body + struct.pack("<I", zlib.crc32(body))


def file_of(contents, width=100, height=70, more=b""):
    """Return a file with these contents of GRID; ``more`` stands before ENDS."""
    head = struct.pack("<4sBBH8sII", b"MLIC", 1, 1, 0, MODEL, width, height)
    return sealed(head + chunk(b"GRID", contents) + more + struct.pack("<I", 4) + b"ENDS")


def chunk(name, contents=b""):
    return struct.pack("<I", len(contents)) + name + contents


def contents_of(cells, cell_width=64, cell_height=64):
    size = struct.pack("<II", cell_width, cell_height)
    return size + b"".join(struct.pack("<I", len(data)) + data for data in cells)


CELLS = [write(cell) for cell in gridded(100, 70, 64, 64).grid.cells]


def test_layout_is_frozen():
    cell = (
        b"MLIC\x01\x01\x00\x00" + MODEL + b"\x40\x00\x00\x00\x02\x00\x00\x00"
        b"\x04\x00\x00\x00LATS\x00\x00\x00\x00"
        b"\x02\x00\x00\x00SYND\x0f\x10"
        b"\x04\x00\x00\x00ENDS"
    )
    last = cell.replace(b"\x40\x00\x00\x00\x02", b"\x06\x00\x00\x00\x02").replace(b"LATS\x00", b"LATS\x01")
    body = (
        b"MLIC\x01\x01\x00\x00" + MODEL + b"\x46\x00\x00\x00\x02\x00\x00\x00"
        b"\x84\x00\x00\x00GRID\x40\x00\x00\x00\x40\x00\x00\x00"
        b"\x3a\x00\x00\x00" + sealed(cell) + b"\x3a\x00\x00\x00" + sealed(last) + b"\x04\x00\x00\x00ENDS"
    )
    stream = gridded(70, 2, 64, 64)
    assert write(stream) == sealed(body)
    assert read(sealed(body)) == stream


@given(
    st.tuples(*[st.integers(1, 300)] * 2),
    st.tuples(*[st.sampled_from([64, 128])] * 2),
    st.none() | st.binary(min_size=1, max_size=20),
)
def test_round_trip(size, cell, profile):
    size = (max(size[0], cell[0] + 1), max(size[1], cell[1] - 63))
    stream = dataclasses.replace(gridded(*size, *cell), metadata=Metadata(profile))
    assert read(write(stream)) == stream


def test_cells_cover_the_picture_from_left_to_right_and_from_top_to_bottom():
    assert list(cell_boxes(70, 100, 64, 64)) == [
        Box(0, 0, 64, 64), Box(0, 64, 64, 36), Box(64, 0, 6, 64), Box(64, 64, 6, 36)
    ]  # fmt: skip


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([64, 128]), st.integers(1 << 14, 1 << 20))
def test_cells_fit_a_latent_and_no_equal_split_has_fewer(height, width, multiple, latent_pixels):
    rows, columns = cell_size(height, width, multiple, latent_pixels)
    for side, length in ((rows, height), (columns, width)):
        assert side % multiple == 0 or side == -(-length // 64) * 64
        assert side % 64 == 0
        assert side < length + 64
    assert rows * columns <= latent_pixels
    count = len(list(cell_boxes(height, width, rows, columns)))
    for across in range(1, -(-width // multiple) + 1):
        cell_width = -(-width // (across * multiple)) * multiple
        for down in range(1, -(-height // multiple) + 1):
            if across * down >= count:
                break
            assert cell_width * -(-height // (down * multiple)) * multiple > latent_pixels


def test_every_prefix_is_truncated():
    data = write(gridded(100, 70, 64, 64))
    for length in range(len(data)):
        with pytest.raises(TruncatedStreamError):
            read(data[:length])


def test_every_flipped_bit_is_noticed_by_the_file_and_by_the_cell():
    """Whether the outer checksum was repaired or not; what no checksum covers, the layout decides."""
    data = write(gridded(70, 2, 64, 64))
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read(bytes(changed))
        if bit // 8 < len(data) - 4 and bit // 8 not in range(8, 24):  # another model, another size: below
            with pytest.raises(BitstreamError):
                read(sealed(bytes(changed[:-4])))


@pytest.mark.parametrize("length", range(len(contents_of(CELLS))))
def test_every_truncation_of_the_grid_in_a_whole_file_is_corrupt(length):
    with pytest.raises(CorruptStreamError):
        read(file_of(contents_of(CELLS)[:length]))


def wrong_model(cell):
    return sealed(cell[:8] + bytes(8) + cell[16:-4])


def without_checksum(cell):
    return cell[:-1] + bytes([cell[-1] ^ 1])


NESTED = write(gridded(64, 100, 64, 64))
PROFILED = write(plain(64, 64, metadata=Metadata(b"profile")))
UNKNOWN = sealed(CELLS[0][:24] + chunk(b"MORE") + CELLS[0][24:-4])
NOTED = sealed(CELLS[0][:24] + chunk(b"note") + CELLS[0][24:-4])
NEWER = sealed(CELLS[0][:4] + b"\2" + CELLS[0][5:-4])
LARGE = write(plain(64, 64, bytes(4)))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (file_of(contents_of(CELLS[:3])), CorruptStreamError, "GRID ends before cell 4 of 4"),
        (file_of(contents_of([*CELLS, CELLS[3]])), CorruptStreamError, "62 bytes follow the last cell"),
        (file_of(contents_of(CELLS) + b"x"), CorruptStreamError, "1 bytes follow the last cell"),
        (
            file_of(contents_of(CELLS, 0, 64)),
            CorruptStreamError,
            "cells of width 0; expected a multiple of 64 up to 128",
        ),
        (file_of(contents_of(CELLS, 192, 64)), CorruptStreamError, "cells of width 192; expected a multiple of 64 up"),
        (file_of(contents_of(CELLS, 64, 1 << 31)), CorruptStreamError, "cells of height 2147483648"),
        (file_of(contents_of(CELLS, 64, 63)), CorruptStreamError, "cells of height 63"),
        (file_of(contents_of(CELLS, 64, 128)), CorruptStreamError, "cell 1 of 2 .* expected .* 64 x 70"),
        (file_of(contents_of(CELLS[:1], 128, 128)), CorruptStreamError, "128 x 128 for 100 x 70 .* two or more"),
        (file_of(contents_of(CELLS), 99), CorruptStreamError, "cell 2 of 4 .* 36 x 64 pixels; expected .*, 35 x 64"),
        (file_of(contents_of(CELLS), 64), CorruptStreamError, "cell 2 of 2"),
        (file_of(contents_of(CELLS), 1 << 20, 256), CorruptStreamError, "cell 2 of 65536"),
        (file_of(contents_of([CELLS[1], CELLS[0], *CELLS[2:]])), CorruptStreamError, "cell 1 of 4"),
        (file_of(contents_of([wrong_model(CELLS[0]), *CELLS[1:]])), CorruptStreamError, "of model 0000000000000000"),
        (file_of(contents_of([without_checksum(CELLS[0]), *CELLS[1:]])), CorruptStreamError, "cell 1 of 4: checksum"),
        (file_of(contents_of([CELLS[0][:-9], *CELLS[1:]])), CorruptStreamError, "cell 1 of 4: chunk"),
        (file_of(contents_of([CELLS[0] + b"x", *CELLS[1:]])), CorruptStreamError, "cell 1 of 4: 1 bytes follow"),
        (file_of(contents_of([NESTED, NESTED])), CorruptStreamError, "a cell holds GRID; expected LATS, ESCP and SYND"),
        (file_of(contents_of([PROFILED, *CELLS[1:]])), CorruptStreamError, "a cell holds iccp"),
        (file_of(contents_of([NOTED, *CELLS[1:]])), CorruptStreamError, "a cell holds note"),
        (file_of(contents_of([UNKNOWN, *CELLS[1:]])), CorruptStreamError, "a cell holds MORE"),
        (file_of(contents_of([NEWER, *CELLS[1:]])), UnsupportedStreamError, "cell 1 of 4: file version 2"),
        (file_of(contents_of([b"\x89PNG1234", *CELLS[1:]])), UnsupportedStreamError, "this is a PNG picture"),
        (file_of(contents_of([b"", *CELLS[1:]])), CorruptStreamError, "cell 1 of 4: header needs 24 bytes, got 0"),
        (file_of(b""), CorruptStreamError, "GRID has 0 bytes"),
        (file_of(contents_of(CELLS), more=chunk(b"LATS", bytes(4))), CorruptStreamError, "LATS stands too late"),
        (file_of(contents_of(CELLS), more=chunk(b"GRID")), CorruptStreamError, "GRID occurs twice"),
        (
            sealed(CELLS[0][:-12] + chunk(b"GRID", contents_of(CELLS)) + CELLS[0][-12:-4]),
            CorruptStreamError,
            "GRID stands beside LATS, SYND",
        ),
    ],
)
def test_impossible_grids_are_refused(data, error, message):
    with pytest.raises(error, match=message):
        read(data)


def test_limits_hold_for_the_picture_and_for_its_cells():
    data = write(gridded(100, 70, 64, 64))
    assert read(data, max_pixels=7000, max_latent_pixels=4096).grid is not None
    with pytest.raises(UnsupportedStreamError, match="100 x 70 pixels; the limit is 6999"):
        read(data, max_pixels=6999)
    with pytest.raises(UnsupportedStreamError, match="cell 1 of 4: 64 x 64 pixels in one latent; the limit is 4095"):
        read(data, max_latent_pixels=4095)
