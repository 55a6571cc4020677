"""Pictures to calibrate with: crops of photos, the same ones for the same photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mlic.calibration.errors import CalibrationError
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.image_files import read_image


def photo_files(arguments: Sequence[Path]) -> list[Path]:
    """Return the files that arguments name, in order; folders stand for the pictures in them, sorted.

    Raises:
        CalibrationError: an argument does not exist, or there is no picture.
    """
    files: list[Path] = []
    for argument in arguments:
        if argument.is_dir():
            known = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
            files += sorted(path for path in argument.iterdir() if path.suffix.lower() in known and path.is_file())
        elif argument.is_file():
            files.append(argument)
        else:
            raise CalibrationError(f"{argument}: no such file or folder")
    if not files:
        raise CalibrationError(f"no picture in {', '.join(map(str, arguments))}")
    return files


def crops_of(files: Sequence[Path], count: int, size: int, seed: int = 0) -> list[UInt8Array]:
    """Return crops of photos, one of each photo, chosen evenly over all of them.

    Args:
        files: pictures that Pillow reads, each with both sides of at least 64 pixels.
        count: of crops at most; no more than there are photos.
        size: height and width of a crop in pixels; sides of smaller photos are taken whole, down to a multiple of 64.
        seed: of the places.

    Returns:
        uint8 [height, width, 3] each.

    Raises:
        ImageError: a picture cannot be read.
        CalibrationError: a picture is smaller than 64 pixels.
    """
    rng = np.random.default_rng(seed)
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).round().astype(int))]
    crops = []
    for path in chosen:
        pixels = read_image(path).pixels
        height, width = (min(size, side // 64 * 64) for side in pixels.shape[:2])
        if not height or not width:
            raise CalibrationError(f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels; expected 64x64 or more")
        top, left = (
            int(rng.integers(side - taken + 1)) for side, taken in zip(pixels.shape[:2], (height, width), strict=True)
        )
        crops.append(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
    return crops
