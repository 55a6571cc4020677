"""Files of every version of the format are read for ever, by every engine, as the pictures that they were."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from mlic.runtime import Codec, Metadata, Source, read_metadata
from mlic.runtime.container import VERSION
from tests.exif_blocks import exif_block, xmp_packet
from tests.golden_streams import GOLDEN, STREAMS, GoldenStream


def test_every_version_has_golden_streams():
    assert {path.name for path in GOLDEN.glob("v*")} == {f"v{version}" for version in range(1, VERSION + 1)}
    assert len(STREAMS) >= 15


def test_golden_metadata_are_read():
    stream = next(stream for stream in STREAMS if stream.path.stem == "tiny-with-metadata")
    expected = Metadata(
        exif=exif_block(with_thumbnail=False), xmp=xmp_packet(), source=Source.TRANSPARENT | Source.DEEP
    )
    assert read_metadata(stream.data) == expected


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.path.stem)
def test_golden_stream_decodes_to_its_picture(stream: GoldenStream, engine: str):
    if not importlib.util.find_spec(engine):
        pytest.skip(f"{engine} is not installed")
    found = Codec.load(stream.bundle, engine, threads=1).decode(stream.data)
    assert np.abs(found.astype(int) - stream.pixels).max() <= 1
