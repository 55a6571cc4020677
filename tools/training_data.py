"""Photos for training: a folder held in memory, split by source photo, and random crops of it."""

from __future__ import annotations

import csv
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.errors import MlicError

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}


def source_of(name: str, sources: dict[str, str]) -> str:
    """Return what identifies the photograph behind a file, so that its detail crops stay on its side of the split.

    Args:
        name: of the file; ``x_local.jpg`` is a crop of ``x.jpg``.
        sources: photographs by file name, as far as a manifest tells.
    """
    photo = _photo_of(name)
    return sources.get(name) or sources.get(photo) or photo


def _photo_of(name: str) -> str:
    return Path(name).stem.removesuffix("_local")


def _read_sources(manifest: Path) -> dict[str, str]:
    """Return the photographs that a manifest names, by file name and by photo."""
    sources: dict[str, str] = {}
    with manifest.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if "file" not in row:
                raise MlicError(f"{manifest}: has columns {', '.join(row)}; expected file and source_file")
            if source := row.get("source_file"):
                sources[row["file"]] = source
                sources.setdefault(_photo_of(row["file"]), source)
    return sources


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
        MlicError: the manifest has other columns.
    """
    manifest = folder / "manifest.csv"
    sources = _read_sources(manifest) if manifest.exists() else {}
    training: list[UInt8Array] = []
    validation: list[UInt8Array] = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        if min(pixels.shape[:2]) < smallest:
            continue
        bucket = zlib.crc32(source_of(path.name, sources).encode()) / 2**32
        (validation if bucket < held_out else training).append(pixels)
    if not training:
        raise FileNotFoundError(f"no picture of at least {smallest} pixels a side in {folder}")
    return training, validation


def tensor_from_pixels(pixels: UInt8Array, device: torch.device) -> Tensor:
    """Return float32 [B, 3, H, W] in 0..1 from uint8 [B, H, W, 3]."""
    moved = torch.from_numpy(np.ascontiguousarray(pixels)).to(device, non_blocking=True)
    # Contiguous on purpose: with channels-last strides torch 2.13 corrupts its heap in the backward pass on the CPU.
    return moved.permute(0, 3, 1, 2).contiguous().float().div_(255)


class RandomCrops:
    """Random crops, flipped at random; every pixel of the set is about equally likely."""

    def __init__(self, photos: list[UInt8Array], size: int) -> None:
        self.photos = photos
        self.size = size
        areas = np.array([float(p.shape[0] * p.shape[1]) for p in photos])
        self._shares = areas / areas.sum()

    def batch(self, count: int, generator: np.random.Generator) -> UInt8Array:
        """Return uint8 [count, size, size, 3]."""
        chosen = generator.choice(len(self.photos), size=count, p=self._shares)
        return np.stack([self._crop(self.photos[i], generator) for i in chosen])

    def _crop(self, photo: UInt8Array, generator: np.random.Generator) -> UInt8Array:
        top = generator.integers(photo.shape[0] - self.size + 1)
        left = generator.integers(photo.shape[1] - self.size + 1)
        crop = photo[top : top + self.size, left : left + self.size]
        if generator.random() < 0.5:
            crop = crop[:, ::-1]
        if generator.random() < 0.5:
            crop = crop[::-1]
        return crop


def centre_crops(photos: list[UInt8Array], size: int) -> UInt8Array:
    """Return uint8 [n, size, size, 3], the middle of each photo; n may be 0."""
    crops = [np.empty((0, size, size, 3), np.uint8)]
    for photo in photos:
        top, left = (photo.shape[0] - size) // 2, (photo.shape[1] - size) // 2
        crops.append(photo[None, top : top + size, left : left + size])
    return np.concatenate(crops)
