"""What a codec makes of a photo: bytes, distances, times."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mlic.runtime.arrays import UInt8Array
from mlic.tools.compare.contenders import Contender
from mlic.tools.quality import MS_SSIM_SMALLEST, ms_ssim, psnr


@dataclass(frozen=True)
class Point:
    """One file of one photo.

    Attributes:
        photo: its name.
        codec: as in ``--against``, or ``mlic``.
        quality: setting of the codec.
        num_bytes: of the whole file.
        bpp: bits of the file per pixel.
        psnr_db: of 8-bit RGB, all channels together.
        ms_ssim: 0..1, mean of the channels of RGB; None for pictures too small for it.
        encode_seconds: of one run on pixels in memory, the first included.
        decode_seconds: likewise.
    """

    photo: str
    codec: str
    quality: str
    num_bytes: int
    bpp: float
    psnr_db: float
    ms_ssim: float | None
    encode_seconds: float
    decode_seconds: float


def measure(photo: str, pixels: UInt8Array, contender: Contender, quality: Any) -> tuple[Point, bytes, UInt8Array]:
    """Encode and decode a photo.

    Args:
        photo: its name.
        pixels: uint8 [H, W, 3].
        contender: the codec.
        quality: one of its settings.

    Returns:
        What was measured, the file, and the decoded picture, uint8 [H, W, 3].

    Raises:
        MlicError: ours failed.
        OSError: one of Pillow's did.
    """
    start = time.perf_counter()
    data = contender.encode(pixels, quality)
    middle = time.perf_counter()
    decoded = contender.decode(data)
    end = time.perf_counter()
    return (
        point(photo, pixels, contender.name, str(quality), data, decoded, (middle - start, end - middle)),
        data,
        decoded,
    )


def point(
    photo: str,
    pixels: UInt8Array,
    codec: str,
    quality: str,
    data: bytes,
    decoded: UInt8Array,
    seconds: tuple[float, float],
) -> Point:
    """Return the point of a file that was decoded."""
    height, width = pixels.shape[:2]
    return Point(
        photo,
        codec,
        quality,
        len(data),
        8 * len(data) / (height * width),
        psnr(pixels, decoded),
        ms_ssim(pixels, decoded) if min(height, width) >= MS_SSIM_SMALLEST else None,
        *seconds,
    )


def write_csv(path: Path, points: Iterable[Point]) -> None:
    """Write one row a point; columns are named as the attributes."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Point)], lineterminator="\n")
        writer.writeheader()
        for one in points:
            row = asdict(one)
            row |= {key: f"{value:.6g}" for key, value in row.items() if isinstance(value, float)}
            writer.writerow(row)
