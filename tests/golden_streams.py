"""Files that earlier versions wrote, and the pictures that they were: ``tests/golden/v*``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.choices import INTEGER, QUALITIES
from mlic.runtime.shipped import integer_bundle, shipped_bundle

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class GoldenStream:
    """One of them.

    Attributes:
        path: of the file.
    """

    path: Path

    @property
    def data(self) -> bytes:
        """The file."""
        return self.path.read_bytes()

    @property
    def pixels(self) -> UInt8Array:
        """The picture, uint8 [height, width, 3], within 1/255 of what any engine makes of the file."""
        with Image.open(self.path.with_suffix(".png")) as image:
            return np.asarray(image)

    @property
    def bundle(self) -> Path:
        """The bundle that it was written with: one that ships, or the miniature one beside it."""
        name = self.path.name.partition("-")[0]
        if name == INTEGER:
            return integer_bundle()
        return shipped_bundle(name) if name in QUALITIES else self.path.parent / "bundle"


STREAMS = [GoldenStream(path) for path in sorted(GOLDEN.glob("v*/*.mlic"))]
