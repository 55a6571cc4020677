"""The codecs that are compared: ours, and those of Pillow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

import numpy as np
from PIL import Image, features

from mlic.runtime import Codec
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.errors import MlicError

OURS = "mlic"


class Contender(Protocol):
    """A lossy codec with a knob.

    Attributes:
        name: in tables and file names.
        qualities: settings of the knob, by rising rate.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def qualities(self) -> Sequence[str | int]: ...  # noqa: D102

    def encode(self, pixels: UInt8Array, quality: Any) -> bytes:
        """Return the whole file of uint8 [H, W, 3]."""

    def decode(self, data: bytes) -> UInt8Array:
        """Return uint8 [H, W, 3]."""


class Models:
    """Our models as one codec whose knob chooses among them."""

    name = OURS

    def __init__(self, codecs: Mapping[str, Codec]) -> None:
        self._codecs = dict(codecs)
        self._by_id = {codec.bundle.manifest.model_id: codec for codec in codecs.values()}
        self.qualities: Sequence[str] = list(codecs)

    def encode(self, pixels: UInt8Array, quality: str) -> bytes:
        """Return the whole file of uint8 [H, W, 3]."""
        return self._codecs[quality].encode(pixels)

    def decode(self, data: bytes) -> UInt8Array:
        """Return uint8 [H, W, 3]."""
        from mlic.runtime.container import read  # noqa: PLC0415

        return self._by_id[read(data).model_id].decode(data)


@dataclass(frozen=True)
class PillowCodec:
    """A format of Pillow with a quality from 1 to 100.

    Attributes:
        name: in tables and file names.
        title: as people write it.
        format: as Pillow names it.
        suffix: of its files.
        settings: what it was asked for beside the quality, for captions.
        options: the same, for Pillow.
        qualities: where its curve is measured.
        feature: what Pillow must have been built with, if it is optional.
        in_browsers: whether browsers show it.
        plug_in: package that teaches Pillow the format, if it does not know it by itself: module and distribution.
    """

    name: str
    title: str
    format: str
    suffix: str
    settings: str
    options: Mapping[str, Any]
    qualities: Sequence[int] = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)
    feature: str | None = None
    in_browsers: bool = True
    plug_in: tuple[str, str] | None = None

    def encode(self, pixels: UInt8Array, quality: int) -> bytes:
        """Return the whole file of uint8 [H, W, 3]."""
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, format=self.format, quality=quality, **self.options)
        return buffer.getvalue()

    def decode(self, data: bytes) -> UInt8Array:
        """Return uint8 [H, W, 3]."""
        with Image.open(BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    def require(self) -> None:
        """Raise MlicError if this Pillow cannot write the format."""
        if self.feature and not features.check(self.feature):
            raise MlicError(f"this Pillow was built without {self.title}; leave {self.name} out of --against")
        if self.plug_in:
            module, distribution = self.plug_in
            try:
                __import__(module)
            except ImportError as error:
                raise MlicError(
                    f"Pillow does not know {self.title} by itself; pip install {distribution}, "
                    f"or leave {self.name} out of --against"
                ) from error


# Each at the settings of its encoder that make the smallest files in reasonable time; chroma at half resolution,
# which is their default and the better choice at the rates compared.
PILLOW_CODECS = {
    codec.name: codec
    for codec in (
        PillowCodec(
            "jpeg",
            "JPEG",
            "JPEG",
            ".jpg",
            "libjpeg-turbo, progressive, optimised tables, 4:2:0",
            {"optimize": True, "progressive": True, "subsampling": "4:2:0"},
        ),
        PillowCodec("webp", "WebP", "WEBP", ".webp", "libwebp, method 6", {"method": 6}, feature="webp"),
        PillowCodec(
            "avif",
            "AVIF",
            "AVIF",
            ".avif",
            "libavif, speed 4, 4:2:0",
            {"speed": 4, "subsampling": "4:2:0"},
            feature="avif",
        ),
        PillowCodec(
            "jxl",
            "JPEG XL",
            "JXL",
            ".jxl",
            "libjxl, effort 7",
            {"effort": 7},
            in_browsers=False,
            plug_in=("pillow_jxl", "pillow-jxl-plugin"),
        ),
    )
}


def largest_within(
    codec: PillowCodec, pixels: UInt8Array, num_bytes: int, sizes: Mapping[int, int]
) -> tuple[int, bytes] | None:
    """Return the highest quality whose file is not larger than a limit, and that file; None if there is none.

    Args:
        codec: searched from quality 1 to 100, taking sizes to rise with it.
        pixels: uint8 [H, W, 3].
        num_bytes: the limit.
        sizes: of files by quality, as far as known.
    """
    low = max((q for q, size in sizes.items() if size <= num_bytes), default=0)
    high = min((q for q, size in sizes.items() if size > num_bytes and q > low), default=101)
    found: bytes | None = None
    while high - low > 1:
        middle = (low + high) // 2
        data = codec.encode(pixels, middle)
        if len(data) <= num_bytes:
            low, found = middle, data
        else:
            high = middle
    if not low:
        return None
    return low, codec.encode(pixels, low) if found is None else found
