"""What the fuzzers begin with: ``python -m tests.native.seeds FOLDER`` writes a tiny bundle and files of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mlic.runtime import Codec, Metadata
from tests.conftest import photo
from tests.tiny_bundle import build_tiny_bundle


def write_seeds(folder: Path) -> None:
    """Write ``bundle`` and ``corpus`` into a folder."""
    codec = Codec.load(build_tiny_bundle(folder / "bundle"), "onnxruntime", threads=1)
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for height, width in ((1, 1), (24, 40), (64, 100)):
        (corpus / f"{width}x{height}.mlic").write_bytes(codec.encode(photo(height, width)))
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype(np.uint8)
    (corpus / "noise.mlic").write_bytes(codec.encode(noise, Metadata(icc_profile=b"a profile")))


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
