"""Photos for training: a folder held in memory, split by source photo, and random crops of it."""

from __future__ import annotations

import csv
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from mlic.runtime.arrays import UInt8Array

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}


def source_of(path: Path, sources: dict[str, str]) -> str:
    """Return what identifies the photograph behind ``path``, so that its detail crops stay on its side of the split."""
    return sources.get(path.name, path.stem.removesuffix("_local"))


def load_photos(folder: Path, smallest: int, held_out: float) -> tuple[list[UInt8Array], list[UInt8Array]]:
    """Read every photo of a folder into memory and split them by source.

    Args:
        folder: holds picture files and, if several come from one photograph, a ``manifest.csv`` with columns ``file``
            and ``source_file``.
        smallest: pictures with a shorter side are left out.
        held_out: share of the sources kept for validation, 0..1; chosen by a hash of the source's name, so that
            adding photos moves none across.

    Returns:
        Training and validation pictures, uint8 [H, W, 3], in file-name order.

    Raises:
        FileNotFoundError: no usable picture in the folder.
    """
    sources: dict[str, str] = {}
    manifest = folder / "manifest.csv"
    if manifest.exists():
        with manifest.open(newline="", encoding="utf-8") as file:
            sources = {row["file"]: row.get("source_file") or row["file"] for row in csv.DictReader(file)}
    training: list[UInt8Array] = []
    validation: list[UInt8Array] = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        if min(pixels.shape[:2]) < smallest:
            continue
        bucket = zlib.crc32(source_of(path, sources).encode()) / 2**32
        (validation if bucket < held_out else training).append(pixels)
    if not training:
        raise FileNotFoundError(f"no picture of at least {smallest} pixels a side in {folder}")
    return training, validation


class RandomCrops:
    """Seeded random crops, flipped at random; every pixel of the set is about equally likely.

    Attributes:
        generator: its state belongs into a training checkpoint.
    """

    def __init__(self, photos: list[UInt8Array], size: int, seed: int) -> None:
        self.photos = photos
        self.size = size
        self.generator = np.random.default_rng(seed)
        areas = np.array([float(p.shape[0] * p.shape[1]) for p in photos])
        self._shares = areas / areas.sum()

    def batch(self, count: int) -> UInt8Array:
        """Return uint8 [count, size, size, 3]."""
        chosen = self.generator.choice(len(self.photos), size=count, p=self._shares)
        return np.stack([self._crop(self.photos[i]) for i in chosen])

    def _crop(self, photo: UInt8Array) -> UInt8Array:
        top = self.generator.integers(photo.shape[0] - self.size + 1)
        left = self.generator.integers(photo.shape[1] - self.size + 1)
        crop = photo[top : top + self.size, left : left + self.size]
        if self.generator.random() < 0.5:
            crop = crop[:, ::-1]
        if self.generator.random() < 0.5:
            crop = crop[::-1]
        return crop


def centre_crops(photos: list[UInt8Array], size: int) -> UInt8Array:
    """Return uint8 [n, size, size, 3], the middle of each photo."""
    crops = []
    for photo in photos:
        top, left = (photo.shape[0] - size) // 2, (photo.shape[1] - size) // 2
        crops.append(photo[top : top + size, left : left + size])
    return np.stack(crops)
