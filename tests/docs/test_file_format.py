"""``docs/file-format.md`` is enough to write a decoder from: ``format_reader.py`` is one, and agrees with the runtime.

Both read every file, and refuse every damaged one with the error that the page names.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import (
    Codec,
    EngineMismatchError,
    Metadata,
    MlicError,
    Source,
    UnsupportedStreamError,
    container,
    read_metadata,
)
from mlic.runtime.choices import INTEGER
from mlic.runtime.manifest import Padding
from tests.docs.format_reader import Model, RefusedError, crc16, parse
from tests.docs.pages import DOCS
from tests.exif_blocks import exif_block, xmp_packet
from tests.golden_streams import STREAMS, GoldenStream
from tests.integer_bundle import build_integer_bundle
from tests.tiny_bundle import build_tiny_bundle

GOLDEN = {stream.path.stem: stream for stream in STREAMS}
PAGE = (DOCS / "file-format.md").read_text()
HEADER = 24


@pytest.fixture(scope="session")
def models() -> dict[Path, tuple[Model, Codec]]:
    """The document's decoder and the runtime's, by bundle, for one engine."""
    folders = {stream.bundle for stream in STREAMS}
    return {folder: (Model(folder), Codec.load(folder, "onnxruntime", threads=1)) for folder in folders}


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.path.stem)
def test_decoder_of_the_document_reads_what_the_runtime_reads(stream: GoldenStream, models):
    model, codec = models[stream.bundle]
    np.testing.assert_array_equal(model.decode(stream.data), codec.decode(stream.data))
    file, inspected = parse(stream.data), codec.inspect(stream.data)
    assert not inspected.changes  # else the indexes were repaired, which the document's decoder does not
    np.testing.assert_array_equal(model.decode_latent(file).y_hat, inspected.y_hat)


def test_decoder_of_the_document_gets_the_encoders_symbols(models, make_photo, rng: np.random.Generator):
    model, codec = models[GOLDEN["tiny-64x64"].bundle]
    for pixels in (make_photo(90, 130), rng.integers(0, 256, (70, 50, 3), np.uint8)):  # noise escapes
        traced, found = codec.trace(pixels), model.decode_latent(parse(codec.encode(pixels)))
        np.testing.assert_array_equal(found.z_symbols, traced["z_symbols"])
        for ours, theirs in zip(found.symbols, traced["symbols"], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="session")
def integer(integer_folder: Path) -> tuple[Model, Codec]:
    """Both decoders of the miniature bundle in integers."""
    return Model(integer_folder), Codec.load(integer_folder, "onnxruntime", threads=1)


@pytest.fixture(scope="session")
def integer_files(integer: tuple[Model, Codec]) -> dict[str, bytes]:
    """Files of that bundle; the noise escapes."""
    noise = np.random.default_rng(5).integers(0, 256, (70, 50, 3), np.uint8)
    return {name: integer[1].encode(pixels) for name, pixels in {"1x1": noise[:1, :1], "noise": noise}.items()}


def test_decoder_of_the_document_takes_indexes_of_integer_files_as_they_come(integer, integer_files, make_photo):
    model, codec = integer
    assert b"ESCP" in integer_files["noise"]
    for data in (*integer_files.values(), codec.encode(make_photo(90, 130))):
        file, inspected = parse(data), codec.inspect(data)
        assert (file.arithmetic, len(file.chunks["CHCK"]), "SYND" in file.chunks) == (2, 4, False)
        np.testing.assert_array_equal(model.decode(data), codec.decode(data))
        np.testing.assert_array_equal(model.decode_latent(file).y_hat, inspected.y_hat)


def test_files_of_either_arithmetic_are_for_bundles_of_their_own(integer, integer_files, models):
    floats = [both for both in models.values() if both[1].bundle.manifest.arithmetic != INTEGER]
    assert 0 < len(floats) < len(models)
    for model, codec in floats:
        for data in (integer_files["1x1"], forged_for(codec, integer_files["1x1"])):
            with pytest.raises(RefusedError, match="UnsupportedStreamError"):
                model.decode(data)
            with pytest.raises(UnsupportedStreamError):
                codec.decode(data)


def forged_for(codec: Codec, data: bytes) -> bytes:
    """Return a file that claims to be of another model, with a right checksum."""
    body = data[:8] + codec.bundle.manifest.model_id + data[16:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def test_checksum_of_integer_files_decides_at_the_end(integer, integer_files):
    model, codec = integer
    data = bytearray(integer_files["noise"])
    data[data.index(b"CHCK") + 4] ^= 1
    data[-4:] = struct.pack("<I", zlib.crc32(data[:-4]))
    with pytest.raises(RefusedError, match="EngineMismatchError"):
        model.decode(bytes(data))
    with pytest.raises(EngineMismatchError):
        codec.decode(bytes(data))


def test_scales_at_the_edges_of_rows_have_the_indexes_of_the_document(models):
    for model, codec in models.values():
        table = codec.bundle.entropy.scale_table
        around = [np.nextafter(table, np.float32(-np.inf)), table, np.nextafter(table, np.float32(np.inf))]
        scales = np.concatenate([*around, np.array([-1, -0.0, 0, 1e-40, 1e30], np.float32)])
        assert model.indexes(scales) == codec.bundle.entropy.build_indexes(scales).tolist()


@pytest.mark.parametrize("build", [build_tiny_bundle, build_integer_bundle])
@pytest.mark.parametrize("height", [100, 64])
def test_decoder_of_the_document_reads_grids_and_metadata(build, height: int, tmp_path: Path, make_photo):
    bundle = build(tmp_path / "tiny")
    codec = Codec.load(bundle, "onnxruntime", threads=1, latent_pixels=128 * 64)
    metadata = Metadata(exif=exif_block(with_thumbnail=False), xmp=xmp_packet(), source=Source.GREY)
    data = codec.encode(make_photo(height, 200), metadata)
    file = parse(data)
    assert len(file.cells) >= 2
    np.testing.assert_array_equal(Model(bundle).decode(data), codec.decode(data))
    stored = read_metadata(data)
    assert (file.chunks["exif"], file.chunks["xmpd"]) == (stored.exif, stored.xmp)
    assert file.chunks["orig"][0] == stored.source


def test_picture_is_taken_out_of_the_centre_too(tmp_path: Path, make_photo):
    bundle = build_tiny_bundle(tmp_path / "tiny", padding=Padding(64, "centre", "edge"))
    codec = Codec.load(bundle, "onnxruntime", threads=1)
    data = codec.encode(make_photo(51, 37))
    np.testing.assert_array_equal(Model(bundle).decode(data), codec.decode(data))


def refusals(data: bytes) -> tuple[str, str]:
    """Return the error of the document's decoder and of the runtime's for a file; empty if it is read."""
    errors = []
    for read, kind in ((parse, RefusedError), (container.read, MlicError)):
        try:
            read(data)
            errors.append("")
        except kind as error:
            errors.append(str(error) if kind is RefusedError else type(error).__name__)
    return errors[0], errors[1]


def test_every_prefix_and_trailing_byte_is_refused_as_the_document_says():
    for name in ("tiny-1x1", "tiny-with-metadata"):
        data = GOLDEN[name].data
        for damaged in [*(data[:end] for end in range(len(data))), data + b"\0"]:
            ours, theirs = refusals(damaged)
            assert ours == theirs
            assert ours in ("TruncatedStreamError", "CorruptStreamError")


@pytest.mark.parametrize("name", ["tiny-1x1", "tiny-with-metadata", "tiny-noise-with-escapes", "integer"])
@pytest.mark.parametrize("forged", [False, True])
def test_every_flipped_bit_is_refused_or_read_as_the_document_says(name: str, forged: bool, integer_files):
    data = integer_files["1x1"] if name == "integer" else GOLDEN[name].data
    seen = set()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        if forged:  # the checksum is right: contents decide
            damaged[-4:] = struct.pack("<I", zlib.crc32(damaged[:-4]))
        ours, theirs = refusals(bytes(damaged))
        assert ours == theirs, bit
        seen.add(ours)
    assert {"CorruptStreamError", "TruncatedStreamError", "UnsupportedStreamError"} <= seen
    assert ("" in seen) == forged


def chunk(name: bytes, contents: bytes) -> bytes:
    return struct.pack("<I4s", len(contents), name) + contents


def with_chunks(*chunks: bytes, header: bytes | None = None) -> bytes:
    """Return a file of these chunks and a right checksum."""
    body = (header or GOLDEN["tiny-1x1"].data[:HEADER]) + b"".join(chunks) + struct.pack("<I4s", 4, b"ENDS")
    return body + struct.pack("<I", zlib.crc32(body))


def header_of(width: int, height: int, arithmetic: int = 1) -> bytes:
    header = GOLDEN["tiny-1x1"].data
    return header[:5] + bytes([arithmetic]) + header[6:16] + struct.pack("<II", width, height)


def strangers(count: int) -> list[bytes]:
    """Return chunks that no reader knows and none needs."""
    return [chunk(b"a" + bytes(65 + n // 26**i % 26 for i in range(3)), b"") for n in range(count)]


LATS, SYND, CHCK = chunk(b"LATS", b""), chunk(b"SYND", b""), chunk(b"CHCK", bytes(4))


def cell_of(width: int, *more: bytes) -> bytes:
    return with_chunks(LATS, SYND, *more, header=header_of(width, 64))


CELL = cell_of(64)
WIDE = header_of(128, 64)
WHOLE = header_of(1, 1, arithmetic=2)
WHOLE_CELL = with_chunks(LATS, CHCK, header=header_of(64, 64, arithmetic=2))
WIDE_WHOLE = header_of(128, 64, arithmetic=2)


def grid(*cells: bytes, size: tuple[int, int] = (64, 64), rest: bytes = b"") -> bytes:
    parts = [struct.pack("<II", *size), *(struct.pack("<I", len(cell)) + cell for cell in cells), rest]
    return chunk(b"GRID", b"".join(parts))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (with_chunks(LATS, SYND), ""),
        (with_chunks(chunk(b"abcd", b"?"), LATS, chunk(b"zzzz", b""), SYND), ""),
        (with_chunks(LATS, chunk(b"ABCD", b""), SYND), "UnsupportedStreamError"),
        (with_chunks(LATS), "CorruptStreamError"),
        (with_chunks(SYND), "CorruptStreamError"),
        (with_chunks(SYND, LATS), "CorruptStreamError"),
        (with_chunks(LATS, LATS, SYND), "CorruptStreamError"),
        (with_chunks(LATS, chunk(b"ESCP", b""), SYND), "CorruptStreamError"),
        (with_chunks(chunk(b"LATS", b"123"), SYND), "CorruptStreamError"),
        (with_chunks(LATS, SYND, chunk(b"orig", b"\xff")), ""),
        (with_chunks(LATS, SYND, chunk(b"orig", b"\1\1")), "CorruptStreamError"),
        (with_chunks(LATS, SYND, chunk(b"exif", zlib.compress(b"II*\0"))), ""),
        (with_chunks(LATS, SYND, chunk(b"exif", zlib.compress(b""))), "CorruptStreamError"),
        (with_chunks(LATS, SYND, chunk(b"exif", zlib.compress(b"II*\0") + b"?")), "CorruptStreamError"),
        (with_chunks(LATS, SYND, chunk(b"exif", zlib.compress(b"II*\0")[:-1])), "CorruptStreamError"),
        (with_chunks(LATS, SYND, chunk(b"iccp", zlib.compress(bytes(2**24)))), ""),
        (with_chunks(LATS, SYND, chunk(b"iccp", zlib.compress(bytes(2**24 + 1)))), "CorruptStreamError"),
        (with_chunks(*strangers(1022), LATS, SYND), ""),
        (with_chunks(*strangers(1023), LATS, SYND), "CorruptStreamError"),
        (with_chunks(grid(CELL, CELL), header=WIDE), ""),
        (with_chunks(grid(CELL, CELL), chunk(b"orig", b"\1"), header=WIDE), ""),
        (with_chunks(LATS, SYND, grid(CELL, CELL), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(CELL), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(CELL, CELL, rest=b"?"), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(CELL, CELL[:-1]), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(CELL, CELL, size=(32, 64)), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(cell_of(96), cell_of(32), size=(96, 64)), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(cell_of(64), cell_of(32)), header=header_of(96, 64)), ""),
        (with_chunks(grid(CELL, CELL, size=(64, 128)), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(CELL, size=(128, 64)), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(CELL, with_chunks(LATS, SYND)), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(CELL, cell_of(64, *strangers(1))), header=WIDE), "CorruptStreamError"),
        (with_chunks(LATS, SYND, header=header_of(2**13 + 1, 2**13)), "UnsupportedStreamError"),
        (with_chunks(LATS, SYND, header=header_of(2**13, 2**13)), ""),
        (with_chunks(grid(), header=header_of(2**14 + 1, 2**14)), "UnsupportedStreamError"),
        (with_chunks(LATS, CHCK, header=WHOLE), ""),
        (with_chunks(LATS, chunk(b"abcd", b"?"), CHCK, chunk(b"orig", b"\1"), header=WHOLE), ""),
        (with_chunks(LATS, CHCK, header=header_of(1, 1, arithmetic=3)), "UnsupportedStreamError"),
        (with_chunks(LATS, CHCK, header=header_of(1, 1, arithmetic=0)), "UnsupportedStreamError"),
        (with_chunks(LATS, header=WHOLE), "CorruptStreamError"),
        (with_chunks(CHCK, header=WHOLE), "CorruptStreamError"),
        (with_chunks(CHCK, LATS, header=WHOLE), "CorruptStreamError"),
        (with_chunks(LATS, CHCK, chunk(b"ESCP", b"?"), header=WHOLE), "CorruptStreamError"),
        (with_chunks(LATS, SYND, header=WHOLE), "CorruptStreamError"),
        (with_chunks(LATS, SYND, CHCK, header=WHOLE), "CorruptStreamError"),
        (with_chunks(LATS, SYND, CHCK), "CorruptStreamError"),
        (with_chunks(LATS, CHCK), "CorruptStreamError"),
        (with_chunks(LATS, chunk(b"CHCK", b""), header=WHOLE), "CorruptStreamError"),
        (with_chunks(LATS, chunk(b"CHCK", bytes(3)), header=WHOLE), "CorruptStreamError"),
        (with_chunks(LATS, chunk(b"CHCK", bytes(5)), header=WHOLE), "CorruptStreamError"),
        (with_chunks(grid(WHOLE_CELL, WHOLE_CELL), header=WIDE_WHOLE), ""),
        (with_chunks(CHCK, grid(WHOLE_CELL, WHOLE_CELL), header=WIDE_WHOLE), "CorruptStreamError"),
        (with_chunks(grid(WHOLE_CELL, CELL), header=WIDE_WHOLE), "CorruptStreamError"),
        (with_chunks(grid(WHOLE_CELL, WHOLE_CELL), header=WIDE), "CorruptStreamError"),
        (with_chunks(grid(CELL, CELL), header=WIDE_WHOLE), "CorruptStreamError"),
    ],
)  # fmt: skip
def test_rules_of_the_container_are_those_of_the_document(data: bytes, error: str):
    assert refusals(data) == (error, error)


@pytest.mark.parametrize("name", ["tiny-noise-with-escapes", "tiny-64x64", "integer"])
def test_what_only_decoding_notices_is_refused_by_both(name: str, models, integer, integer_files):
    model, codec = integer if name == "integer" else models[GOLDEN[name].bundle]
    data = integer_files["noise"] if name == "integer" else GOLDEN[name].data
    first, end = HEADER + 8, HEADER + 8 + struct.unpack("<I", data[HEADER : HEADER + 4])[0]
    for place in range(first, end + 8, 7):  # words of LATS, then a name or the escapes behind
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        damaged[-4:] = struct.pack("<I", zlib.crc32(damaged[:-4]))
        with pytest.raises(RefusedError):
            model.decode(bytes(damaged))
        with pytest.raises(MlicError):
            codec.decode(bytes(damaged))


def test_example_of_the_document_is_the_golden_file():
    (example,) = re.findall(r"```text\n(4d 4c .*?)```", PAGE, re.DOTALL)
    columns = [line[:67] if line[:4].strip() and "  " in line else line for line in example.splitlines()]
    found = b"".join(bytes.fromhex(re.match(r"(?:[0-9a-f]{2} {1,2})+", f"{line} ")[0]) for line in columns)
    assert found == GOLDEN["tiny-1x1"].data


def test_checks_of_the_crcs_are_right():
    assert f"{crc16(b'123456789'):04x}" in PAGE
    assert f"{zlib.crc32(b'123456789'):08x}" in PAGE
    assert crc16(b"123456789") == 0x31C3


def test_golden_pictures_are_as_large_as_their_headers_say():
    for stream in STREAMS:
        with Image.open(stream.path.with_suffix(".png")) as image:
            file = parse(stream.data)
            assert image.size == (file.width, file.height)
