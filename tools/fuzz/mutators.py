"""Damage to files: blind, and with lengths and checksums made right again, without which little would be read."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

Mutator = Callable[[bytes, Random], bytes]

MAX_GROWTH = 64  # bytes that one change adds at most
_HEADER, _FRAME = 24, 8  # bytes of a .mlic file's header, and of a chunk's
_NAMES = (b"LATS", b"ESCP", b"SYND", b"CHCK", b"GRID", b"exif", b"note")
_NUMBERS = (0, 1, 2, 7, 8, 15, 16, 31, 63, 64, 127, 128, 255, 256, 4095, 32767, 65535, 1 << 24, (1 << 31) - 1)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 63, 64, 4096, 1 << 31, 1 << 63, 1 << 70, 0.5, 1e308, "", "a", "..", "/", "\0",
    "height", "height/16", "width/0", "float32", "int64", "../x", "\ud800", "é" * 40, [], {}, [[]], {"a": []},
    [1, 3, "height", "width"],
)  # fmt: skip


def mutated_bytes(data: bytes, random: Random) -> bytes:
    """Return data with one to four blind changes."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        _CHANGES[random.randrange(len(_CHANGES))](changed, random)
    return bytes(changed)


def mutated_chunks(data: bytes, random: Random) -> bytes:
    """Return a ``.mlic`` file with a part changed, lengths and checksum right most of the time."""
    parts = _parts_of(data)
    if not parts or random.random() < 0.1:
        changed = mutated_bytes(data, random)
        return _sealed(changed) if random.random() < 0.7 else changed
    place = random.randrange(len(parts))
    if random.random() < 0.1:
        parts.insert(random.randrange(len(parts) + 1), parts[place])
    elif random.random() < 0.1:
        del parts[place]
    else:
        kept = 0 if random.random() < 0.1 else 4  # a chunk's name, or magic and version
        part = parts[place][:kept] + mutated_bytes(parts[place][kept:], random)
        parts[place] = (part + bytes(_HEADER))[:_HEADER] if place == 0 else (part + bytes(4))[: max(4, len(part))]
    return _sealed(_joined(parts)) if parts else b""


def mutated_checks(data: bytes, random: Random) -> bytes:
    """Return a ``.mlic`` file with its arithmetic or a chunk's name exchanged for another known one, or as above."""
    parts = _parts_of(data)
    if not parts or random.random() < 0.8:
        return mutated_chunks(data, random)
    if random.random() < 0.5:
        parts[0] = parts[0][:5] + bytes([random.choice((1, 2, 3))]) + parts[0][6:]
    for place in range(1, len(parts)):
        if random.random() < 0.3:
            parts[place] = random.choice(_NAMES) + parts[place][4:]
    return _sealed(_joined(parts))


def mutated_json(data: bytes, random: Random) -> bytes:
    """Return JSON with one to three values replaced, removed or repeated, or its text changed blindly."""
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return mutated_bytes(data, random)
    if random.random() < 0.2:
        return mutated_bytes(data, random)
    for _ in range(random.randrange(1, 4)):
        _change_value(root, random)
    return json.dumps(root).encode()


def mutated_png(data: bytes, random: Random) -> bytes:
    """Return a PNG file with one chunk changed and its checksum right."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks.append(data[position + 4 : position + 8 + length])
        position += 12 + length
    if not chunks or random.random() < 0.1:
        return mutated_bytes(data, random)
    place = random.randrange(len(chunks))
    name, contents = chunks[place][:4], chunks[place][4:]
    if name in (b"iCCP", b"zTXt", b"IDAT") and random.random() < 0.3:  # right compression of another thing
        head = contents[: contents.find(b"\0") + 2] if name != b"IDAT" else b""
        contents = head + zlib.compress(random.randbytes(8) * random.choice((1, 1000, 300_000)))
    else:
        contents = mutated_bytes(contents, random)
    chunks[place] = name + contents
    if random.random() < 0.2:
        chunks.insert(random.randrange(len(chunks)), random.choice(chunks))
    return data[:8] + b"".join(
        struct.pack(">I", max(0, len(chunk) - 4)) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def _parts_of(data: bytes) -> list[bytes]:
    """Return header and chunks, each with its name; none if the data are no such thing."""
    parts, position = [data[:_HEADER]], _HEADER
    while position + _FRAME <= len(data):
        (length,) = struct.unpack_from("<I", data, position)
        parts.append(data[position + 4 : position + _FRAME + length])
        position += _FRAME + length
    return parts if position == len(data) else []


def _joined(parts: list[bytes]) -> bytes:
    return b"".join([parts[0], *(struct.pack("<I", len(part) - 4) + part for part in parts[1:])])


def _sealed(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4])) if len(data) >= 4 else data


def _change_value(root: Any, random: Random) -> None:
    """Change something on a way from the root that is chosen at random."""
    parent = root
    while isinstance(parent, (dict, list)) and parent:
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        key = random.choice(keys)
        child = parent[key]
        if isinstance(child, (dict, list)) and child and random.random() < 0.8:
            parent = child
            continue
        kind = random.random()
        if kind < 0.15:
            del parent[key]
        elif kind < 0.3 and isinstance(parent, list):
            parent.insert(key, deepcopy(child))
        elif kind < 0.4 and isinstance(parent, dict):
            parent[_mutated_text(key, random)] = parent.pop(key)
        elif kind < 0.6 and isinstance(child, int):
            parent[key] = child + random.choice((-1, 1, 16, -16, 1 << 20))
        elif kind < 0.6 and isinstance(child, str):
            parent[key] = _mutated_text(child, random)
        else:
            parent[key] = deepcopy(random.choice(_VALUES))
        return


def _mutated_text(text: str, random: Random) -> str:
    return mutated_bytes(text.encode(errors="surrogatepass"), random).decode(errors="surrogateescape")


def _place(data: bytearray, random: Random) -> int:
    return random.randrange(len(data)) if data else 0


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[_place(data, random)] ^= 1 << random.randrange(8)


def _set(data: bytearray, random: Random) -> None:
    if data:
        data[_place(data, random)] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _insert(data: bytearray, random: Random) -> None:
    place, count = _place(data, random), random.randrange(1, MAX_GROWTH)
    data[place:place] = random.choice((random.randbytes(count), bytes(count), b"\xff" * count))


def _delete(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    del data[place : place + random.choice((1, 4, random.randrange(1, 64)))]


def _repeat(data: bytearray, random: Random) -> None:
    place = _place(data, random)
    data[place:place] = data[place : place + random.randrange(1, MAX_GROWTH)]


def _number(data: bytearray, random: Random) -> None:
    place, size = _place(data, random), random.choice((1, 2, 4, 8))
    value = (random.choice(_NUMBERS) * random.choice((1, -1))) % (1 << 8 * size)
    if place + size <= len(data):
        data[place : place + size] = value.to_bytes(size, random.choice(("little", "big")))


def _cut(data: bytearray, random: Random) -> None:
    if random.random() < 0.3:
        del data[_place(data, random) :]


_CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip, _flip, _set, _set, _insert, _delete, _repeat, _number, _number, _cut,
)  # fmt: skip
