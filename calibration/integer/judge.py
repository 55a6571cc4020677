"""What an integer chain costs: bits and PSNR of photos, both chains behind the same transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.codec import Codec


@dataclass(frozen=True)
class ChainEffect:
    """What the integers change.

    Attributes:
        rate_percent: bytes of all files over those of the float chain, less one, in percent.
        psnr_loss_db: mean PSNR of the float chain less that of the integers.
    """

    rate_percent: float
    psnr_loss_db: float


def judge_chain(before: Bundle, after: Bundle, pictures: Sequence[UInt8Array], threads: int) -> ChainEffect:
    """Encode and decode pictures with both bundles.

    Args:
        before: with the float chain.
        after: with the integer chain.
        pictures: uint8 [H, W, 3] each.
        threads: of the engine.
    """
    sizes, quality = [], []
    for bundle in (before, after):
        codec = Codec(bundle, OnnxRuntimeBackend(threads))
        files = [codec.encode(pixels) for pixels in pictures]
        sizes.append(sum(map(len, files)))
        quality.append(
            np.mean([_psnr(codec.decode(file), pixels) for file, pixels in zip(files, pictures, strict=True)])
        )
    return ChainEffect(100 * (sizes[1] / sizes[0] - 1), float(quality[0] - quality[1]))


def _psnr(decoded: UInt8Array, pixels: UInt8Array) -> float:
    error = float(np.mean((decoded.astype(np.float64) - pixels) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-10)))
