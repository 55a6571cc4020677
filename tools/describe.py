"""What ``mlic-run info`` says about a file."""

from __future__ import annotations

from typing import Any

from mlic.runtime.container import read
from mlic.runtime.shipped import quality_of


def description(data: bytes, max_pixels: int) -> dict[str, Any]:
    """Return what a ``.mlic`` file says about itself, ready for JSON.

    Args:
        data: the whole file.
        max_pixels: refuse larger pictures.

    Returns:
        ``width``, ``height`` (pixels), ``model_id`` (hex), ``quality`` (None unless the model is one that ships),
        ``arithmetic``, ``bytes`` of the file and of each part, ``bpp``.

    Raises:
        BitstreamError: the file cannot be read.
        BundleError: a model that ships is damaged.
    """
    stream = read(data, max_pixels)
    return {
        "width": stream.width,
        "height": stream.height,
        "model_id": stream.model_id.hex(),
        "quality": quality_of(stream.model_id),
        "arithmetic": stream.arithmetic,
        "bytes": len(data),
        "latent_bytes": len(stream.latents),
        "escape_bytes": len(stream.escapes),
        "syndrome_bytes": len(stream.syndromes),
        "icc_bytes": len(stream.icc_profile or b""),
        "bpp": round(8 * len(data) / (stream.width * stream.height), 4),
    }
