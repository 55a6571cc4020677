"""The file format."""

import dataclasses
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.choices import MAX_PIXELS
from mlic.runtime.container import MAX_CHUNKS, Bitstream, Header, read, read_header, read_metadata, write
from mlic.runtime.errors import (
    BitstreamError,
    CorruptStreamError,
    ImageError,
    TruncatedStreamError,
    UnsupportedStreamError,
)
from mlic.runtime.metadata import MAX_EXIF_BYTES, MAX_ICC_BYTES, MAX_XMP_BYTES, Metadata, Source

SMALL = Bitstream(
    model_id=bytes(range(8)),
    width=300,
    height=2,
    arithmetic="float32-syndrome",
    latents=b"\1\2\3\4",
    escapes=b"\x80",
    checks=b"\x0f\x10\xaa\xbb\xcc\xdd",
)
BODY = (
    b"MLIC\x01\x01\x00\x00" + bytes(range(8)) + b"\x2c\x01\x00\x00\x02\x00\x00\x00"
    b"\x04\x00\x00\x00LATS\x01\x02\x03\x04"
    b"\x01\x00\x00\x00ESCP\x80"
    b"\x06\x00\x00\x00SYND\x0f\x10\xaa\xbb\xcc\xdd"
    b"\x04\x00\x00\x00ENDS"
)

blobs = st.none() | st.binary(min_size=1, max_size=50)
metadata = st.builds(Metadata, icc_profile=blobs, exif=blobs, xmp=blobs, source=st.integers(0, 7).map(Source))
streams = st.builds(
    Bitstream,
    model_id=st.binary(min_size=8, max_size=8),
    width=st.integers(1, 1 << 13),
    height=st.integers(1, 1 << 13),
    arithmetic=st.just("float32-syndrome"),
    latents=st.binary(max_size=12).map(lambda data: data + bytes(-len(data) % 4)),
    escapes=st.binary(max_size=5),
    checks=st.binary(max_size=9),
    metadata=metadata,
)
streams |= st.builds(
    dataclasses.replace, streams, arithmetic=st.just("integer"), checks=st.binary(min_size=4, max_size=4)
)


def seal(body):
    """Complete a file's bytes with their checksum."""
    return body + struct.pack("<I", zlib.crc32(body))


def chunk(name, contents=b""):
    return struct.pack("<I", len(contents)) + name + contents


def with_chunks(*chunks, header=BODY[:24]):
    return seal(header + b"".join(chunks) + struct.pack("<I", 4) + b"ENDS")


LATS, SYND = chunk(b"LATS", bytes(4)), chunk(b"SYND", b"\x0f\x10")


def test_layout_is_frozen():
    assert write(SMALL) == seal(BODY)
    assert write(SMALL)[-4:].hex() == "2f010537"
    assert read(seal(BODY)) == SMALL


def test_metadata_are_ancillary_chunks_in_this_order():
    stream = dataclasses.replace(SMALL, metadata=Metadata(b"profile", b"II*\0", b"<x/>", Source.GREY | Source.DEEP))
    data = write(stream)
    chunks = [(b"iccp", b"profile"), (b"exif", b"II*\0"), (b"xmpd", b"<x/>")]
    packed = b"".join(chunk(name, zlib.compress(contents, 9)) for name, contents in chunks)
    assert data == seal(BODY[:-8] + packed + b"\x01\x00\x00\x00orig\x05" + BODY[-8:])
    assert read(data) == stream
    assert read_metadata(data) == stream.metadata


def test_metadata_may_not_change_places():
    exif, xmp = (chunk(name, zlib.compress(b"a")) for name in (b"exif", b"xmpd"))
    assert read(with_chunks(LATS, SYND, exif, xmp)).metadata == Metadata(exif=b"a", xmp=b"a")
    with pytest.raises(CorruptStreamError, match="chunk exif stands too late"):
        read(with_chunks(LATS, SYND, xmp, exif))


def test_reserved_bits_of_the_source_are_ignored_and_never_written():
    assert read(with_chunks(LATS, SYND, chunk(b"orig", b"\xfa"))).metadata.source == Source.TRANSPARENT
    assert read(with_chunks(LATS, SYND, chunk(b"orig", b"\xf8"))).metadata == Metadata()
    assert write(dataclasses.replace(SMALL, metadata=Metadata(source=Source(0xF8)))) == seal(BODY)
    forged = dataclasses.replace(SMALL, metadata=Metadata(source=Source(0xF9)))
    assert read(write(forged)).metadata.source == Source.GREY


def test_a_plain_photo_of_twenty_steps_has_less_than_100_bytes_of_overhead():
    empty = dataclasses.replace(SMALL, latents=b"", escapes=b"", checks=bytes(2 + 2 * 20 + 4))
    assert len(write(empty)) == 98


@given(streams)
def test_round_trip(stream):
    assert read(write(stream)) == stream


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda data: BODY[:24] + data))
def test_arbitrary_bytes_decode_or_raise_bitstream_error(data):
    try:
        stream = read(data)
    except BitstreamError:
        return
    assert write(stream) == data


@given(streams)
def test_every_prefix_is_truncated(stream):
    data = write(stream)
    for length in range(len(data)):
        with pytest.raises(TruncatedStreamError):
            read(data[:length])


@given(streams)
def test_every_flipped_bit_is_noticed(stream):
    data = write(stream)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read(bytes(changed))


def test_trailing_data_is_reported():
    with pytest.raises(CorruptStreamError, match=f"1 bytes follow .* \\(at byte {len(seal(BODY))}\\)") as caught:
        read(seal(BODY) + b"\0")
    assert caught.value.offset == len(seal(BODY))


def test_a_cut_chunk_is_named_with_its_sizes():
    with pytest.raises(TruncatedStreamError, match=r"chunk LATS needs 4 bytes, got 2 \(at byte 34\)"):
        read(BODY[:34])


def test_a_header_can_be_read_alone():
    assert read_header(BODY[:24]) == Header(bytes(range(8)), 300, 2, "float32-syndrome")
    with pytest.raises(TruncatedStreamError, match="header needs 24 bytes, got 23"):
        read_header(BODY[:23])
    with pytest.raises(TruncatedStreamError):
        read(b"")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "a JPEG picture"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP picture"),
        (b"\0\0\0\x1cftypavif", "an AVIF picture"),
        (b"\0\0\0\x1cftypheic", "an ISO media file"),
        (b'{"format": "mlic-bundle"}', "a text file"),
        (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
        (b"hello, world", "begins with b'hell'"),
    ],
)
def test_a_foreign_file_is_called_by_its_name(data, name):
    with pytest.raises(UnsupportedStreamError, match=name):
        read(data)


def header(version=1, arithmetic=1, flags=0, width=300, height=2):
    return struct.pack("<4sBBH8sII", b"MLIC", version, arithmetic, flags, bytes(8), width, height)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"version": 2}, UnsupportedStreamError, "file version 2; this reader knows version 1"),
        (
            {"arithmetic": 3},
            UnsupportedStreamError,
            r"arithmetic 3; this reader knows 1 \(float32-syndrome\), 2 \(integer\)",
        ),
        ({"flags": 1}, UnsupportedStreamError, "flags 0x0001"),
        ({"width": 0}, CorruptStreamError, "width is 0; expected 1 to 1048576"),
        ({"height": (1 << 20) + 1}, CorruptStreamError, "height is 1048577"),
        ({"width": 1 << 14, "height": (1 << 14) + 1}, UnsupportedStreamError, f"the limit is {MAX_PIXELS}"),
    ],
)
def test_impossible_headers_are_refused(fields, error, message):
    with pytest.raises(error, match=message):
        read(with_chunks(LATS, SYND, header=header(**fields)))
    with pytest.raises(error, match=message):
        read_header(header(**fields))


def test_the_pixel_limit_can_be_moved():
    data = with_chunks(LATS, SYND, header=header(width=1 << 15, height=1 << 14))
    assert read(data, max_pixels=1 << 29, max_latent_pixels=1 << 29).width == 1 << 15
    with pytest.raises(UnsupportedStreamError, match="300 x 2 pixels; the limit is 599"):
        read(seal(BODY), max_pixels=599)


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        ([LATS, SYND, chunk(b"MORE")], UnsupportedStreamError, "critical chunk MORE is unknown"),
        ([SYND, LATS], CorruptStreamError, "LATS stands too late"),
        ([LATS, SYND, chunk(b"ESCP", b"1")], CorruptStreamError, "ESCP stands too late"),
        ([LATS, LATS, SYND], CorruptStreamError, "LATS occurs twice"),
        ([LATS, SYND, chunk(b"note"), chunk(b"note")], CorruptStreamError, "note occurs twice"),
        ([], CorruptStreamError, "missing: LATS, SYND"),
        ([LATS], CorruptStreamError, "missing: SYND"),
        ([chunk(b"LATS", bytes(5)), SYND], CorruptStreamError, "LATS has 5 bytes"),
        ([LATS, chunk(b"ESCP"), SYND], CorruptStreamError, "ESCP is empty"),
        ([LATS, SYND, chunk(b"LA1S")], CorruptStreamError, "chunk name b'LA1S'"),
        ([LATS, SYND, chunk(b"ENDS", bytes(5))], CorruptStreamError, "ENDS has 5 bytes"),
        ([LATS, SYND, chunk(b"iccp", b"no zlib")], CorruptStreamError, "cannot be decompressed"),
        ([LATS, SYND, chunk(b"iccp", zlib.compress(b"a") + b"b")], CorruptStreamError, "followed by other"),
        ([LATS, SYND, chunk(b"iccp", zlib.compress(b"abc" * 9)[:-6])], CorruptStreamError, "cut"),
        ([LATS, SYND, chunk(b"iccp", zlib.compress(b""))], CorruptStreamError, "empty"),
        ([LATS, SYND, chunk(b"iccp", zlib.compress(bytes(MAX_ICC_BYTES + 1)))], CorruptStreamError, "larger than"),
        ([LATS, SYND, chunk(b"exif", b"no zlib")], CorruptStreamError, "EXIF cannot be decompressed"),
        ([LATS, SYND, chunk(b"exif", zlib.compress(bytes(MAX_EXIF_BYTES + 1)))], CorruptStreamError, "EXIF is larger"),
        ([LATS, SYND, chunk(b"xmpd", zlib.compress(b"a") + b"b")], CorruptStreamError, "XMP is empty, cut or followed"),
        ([LATS, SYND, chunk(b"xmpd", zlib.compress(bytes(MAX_XMP_BYTES + 1)))], CorruptStreamError, "XMP is larger"),
        ([LATS, SYND, chunk(b"orig", b"")], CorruptStreamError, "orig has 0 bytes; expected 1"),
        ([LATS, SYND, chunk(b"orig", b"\1\1")], CorruptStreamError, "orig has 2 bytes; expected 1"),
    ],
)
def test_impossible_chunks_are_refused(chunks, error, message):
    with pytest.raises(error, match=message):
        read(with_chunks(*chunks))


CHCK = chunk(b"CHCK", b"\xaa\xbb\xcc\xdd")


@pytest.mark.parametrize(
    ("arithmetic", "chunks", "message"),
    [
        (2, [LATS, SYND], "missing: CHCK"),
        (2, [LATS], "missing: CHCK"),
        (1, [LATS, CHCK], "missing: SYND"),
        (1, [LATS, SYND, CHCK], "CHCK stands in a file that has SYND"),
        (2, [LATS, SYND, CHCK], "SYND stands in a file that has CHCK"),
        (2, [CHCK, LATS], "LATS stands too late"),
        (2, [LATS, CHCK, CHCK], "CHCK occurs twice"),
        (2, [LATS, CHCK, chunk(b"GRID", b"")], "GRID stands beside LATS, CHCK"),
        (2, [LATS, chunk(b"CHCK", bytes(3))], "CHCK has 3 bytes; expected 4"),
        (2, [LATS, chunk(b"CHCK", bytes(5))], "CHCK has 5 bytes; expected 4"),
    ],
)
def test_a_file_has_the_checks_of_its_arithmetic(arithmetic, chunks, message):
    with pytest.raises(CorruptStreamError, match=message):
        read(with_chunks(*chunks, header=header(arithmetic=arithmetic)))


def test_layout_of_an_integer_file_is_frozen():
    stream = dataclasses.replace(SMALL, arithmetic="integer", checks=b"\xaa\xbb\xcc\xdd")
    synd = BODY.index(b"\x06\x00\x00\x00SYND")
    body = BODY[:5] + b"\x02" + BODY[6:synd] + b"\x04\x00\x00\x00CHCK\xaa\xbb\xcc\xdd" + BODY[-8:]
    assert write(stream) == seal(body)
    assert read(seal(body)) == stream


def test_a_file_of_millions_of_chunks_is_refused_at_the_limit():
    names = [bytes([first, second, 65, 65]) for first in range(97, 123) for second in range(97, 123)] * 2
    chunks = [chunk(name) for name in names[: MAX_CHUNKS + 1]]
    with pytest.raises(CorruptStreamError, match=f"more than {MAX_CHUNKS} chunks"):
        read(with_chunks(*chunks))


def test_unknown_ancillary_chunks_are_skipped():
    stream = read(with_chunks(chunk(b"abCD", b"x"), LATS, SYND, chunk(b"tEXt", b"hello")))
    assert stream.latents == bytes(4)


@pytest.mark.parametrize(
    ("field", "limit", "what"),
    [("icc_profile", MAX_ICC_BYTES, "ICC profile"), ("exif", MAX_EXIF_BYTES, "EXIF"), ("xmp", MAX_XMP_BYTES, "XMP")],
)
def test_metadata_that_could_not_be_read_are_not_written(field, limit, what):
    for contents in (b"", bytes(limit + 1)):
        with pytest.raises(ImageError, match=f"{what} of {len(contents)} bytes; expected 1 to {limit}"):
            write(dataclasses.replace(SMALL, metadata=Metadata(**{field: contents})))
    largest = dataclasses.replace(SMALL, metadata=Metadata(**{field: bytes(limit)}))
    assert read(write(largest)) == largest


@pytest.mark.parametrize("name", [b"iccp", b"exif", b"xmpd"])
def test_a_bomb_is_stopped_while_it_is_unpacked(name):
    data = with_chunks(LATS, SYND, chunk(name, zlib.compress(bytes(MAX_EXIF_BYTES * 5))))
    tracemalloc.start()
    with pytest.raises(CorruptStreamError, match="larger than"):
        read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * MAX_EXIF_BYTES
