"""The picture that is coded again and again: a file's, or one that is made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlic.runtime.arrays import UInt8Array

DEFAULT_SIZE = 512, 768  # height and width


def picture_from(image: Path | None, size: tuple[int, int] | None) -> UInt8Array:
    """Return uint8 [H, W, 3]: a file's picture or a made one, mirrored over and over to fill a size.

    Args:
        image: the file; None for a made one.
        size: height and width; None for the file's, or ``DEFAULT_SIZE``.

    Raises:
        ImageError: the file is no picture that can be read.
    """
    if image is None:
        return made_picture(*(size or DEFAULT_SIZE))
    from mlic.runtime.image_files import read_image  # noqa: PLC0415 - loads Pillow

    pixels = read_image(image).pixels
    if size is None:
        return pixels
    rows, columns = (_mirrored(there, wanted) for there, wanted in zip(pixels.shape[:2], size, strict=True))
    return np.ascontiguousarray(pixels[rows][:, columns])


def _mirrored(length: int, wanted: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return ``wanted`` indexes that run up and down 0..length-1."""
    there = np.arange(length)
    return np.resize(np.concatenate([there, there[::-1]]), wanted)


def made_picture(height: int, width: int) -> UInt8Array:
    """Return uint8 [height, width, 3] whose amplitudes fall as f^-1.2, about as those of photos; always the same."""
    rng = np.random.default_rng(1)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    planes = []
    for _ in range(3):
        noise = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
        plane = np.fft.irfft2(noise / frequency**1.2, s=(height, width))
        planes.append(plane / max(float(plane.std()), 1e-12))
    grey, *colours = planes
    image = np.stack([128 + 45 * grey + 12 * colour for colour in (colours[0], colours[1], -colours[0])], axis=-1)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
