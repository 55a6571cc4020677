"""EXIF written by hand, as cameras write it: any byte order, a thumbnail, maker notes that count from the beginning."""

from __future__ import annotations

import io
import struct

from PIL import Image

ORIENTATION = 0x0112


def thumbnail() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), (200, 100, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def exif_block(
    orientation: int | None = 1,
    order: str = "<",
    with_thumbnail: bool = True,
    kind: int = 3,
    maker_note: bytes = b"MAKER\0" + bytes(range(40)),
) -> bytes:
    """Return EXIF: camera, orientation, time, maker note, and a second directory with a thumbnail.

    Args:
        orientation: its value, or None for no such entry.
        order: ``<`` or ``>``.
        with_thumbnail: whether there is a second directory.
        kind: TIFF's type of the orientation: 1 byte, 3 short, 4 long.
        maker_note: contents of the camera's own tag; the last four bytes written are its place in the block.
    """
    heap = bytearray()
    count = 3 + (orientation is not None)
    first = 8
    inner = first + 2 + 12 * count + 4
    second = inner + 2 + 12 * 2 + 4
    heap_start = second + (2 + 12 * 2 + 4 if with_thumbnail else 0)

    def stored(data: bytes) -> int:
        place = heap_start + len(heap)
        heap.extend(data + bytes(len(data) % 2))
        return place

    def entry(tag: int, kind: int, number: int, value: int) -> bytes:
        packed = {1: struct.pack("B3x", value & 255), 3: struct.pack(order + "HH", value & 0xFFFF, 0)}
        return struct.pack(order + "HHI", tag, kind, number) + packed.get(kind, struct.pack(order + "I", value))

    def text(tag: int, value: bytes) -> bytes:
        return struct.pack(order + "HHII", tag, 2, len(value), stored(value))

    entries = [text(0x010F, b"Canon\0"), text(0x0110, b"Canon EOS R5\0")]
    if orientation is not None:
        entries.append(entry(ORIENTATION, kind, 1, orientation))
    entries.append(entry(0x8769, 4, 1, inner))
    note = maker_note + struct.pack(order + "I", heap_start + len(heap))
    details = [text(0x9003, b"2024:05:06 07:08:09\0")]
    details.append(struct.pack(order + "HHII", 0x927C, 7, len(note), stored(note)))
    parts = [
        {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", first),
        struct.pack(order + "H", count) + b"".join(entries),
        struct.pack(order + "I", second if with_thumbnail else 0),
        struct.pack(order + "H", len(details)) + b"".join(details) + bytes(4),
    ]
    if with_thumbnail:
        jpeg = thumbnail()
        place = stored(jpeg)
        parts.append(
            struct.pack(order + "H", 2) + entry(0x0201, 4, 1, place) + entry(0x0202, 4, 1, len(jpeg)) + bytes(4)
        )
    return b"".join(parts) + bytes(heap)


def xmp_packet(orientation: int | None = None) -> bytes:
    """Return an XMP packet with a title, and an orientation if one is given."""
    turned = "" if orientation is None else f' tiff:Orientation="{orientation}"'
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        f' xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{turned} photoshop:City="Köln"'
        ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()
