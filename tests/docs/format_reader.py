"""A decoder of ``.mlic`` files written from ``docs/file-format.md`` and ``docs/bundle-format.md`` and nothing else.

It shares no code with the runtime: where the two differ, the documents are wrong or incomplete, or one of the two is.
Slow, and without the repair of indexes, which the document leaves to the decoder.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from bisect import bisect_left, bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

MAX_SIDE = 2**20
MAX_METADATA = 2**24
MAX_SYMBOL = 2**24 - 1
CHECKS = {1: "SYND", 2: "CHCK"}  # by arithmetic
CODED = ["LATS", "ESCP", *CHECKS.values()]
ORDER = [*CODED, "GRID", "iccp", "exif", "xmpd", "orig"]


class RefusedError(Exception):
    """A file that the document tells to refuse; the text is the error's name there."""


class File(NamedTuple):
    """A file taken apart: the header, the chunks by name, and the cells of a grid with their places."""

    arithmetic: int
    model_id: bytes
    width: int
    height: int
    chunks: dict[str, bytes]
    cells: list[tuple[int, int, File]]


class Decoded(NamedTuple):
    """What a file without cells holds."""

    z_symbols: np.ndarray
    symbols: list[np.ndarray]
    y_hat: np.ndarray
    pixels: np.ndarray


def refuse_if(condition: bool, error: str) -> None:
    if condition:
        raise RefusedError(error)


def parse(data: bytes, is_cell: bool = False, max_pixels: int = 2**28, max_latent_pixels: int = 2**26) -> File:
    """Return a file taken apart."""
    refuse_if(data[:4] != b"MLIC"[: len(data)], "UnsupportedStreamError")
    refuse_if(len(data) > 4 and data[4] != 1, "UnsupportedStreamError")
    refuse_if(len(data) < 24, "TruncatedStreamError")
    arithmetic, flags, model_id, width, height = struct.unpack("<xxxxxBH8sII", data[:24])
    found: list[tuple[str, bytes]] = []
    position, name = 24, ""
    while name != "ENDS":
        refuse_if(len(data) < position + 8, "TruncatedStreamError")
        length, raw_name = struct.unpack("<I4s", data[position : position + 8])
        refuse_if(not all(chr(byte) in LETTERS for byte in raw_name), "CorruptStreamError")
        name = raw_name.decode()
        refuse_if(name == "ENDS" and length != 4, "CorruptStreamError")
        position += 8
        refuse_if(len(data) < position + length, "TruncatedStreamError")
        found.append((name, data[position : position + length]))
        position += length
        refuse_if(len(found) > 1025, "CorruptStreamError")
    refuse_if(len(data) > position, "CorruptStreamError")
    refuse_if(zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"), "CorruptStreamError")

    refuse_if(arithmetic not in CHECKS or flags != 0, "UnsupportedStreamError")
    refuse_if(not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE), "CorruptStreamError")
    refuse_if(width * height > max_pixels, "UnsupportedStreamError")
    names = [name for name, _ in found[:-1]]
    refuse_if(is_cell and any(name not in CODED for name in names), "CorruptStreamError")
    refuse_if("GRID" not in names and width * height > max_latent_pixels, "UnsupportedStreamError")
    refuse_if(len(set(names)) < len(names), "CorruptStreamError")
    refuse_if(any(name[0].isupper() and name not in ORDER for name in names), "UnsupportedStreamError")
    places = [ORDER.index(name) for name in names if name in ORDER]
    refuse_if(places != sorted(places), "CorruptStreamError")
    chunks = dict(found[:-1])
    if "GRID" in chunks:
        refuse_if(any(name in chunks for name in CODED), "CorruptStreamError")
    else:
        refuse_if("LATS" not in chunks, "CorruptStreamError")
        found_checks = [name for name in CHECKS.values() if name in chunks]
        refuse_if(found_checks != [CHECKS[arithmetic]], "CorruptStreamError")
    refuse_if(len(chunks.get("CHCK", bytes(4))) != 4, "CorruptStreamError")
    refuse_if(len(chunks.get("LATS", b"")) % 4 != 0, "CorruptStreamError")
    refuse_if(chunks.get("ESCP") == b"", "CorruptStreamError")
    for name in ("iccp", "exif", "xmpd"):
        if name in chunks:
            chunks[name] = _unpacked(chunks[name])
    refuse_if("orig" in chunks and len(chunks["orig"]) != 1, "CorruptStreamError")
    file = File(arithmetic, model_id, width, height, chunks, [])
    if "GRID" in chunks:
        _take_cells(file, max_pixels, max_latent_pixels)
    return file


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _unpacked(contents: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(contents, MAX_METADATA + 1)
    except zlib.error:
        raise RefusedError("CorruptStreamError") from None
    refuse_if(not 1 <= len(plain) <= MAX_METADATA or not stream.eof or stream.unused_data != b"", "CorruptStreamError")
    return plain


def _take_cells(file: File, max_pixels: int, max_latent_pixels: int) -> None:
    contents = file.chunks["GRID"]
    refuse_if(len(contents) < 8, "CorruptStreamError")
    cell_width, cell_height = struct.unpack("<II", contents[:8])
    for cell_side, side in ((cell_width, file.width), (cell_height, file.height)):
        refuse_if(cell_side % 64 != 0 or not 64 <= cell_side <= -(-side // 64) * 64, "CorruptStreamError")
    columns, rows = -(-file.width // cell_width), -(-file.height // cell_height)
    refuse_if(columns * rows < 2, "CorruptStreamError")
    position = 8
    for number in range(columns * rows):
        row, column = divmod(number, columns)
        refuse_if(len(contents) < position + 4, "CorruptStreamError")
        length = int.from_bytes(contents[position : position + 4], "little")
        position += 4
        refuse_if(len(contents) < position + length, "CorruptStreamError")
        try:
            cell = parse(contents[position : position + length], True, max_pixels, max_latent_pixels)
        except RefusedError as error:  # a cell that ends early is damage: the file is whole
            raise RefusedError(str(error).replace("Truncated", "Corrupt")) from None
        position += length
        left, top = column * cell_width, row * cell_height
        sides = (min(file.width, left + cell_width) - left, min(file.height, top + cell_height) - top)
        refuse_if(cell[:4] != (file.arithmetic, file.model_id, *sides), "CorruptStreamError")
        file.cells.append((left, top, cell))
    refuse_if(position != len(contents), "CorruptStreamError")


class Stack:
    """The ANS coder, read from the end of ``LATS``."""

    def __init__(self, contents: bytes) -> None:
        self.words = [word for (word,) in struct.iter_unpack("<I", contents)]
        refuse_if(self.words[-1:] == [0], "CorruptStreamError")
        self.x = 0
        self._refill()

    def pop(self, starts: list[int]) -> int:
        """Return the entry of a row with these running sums, the last of them 2^24."""
        q = self.x % 2**24
        v = bisect_right(starts, q) - 1
        self.x = (starts[v + 1] - starts[v]) * (self.x // 2**24) + q - starts[v]
        self._refill()
        return v

    def _refill(self) -> None:
        while self.x < 2**32 and self.words:
            self.x = self.x * 2**32 + self.words.pop()


class Bits:
    """The raw numbers of ``ESCP``."""

    def __init__(self, contents: bytes) -> None:
        self.text = "".join(f"{byte:08b}" for byte in contents)
        self.position = 0

    def take(self) -> int:
        first = self.text.find("1", self.position)
        zeros = first - self.position
        refuse_if(first < 0 or zeros > 26 or first + zeros >= len(self.text), "CorruptStreamError")
        self.position = first + zeros + 1
        return int(self.text[first : self.position], 2) - 1

    def finish(self) -> None:
        rest = self.text[self.position :]
        refuse_if(len(rest) > 7 or "1" in rest, "CorruptStreamError")


class Rows:
    """The frequencies of z or of y."""

    def __init__(self, tables: Any, prefix: str) -> None:
        lengths, self.offsets = tables[f"{prefix}_lengths"].tolist(), tables[f"{prefix}_offsets"].tolist()
        frequencies = tables[f"{prefix}_frequencies"].tolist()
        ends = list(accumulate(lengths))
        self.starts = [
            [0, *accumulate(frequencies[end - length : end])] for end, length in zip(ends, lengths, strict=True)
        ]

    def decode(self, rows: list[int], stack: Stack, escapes: Bits) -> list[int]:
        """Return the symbols of a group in flattened order, given the row of each."""
        entries = [0] * len(rows)
        for place in sorted(range(len(rows)), key=lambda place: rows[place]):
            entries[place] = stack.pop(self.starts[rows[place]])
        symbols = []
        for entry, row in zip(entries, rows, strict=True):
            escape = len(self.starts[row]) - 2
            v = entry
            if entry == escape:
                r = escapes.take()
                v = -(r + 1) // 2 if r % 2 else r // 2 + escape
            symbols.append(v + self.offsets[row])
            refuse_if(entry == escape and abs(symbols[-1]) > MAX_SYMBOL, "CorruptStreamError")
        return symbols


def crc16(data: bytes) -> int:
    remainder = 0
    for byte in data:
        remainder ^= byte << 8
        for _ in range(8):
            remainder = (remainder << 1) ^ (0x11021 if remainder & 0x8000 else 0)
    return remainder


class Syndromes:
    """The checksums of ``SYND``."""

    def __init__(self, contents: bytes, step_sizes: list[int]) -> None:
        refuse_if(len(contents) < 2, "CorruptStreamError")
        k, bits = contents[0], contents[1]
        refuse_if(not 6 <= k <= 24 or bits not in (16, 32), "UnsupportedStreamError")
        self.run, self.bytes = 2**k, bits // 8
        runs = sum(-(-size // self.run) for size in step_sizes)
        refuse_if(len(contents) != 2 + self.bytes * runs + 4, "CorruptStreamError")
        self.stored = contents[2:]
        self.all = 0

    def compare(self, indexes: bytes) -> None:
        """Check the indexes of the next step."""
        self.all = zlib.crc32(indexes, self.all)
        for first in range(0, len(indexes), self.run):
            run = indexes[first : first + self.run]
            value = crc16(run) if self.bytes == 2 else zlib.crc32(run)
            refuse_if(value != int.from_bytes(self.stored[: self.bytes], "little"), "EngineMismatchError")
            self.stored = self.stored[self.bytes :]

    def finish(self) -> None:
        refuse_if(self.all != int.from_bytes(self.stored, "little"), "EngineMismatchError")


class Check:
    """The checksum of ``CHCK``."""

    def __init__(self, contents: bytes) -> None:
        self.stored, self.all = contents, 0

    def compare(self, indexes: bytes) -> None:
        """Take the indexes of the next step."""
        self.all = zlib.crc32(indexes, self.all)

    def finish(self) -> None:
        refuse_if(self.all != int.from_bytes(self.stored, "little"), "EngineMismatchError")


class Model:
    """A bundle."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.model_id = bytes.fromhex(self.manifest["model_id"])
        self.arithmetic = {"float32-syndrome": 1, "integer": 2}[self.manifest["arithmetic"]]
        with np.load(folder / self.manifest["tables"]["path"]) as tables:
            self.z, self.y = Rows(tables, "z"), Rows(tables, "y")
            self.bounds = tables["scale_table"][:-1].tolist()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.graphs = {
            graph["name"]: onnxruntime.InferenceSession(contents(folder / graph["path"]), options)
            for graph in self.manifest["graphs"]
        }

    def run(self, name: str, state: dict[str, np.ndarray]) -> None:
        """Run a graph on the arrays of the state."""
        (graph,) = (graph for graph in self.manifest["graphs"] if graph["name"] == name)
        outputs = list(graph["outputs"])
        given = {name: state[name] for name in graph["inputs"]}
        state.update(zip(outputs, self.graphs[name].run(outputs, given), strict=True))

    def indexes(self, scales: np.ndarray) -> list[int]:
        """Return the row of each scale, in flattened order."""
        return [bisect_left(self.bounds, scale) for scale in scales.reshape(-1).tolist()]

    def decode(self, data: bytes) -> np.ndarray:
        """Return a file's picture, uint8 [height, width, 3]."""
        file = parse(data)
        refuse_if((file.model_id, file.arithmetic) != (self.model_id, self.arithmetic), "UnsupportedStreamError")
        if not file.cells:
            pixels = self.decode_latent(file).pixels
        else:
            pixels = np.zeros((file.height, file.width, 3), np.uint8)
            for left, top, cell in file.cells:
                pixels[top : top + cell.height, left : left + cell.width] = self.decode_latent(cell).pixels
        if file.chunks.get("orig", b"\0")[0] & 1:
            mean = (pixels.astype(int).sum(axis=2) + 1) // 3
            pixels = np.stack([mean] * 3, axis=-1).astype(np.uint8)
        return pixels

    def decode_latent(self, file: File) -> Decoded:
        """Return what a file without cells holds."""
        multiple = self.manifest["padding"]["multiple"]
        height, width = (-(-side // multiple) * multiple for side in (file.height, file.width))
        z_shape = (1, self.manifest["latent"]["z_channels"], height // 64, width // 64)
        shapes = [
            (1, step["channels"][1] - step["channels"][0], height // 16, width // (16 if is_all(step) else 32))
            for step in self.manifest["steps"]
        ]
        count = sum(math.prod(shape) for shape in [z_shape, *shapes])
        refuse_if(len(file.chunks["LATS"]) > 25 * count // 8 + 8, "CorruptStreamError")
        refuse_if(len(file.chunks.get("ESCP", b"")) > 53 * count // 8 + 8, "CorruptStreamError")
        checks: Syndromes | Check
        if file.arithmetic == 1:
            checks = Syndromes(file.chunks["SYND"], [math.prod(shape) for shape in shapes])
        else:
            checks = Check(file.chunks["CHCK"])
        stack, escapes = Stack(file.chunks["LATS"]), Bits(file.chunks.get("ESCP", b""))

        channel = [place // (z_shape[2] * z_shape[3]) for place in range(math.prod(z_shape))]
        z_symbols = np.array(self.z.decode(channel, stack, escapes), np.float32).reshape(z_shape)
        state = {"z_symbols": z_symbols}
        self.run("h_s", state)
        symbols = []
        for number, (step, shape) in enumerate(zip(self.manifest["steps"], shapes, strict=True)):
            self.run(step["graph"], state)
            given = state[f"{'scales' if file.arithmetic == 1 else 'indexes'}_{number:02}"]
            assert given.shape == shape
            indexes = self.indexes(given) if file.arithmetic == 1 else given.reshape(-1).tolist()
            assert max(indexes) < len(self.y.starts)
            checks.compare(bytes(indexes))
            symbols.append(np.array(self.y.decode(indexes, stack, escapes), np.float32).reshape(shape))
            state[f"symbols_{number:02}"] = symbols[-1]
        checks.finish()
        refuse_if(stack.x != 0 or stack.words != [], "CorruptStreamError")
        escapes.finish()

        self.run("finish", state)
        self.run("g_s", state)
        centre = self.manifest["padding"]["placement"] == "centre"
        top, left = ((height - file.height) // 2, (width - file.width) // 2) if centre else (0, 0)
        x_hat = state["x_hat"][0, :, top : top + file.height, left : left + file.width].astype(np.float32)
        values = np.clip(x_hat, np.float32(0), np.float32(1)) * np.float32(255)
        pixels = np.rint(values).astype(np.uint8).transpose(1, 2, 0)
        return Decoded(z_symbols, symbols, state["y_hat"], pixels)


def contents(path: Path) -> bytes:
    """Return the ONNX file of a graph."""
    data = path.read_bytes()
    if path.name.endswith(".onnx.gz"):
        unpacker = zlib.decompressobj(31)
        data = unpacker.decompress(data, int.from_bytes(data[-4:], "little") + 1)
        refuse_if(not unpacker.eof or unpacker.unused_data != b"", "BundleError")
    return data


def is_all(step: dict[str, Any]) -> bool:
    return bool(step["positions"] == "all")
