"""What is fuzzed: each target takes arbitrary bytes, and may raise nothing but errors of ``mlic.runtime``."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np

from mlic.runtime import container
from mlic.runtime.ans import AnsDecoder, AnsEncoder, RowModels
from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import MAX_CASE_PIXELS, certificate_from_json
from mlic.runtime.codec import Codec
from mlic.runtime.entropy_model import EntropyModel
from mlic.runtime.errors import BundleError, CorruptStreamError
from mlic.runtime.escape import EscapeReader, EscapeWriter
from mlic.runtime.gzip_file import most_unpacked, packed, unpacked
from mlic.runtime.manifest_json import json_from_manifest, manifest_from_json
from mlic.runtime.npz import arrays_from_npz
from mlic.runtime.syndrome import SyndromeReader, SyndromeWriter
from mlic.runtime.wiring import wiring_problems
from mlic.tools.fuzz.mutators import Mutator, mutated_bytes, mutated_checks, mutated_chunks, mutated_json, mutated_png

MAX_PIXELS = 1 << 16  # so that one input takes milliseconds; sizes do not change what is read
_SIZES = (600, 300, 4500)  # of the steps of the target `syndrome`


@dataclass(frozen=True)
class Target:
    """One thing to fuzz.

    Attributes:
        seeds: valid inputs to begin with.
        mutate: makes another input of one.
        run: takes an input; raises MlicError, or AssertionError if what came out is wrong.
    """

    seeds: Sequence[bytes]
    mutate: Mutator
    run: Callable[[bytes], object]


def container_target(folder: Path) -> Target:
    """Reading of files; what is accepted is written and read again."""

    def run(data: bytes) -> None:
        stream = container.read(data, MAX_PIXELS)
        assert container.read(container.write(stream)) == stream

    return Target([*_streams(folder), *_streams(folder, "integer-corpus")], mutated_checks, run)


def ans_target(folder: Path) -> Target:
    """The coder on arbitrary words: 1 byte with the number of symbols, their rows, the words."""
    tables = Bundle.open(folder / "bundle").entropy.y
    models, random = RowModels(tables), Random(0)  # noqa: S311 - no secret
    seeds = []
    for count in (0, 1, 40, 255):
        rows = np.array([random.randrange(len(tables)) for _ in range(count)], dtype=np.uint8)
        slots = np.array([random.randrange(int(tables.lengths[row])) for row in rows], dtype=np.int32)
        seeds.append(bytes([count]) + rows.tobytes() + _words(models, slots, rows))

    def run(data: bytes) -> None:
        count = data[0] if data else 0
        rows = np.frombuffer(data[1 : 1 + count], dtype=np.uint8) % len(tables)
        words = np.frombuffer(data[1 + count : len(data) - (len(data) - 1 - count) % 4], dtype="<u4").astype(np.uint32)
        decoder = AnsDecoder(words)
        slots = decoder.take(models, rows)
        assert ((slots >= 0) & (slots < tables.lengths[rows])).all()
        decoder.finish()
        assert _words(models, slots, rows) == words.tobytes()

    return Target(seeds, mutated_bytes, run)


def escapes_target(_: Path) -> Target:
    """The side stream of escapes: 1 byte with how many are taken at once, the stream."""
    writer = EscapeWriter()
    writer.add(np.array([0, 1, 2, 3, 6, 7, 500, 1 << 20, (1 << 27) - 2], dtype=np.int64))
    seeds = [bytes([count]) + writer.finish() for count in (1, 3, 9)]

    def run(data: bytes) -> None:
        reader, writer = EscapeReader(data[1:]), EscapeWriter()
        for _ in range(64):
            raws = reader.take(max(1, data[0] if data else 1))
            assert raws.min() >= 0
            writer.add(raws)
            try:
                reader.finish()
            except CorruptStreamError:
                continue
            assert writer.finish() == data[1:]
            return

    return Target(seeds, mutated_bytes, run)


def syndrome_target(folder: Path) -> Target:
    """Checksums of indexes and the repair: 2 bytes that seed the scales, 1 that says how far they are off, the rest."""
    entropy = Bundle.open(folder / "bundle").entropy

    def scales_of(data: bytes) -> tuple[list[np.ndarray], list[np.ndarray]]:
        rng = np.random.default_rng(int.from_bytes(data[:2], "little"))
        bounds = entropy.scale_table[:-1]
        theirs = [rng.uniform(0.05, 30, size).astype(np.float32) for size in _SIZES]
        for scales in theirs:
            near = rng.integers(0, len(scales), len(scales) // 8)
            scales[near] = bounds[rng.integers(0, len(bounds), len(near))] * (1 + rng.normal(0, 1e-6, len(near)))
        noise = 10.0 ** -(data[2] % 16) if len(data) > 2 else 0.0
        ours = [(scales + rng.normal(0, noise, scales.shape)).astype(np.float32) for scales in theirs]
        return theirs, ours

    seeds = []
    for number, (chunk_log2, width) in enumerate(((6, 16), (9, 32), (15, 16), (12, 32), (24, 16))):
        head = bytes([number, 0, 6 + number])
        writer = SyndromeWriter(chunk_log2, width)
        for scales in scales_of(head)[0]:
            writer.add(entropy.build_indexes(scales))
        seeds.append(head + writer.finish())

    def run(data: bytes) -> None:
        reader = SyndromeReader(data[3:], _SIZES, entropy.scale_table)
        for step, scales in enumerate(scales_of(data)[1]):
            indexes = entropy.build_indexes(scales)
            wrong = reader.wrong_chunks(step, indexes)
            for pick in range(3):
                found = reader.reading(step, "step", indexes, scales, wrong, pick)
                if found is None:
                    break
                assert len(entropy.y) > int(found.indexes.max())
                if wrong and pick == 0:
                    assert not reader.wrong_chunks(step, found.indexes)

    return Target(seeds, mutated_bytes, run)


def manifest_target(folder: Path) -> Target:
    """The manifest and the way its graphs fit together; what is accepted is written and read again."""

    def run(data: bytes) -> None:
        manifest = manifest_from_json(data)
        wiring_problems(manifest)
        assert manifest_from_json(json_from_manifest(manifest)) == manifest

    return Target([(folder / "bundle" / "manifest.json").read_bytes()], mutated_json, run)


def tables_target(folder: Path) -> Target:
    """The tables; what is accepted codes symbols and gets them back."""
    stored = (folder / "bundle" / "tables.npz").read_bytes()
    with np.load(io.BytesIO(stored)) as arrays:
        packed = io.BytesIO()
        np.savez_compressed(packed, **dict(arrays))

    def run(data: bytes) -> None:
        try:
            arrays = arrays_from_npz(data, 1 << 20)
        except Exception as error:  # as in bundle.py
            raise BundleError(str(error)) from error
        tables = EntropyModel.from_arrays(arrays).y
        rows = np.arange(min(8, len(tables)), dtype=np.uint8).repeat(3)
        slots = tables.lengths[rows] - 1
        models = RowModels(tables)
        decoder = AnsDecoder(np.frombuffer(_words(models, slots, rows), dtype=np.uint32))
        assert np.array_equal(decoder.take(models, rows), slots)
        decoder.finish()

    return Target([stored, packed.getvalue()], mutated_bytes, run)


def bundle_target(folder: Path) -> Target:
    """A bundle's folder: the manifest's text, and tables that follow from it, some changed with a right hash."""
    source = folder / "bundle"
    work = Path(tempfile.mkdtemp(prefix="mlic-fuzz-"))
    atexit.register(shutil.rmtree, work, ignore_errors=True)
    shutil.copytree(source, work, dirs_exist_ok=True)
    (work / "outside.onnx").symlink_to("/etc/passwd")
    (work / "loop.onnx").symlink_to("loop.onnx")
    os.mkfifo(work / "pipe.onnx")
    for name, data in (("packed", packed((source / "onnx/g_a.onnx").read_bytes())), ("bomb", packed(bytes(1 << 25)))):
        (work / f"{name}.onnx.gz").write_bytes(data)
    (work / "pipe.onnx.gz").symlink_to("pipe.onnx")
    paths = (
        "outside.onnx", "loop.onnx", "pipe.onnx", "/dev/zero", "/dev/zero.onnx", "onnx", "a" * 300 + ".onnx",
        "packed.onnx.gz", "bomb.onnx.gz", "pipe.onnx.gz",
    )  # fmt: skip
    right = {"path": "packed.onnx.gz", "sha256": sha256((work / "packed.onnx.gz").read_bytes()).hexdigest()}
    text, tables = (source / "manifest.json").read_bytes(), (source / "tables.npz").read_bytes()

    def mutate(data: bytes, random: Random) -> bytes:
        value = json.loads(text)
        if random.random() < 0.2:
            value["graphs"][random.randrange(len(value["graphs"]))]["path"] = random.choice(paths)
        elif random.random() < 0.2:
            value["graphs"][random.randrange(len(value["graphs"]))].update(right)
        elif random.random() < 0.2:
            value["tables"]["path"] = random.choice(paths)
        data = json.dumps(value).encode()
        return mutated_json(data, random) if random.random() < 0.5 else data + b" " * random.randrange(9999)

    def run(data: bytes) -> None:
        digest = sha256(data).digest()
        kind = digest[0] % 4 if data != text else 0  # 0 and 1: the tables as they were
        changed = mutated_bytes(tables, Random(digest)) if kind > 1 else tables  # noqa: S311 - no secret
        (work / "tables.npz").write_bytes(changed)
        if kind == 2:  # with their hash put right
            data = data.replace(sha256(tables).hexdigest().encode(), sha256(changed).hexdigest().encode())
        (work / "manifest.json").write_bytes(data)
        opened = Bundle.open(work)
        for graph in opened.manifest.graphs.values():
            opened.read_graph(graph)

    return Target([text], mutate, run)


def packed_target(folder: Path) -> Target:
    """Compressed graphs: half of them changed before their checksum and size, which are right then."""
    graph = (folder / "bundle" / "onnx" / "step_03.onnx").read_bytes()

    def mutate(data: bytes, random: Random) -> bytes:
        return mutated_bytes(data, random) if random.random() < 0.5 else _ended(mutated_bytes(data[10:-8], random))

    def run(data: bytes) -> None:
        try:
            found = unpacked(io.BytesIO(data), 1 << 26)
        except ValueError as error:
            raise BundleError(str(error)) from error
        assert len(found) <= most_unpacked(len(data))
        assert unpacked(io.BytesIO(packed(found)), len(found)) == found

    return Target([packed(graph), packed(b""), packed(bytes(1 << 16))], mutate, run)


def decode_target(folder: Path) -> Target:
    """Whole decoding."""
    return Target(_streams(folder), mutated_chunks, _decoding(folder / "bundle"))


def integer_target(folder: Path) -> Target:
    """Whole decoding with a bundle in integers."""
    return Target(_streams(folder, "integer-corpus"), mutated_checks, _decoding(folder / "integer"))


def certificate_target(folder: Path) -> Target:
    """The certificate of an integer bundle."""
    manifest = Bundle.open(folder / "integer").manifest

    def run(data: bytes) -> None:
        certificate = certificate_from_json(data, manifest)
        assert all(one.case.height * one.case.width <= MAX_CASE_PIXELS for one in certificate.cases)

    return Target([(folder / "integer" / "certificate.json").read_bytes()], mutated_json, run)


def image_target(_: Path) -> Target:
    """Picture files through Pillow."""
    from mlic.runtime.image_files import read_image  # noqa: PLC0415 - loads Pillow
    from mlic.tools.fuzz.pictures import picture_files  # noqa: PLC0415

    def mutate(data: bytes, random: Random) -> bytes:
        return mutated_png(data, random) if data.startswith(b"\x89PNG") else mutated_bytes(data, random)

    def run(data: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = read_image(io.BytesIO(data), MAX_PIXELS)
        height, width, channels = picture.pixels.shape
        assert 1 <= height * width <= MAX_PIXELS
        assert channels == 3

    return Target(picture_files(), mutate, run)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "container": container_target,
    "ans": ans_target,
    "escapes": escapes_target,
    "syndrome": syndrome_target,
    "manifest": manifest_target,
    "tables": tables_target,
    "bundle": bundle_target,
    "packed": packed_target,
    "decode": decode_target,
    "integer": integer_target,
    "certificate": certificate_target,
    "image": image_target,
}


def _streams(folder: Path, corpus: str = "corpus") -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / corpus).glob("*.mlic"))]


def _decoding(bundle: Path) -> Callable[[bytes], None]:
    codec = Codec.load(bundle, "onnxruntime", threads=1, max_pixels=MAX_PIXELS)

    def run(data: bytes) -> None:
        header = container.read_header(data, MAX_PIXELS)
        pixels = codec.decode(data)
        assert pixels.shape == (header.height, header.width, 3)
        assert pixels.dtype == np.uint8

    return run


def _ended(deflated: bytes) -> bytes:
    """Return a gzip file of deflated data that may be damaged, with checksum and size of what they unpack to."""
    unpacker, found = zlib.decompressobj(-zlib.MAX_WBITS), b""
    with contextlib.suppress(zlib.error):
        found = unpacker.decompress(deflated, 1 << 20)
    return packed(b"")[:10] + deflated + struct.pack("<II", zlib.crc32(found), len(found))


def _words(models: RowModels, slots: np.ndarray, rows: np.ndarray) -> bytes:
    encoder = AnsEncoder()
    encoder.add(models, slots, rows)
    return encoder.finish().astype("<u4").tobytes()
