"""What the fuzzers begin with: ``python -m tests.native.seeds FOLDER`` writes a tiny bundle and files of it."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

from mlic.runtime import Codec, Metadata
from mlic.runtime.gzip_file import packed
from mlic.runtime.manifest import Tiling
from mlic.runtime.metadata import Source
from tests.conftest import photo
from tests.integer_bundle import build_integer_bundle
from tests.native.test_core_orientation import exif
from tests.tiny_bundle import build_tiny_bundle

LATENT_PIXELS = 1 << 12
METADATA = Metadata(b"a profile", exif("<"), b"<tiff:Orientation>6</tiff:Orientation>", Source.TRANSPARENT)


def write_seeds(folder: Path) -> None:
    """Write ``bundle``, ``corpus`` of its files, ``parts`` of bundles, ``integer`` and its corpus."""
    bundle = build_tiny_bundle(folder / "bundle", tiling=Tiling(16, 16))
    codec = Codec.load(bundle, "onnxruntime", threads=1, latent_pixels=LATENT_PIXELS)
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for height, width in ((1, 1), (24, 40), (64, 64), (40, 110)):  # the last one has two cells
        (corpus / f"{width}x{height}.mlic").write_bytes(codec.encode(photo(height, width)))
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3)).astype(np.uint8)
    (corpus / "noise.mlic").write_bytes(codec.encode(noise, METADATA))
    grid = codec.encode(photo(70, 65), Metadata(xmp=b"<x tiff:Orientation='3'/>", source=Source.GREY))
    (corpus / "grid.mlic").write_bytes(grid)
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (parts / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")))
    (parts / "tables.npz").write_bytes((bundle / "tables.npz").read_bytes())
    with zipfile.ZipFile(bundle / "tables.npz") as tables:
        (parts / "scale_table.npy").write_bytes(tables.read("scale_table.npy"))
    graph = (bundle / "onnx" / "step_03.onnx").read_bytes()
    (parts / "step_03.onnx.gz").write_bytes(packed(graph))
    (parts / "step_03.deflated").write_bytes(packed(graph)[10:-8])
    integer = build_integer_bundle(folder / "integer", tiling=Tiling(16, 16))
    codec = Codec.load(integer, "onnxruntime", threads=1, latent_pixels=LATENT_PIXELS)
    corpus = folder / "integer-corpus"
    corpus.mkdir(exist_ok=True)
    for height, width in ((1, 1), (24, 40), (64, 64), (40, 110)):
        (corpus / f"{width}x{height}.mlic").write_bytes(codec.encode(photo(height, width)))
    (corpus / "noise.mlic").write_bytes(codec.encode(noise, METADATA))
    for name in ("manifest.json", "certificate.json"):
        compact = json.dumps(json.loads((integer / name).read_text()), separators=(",", ":"))
        (parts / f"integer-{name}").write_text(compact)


if __name__ == "__main__":
    write_seeds(Path(sys.argv[1]))
