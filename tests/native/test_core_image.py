"""Pictures become the same planes and the same bytes as in Python."""

from __future__ import annotations

import numpy as np
import pytest

from mlic.runtime.checkerboard import part_of_y
from mlic.runtime.image import Frame, pixels_from_x_hat, x_from_pixels
from mlic.runtime.manifest import Padding
from tests.native.core_probe import RefusedError

pytestmark = pytest.mark.xdist_group("native_core")  # one build

PADDINGS = [
    Padding(64, "top-left", "zeros"),
    Padding(64, "top-left", "edge"),
    Padding(128, "centre", "edge"),
    Padding(64, "centre", "zeros"),
]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (63, 65), (100, 3)])
def test_pictures_become_the_same_planes_and_back(probe, rng, padding, size):
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    frame = Frame.around(*size, padding)
    options = (padding.multiple, padding.placement, padding.fill)
    x = x_from_pixels(pixels, frame, padding)
    assert probe.ask("x_from_pixels", *options, np.array([*size, 3]), pixels) == [x.tobytes()]
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    expected = x_from_pixels(grey, frame, padding).tobytes()
    assert probe.ask("x_from_pixels", *options, np.array([*size, 1]), pixels[..., 0]) == [expected]

    x_hat = rng.normal(0.5, 0.6, x.shape).astype(np.float32)
    halves = (np.arange(256, dtype=np.float32) + np.float32(0.5)) / np.float32(255)
    x_hat.reshape(-1)[::2] = np.resize(halves, len(x_hat.reshape(-1)[::2]))  # ties, as near as float32 comes
    x_hat.reshape(-1)[:4] = np.inf, -np.inf, -0.0, 1
    asked = np.array([*size, 3])
    assert probe.ask("pixels_from_x_hat", *options, asked, x_hat) == [pixels_from_x_hat(x_hat, frame).tobytes()]
    x_hat[0, 1, frame.top, frame.left] = np.nan
    with pytest.raises(RefusedError, match="graph g_s returned NaN") as caught:
        probe.ask("pixels_from_x_hat", *options, asked, x_hat)
    assert caught.value.status == 41


@pytest.mark.parametrize("positions", ["all", "anchor", "nonanchor"])
def test_parts_of_y_are_equal(probe, rng, positions):
    y = rng.normal(size=(1, 6, 3, 8)).astype(np.float32)
    for first, end in ((0, 6), (2, 3), (1, 5)):
        expected = part_of_y(y, (first, end), positions).tobytes()
        assert probe.ask("part_of_y", y, np.array([3, 8, first, end]), positions) == [expected]
    assert probe.status("part_of_y", y, np.array([8, 3, 0, 6]), positions) == (0 if positions == "all" else 10)
