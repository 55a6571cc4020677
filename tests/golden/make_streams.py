"""Write the golden streams of one version of the file format, once.

    python -m tests.golden.make_streams v1

Files of every version have to be read for ever: each stream lies beside the picture that it decoded to when it was
written. What is there is kept; a changed format gets a new version's folder.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mlic.runtime import Codec, Metadata, Source, coder
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.choices import INTEGER, QUALITIES
from mlic.runtime.syndrome import SyndromeWriter
from tests.conftest import photo
from tests.exif_blocks import exif_block, xmp_packet
from tests.tiny_bundle import build_tiny_bundle

FOLDER = Path(__file__).parent
PHOTO = FOLDER.parent / "photos/kodim03.png"


def streams(bundle: Path) -> Iterator[tuple[str, Codec, bytes]]:
    """Encode every picture: name, codec, file."""
    tiny = Codec.load(bundle, "onnxruntime", threads=1)
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    for height, width in ((1, 1), (24, 40), (64, 64), (75, 100)):
        yield f"tiny-{width}x{height}", tiny, tiny.encode(photo(height, width))
    yield "tiny-noise-with-escapes", tiny, tiny.encode(noise)
    yield "tiny-with-profile", tiny, tiny.encode(photo(30, 30), Metadata(icc_profile=b"a profile"))
    metadata = Metadata(
        exif=exif_block(with_thumbnail=False), xmp=xmp_packet(), source=Source.TRANSPARENT | Source.DEEP
    )
    yield "tiny-with-metadata", tiny, tiny.encode(photo(30, 30), metadata)
    for chunk_log2, width in ((6, 16), (10, 32)):
        coder.SyndromeWriter = functools.partial(SyndromeWriter, chunk_log2, width)  # type: ignore[misc, assignment]
        yield f"tiny-checksums-{width}-bits-chunks-{1 << chunk_log2}", tiny, tiny.encode(photo(75, 100))
    coder.SyndromeWriter = SyndromeWriter  # type: ignore[misc]
    with Image.open(PHOTO) as image:
        crop: UInt8Array = np.asarray(image.convert("RGB"))[200:300, 300:450]
    for quality in QUALITIES:
        codec = Codec.load(backend="onnxruntime", threads=1, quality=quality)
        yield f"{quality}-photo", codec, codec.encode(crop)
        yield f"{quality}-noise", codec, codec.encode(noise)
    codec = Codec.load(INTEGER, "onnxruntime", threads=1)
    yield f"{INTEGER}-photo", codec, codec.encode(crop)
    yield f"{INTEGER}-noise", codec, codec.encode(noise)


def main(version: str) -> None:
    """Write what is not there yet."""
    folder = FOLDER / version
    if not (folder / "bundle").exists():
        build_tiny_bundle(folder / "bundle")
    for name, codec, data in streams(folder / "bundle"):
        if (folder / f"{name}.mlic").exists():
            continue
        (folder / f"{name}.mlic").write_bytes(data)
        Image.fromarray(codec.decode(data)).save(folder / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1])
