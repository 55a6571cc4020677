"""The native reader and writer of files does what Python's does, and refuses what it refuses."""

from __future__ import annotations

import dataclasses
import struct
import zlib

import pytest

from mlic.runtime import Codec, container
from mlic.runtime.container import MAX_LATENT_PIXELS, Bitstream
from mlic.runtime.metadata import MAX_ICC_BYTES, Metadata
from mlic.runtime.shipped import QUALITIES
from tests.native.core_probe import status_of

pytestmark = pytest.mark.xdist_group("native_core")  # one build


@pytest.fixture(scope="module", params=[*QUALITIES, "tiny"])
def file(request, codec, make_photo):
    """A file of each bundle that ships, and one with escapes and a profile."""
    if request.param == "tiny":
        return codec.encode(make_photo(70, 90), Metadata(bytes(range(256)) * 3))
    return Codec.load(quality=request.param, threads=1).encode(make_photo(64, 64))


def sealed(data):
    """Return a file with a checksum that fits."""
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def same_status(probe, data):
    expected = status_of(container.read, data)
    assert probe.status("read_container", data, MAX_LATENT_PIXELS) == expected, data.hex()
    return expected


def test_a_file_is_taken_apart_and_written_as_python_does(probe, file):
    stream = container.read(file)
    model_id, width, height, arithmetic, *parts = probe.ask("read_container", file, MAX_LATENT_PIXELS)
    profile = [] if stream.metadata.icc_profile is None else [stream.metadata.icc_profile]
    assert (model_id, arithmetic.decode()) == (stream.model_id, stream.arithmetic)
    assert struct.unpack("<II", width + height) == (stream.width, stream.height)
    assert parts == [stream.latents, stream.escapes, stream.syndromes, *profile]
    assert probe.ask("read_header", file[:24], MAX_LATENT_PIXELS) == [model_id, width, height, arithmetic]
    assert probe.ask("write_container", model_id, width, height, *parts) == [file]


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
    names = [b"LATS", b"ESCP", b"SYND", b"iccp", b"note", b"MORE", b"ENDS", b"LA1S"]
    contents = [b"", bytes(4), b"abcde", zlib.compress(b"profile"), zlib.compress(b"x") + b"y", zlib.compress(b"")]
    seen = set()
    for _ in range(3000):
        chosen = [names[place] for place in rng.integers(0, len(names), rng.integers(1, 6))]
        filled = [contents[place] for place in rng.integers(0, len(contents), len(chosen))]
        chunks = [struct.pack("<I", len(data)) + name + data for name, data in zip(chosen, filled, strict=True)]
        seen.add(same_status(probe, sealed(file[:24] + b"".join(chunks) + b"\4\0\0\0ENDS" + bytes(4))))
        body = struct.pack("<I", 4) + b"LATS" + bytes(4) + struct.pack("<I", 2) + b"SYND" + b"ab" + b"".join(chunks)
        seen.add(same_status(probe, sealed(file[:24] + body + b"\4\0\0\0ENDS" + bytes(4))))
    assert seen == {0, 21, 22}


def test_profiles_are_unpacked_within_the_same_bounds(probe, file):
    stream = dataclasses.replace(container.read(file), metadata=Metadata())
    plain = container.write(stream)
    for packed in (
        zlib.compress(bytes(MAX_ICC_BYTES)), zlib.compress(bytes(MAX_ICC_BYTES + 1)), zlib.compress(b"a" * 99)[:-1],
        b"", zlib.compressobj(zdict=b"abc").compress(b"") + b"x", zlib.compress(bytes(1 << 14)), b"no zlib",
    ):  # fmt: skip
        chunk = struct.pack("<I", len(packed)) + b"iccp" + packed
        same_status(probe, sealed(plain[:-12] + chunk + plain[-12:]))
    head = [stream.model_id, struct.pack("<I", 8), struct.pack("<I", 8), b"", b"", b""]
    for profile in (b"", bytes(MAX_ICC_BYTES + 1)):
        assert probe.status("write_container", *head, profile) == 10


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
