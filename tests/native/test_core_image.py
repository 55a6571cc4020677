"""Pictures become the same planes and the same bytes as in Python."""

from __future__ import annotations

import numpy as np
import pytest

from mlic.runtime.checkerboard import part_of_y
from mlic.runtime.image import Frame, grey_from_pixels, pixels_in_box, x_from_pixels
from mlic.runtime.manifest import Padding
from mlic.runtime.tiles import Box
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
    whole = Box(0, 0, frame.padded_height, frame.padded_width)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    for box in boxes_in(whole, rng):
        expected = x_from_pixels(pixels, frame, padding, box).tobytes()
        assert probe.ask("x_from_pixels", *options, np.array([*size, 3, *box]), pixels) == [expected]
        expected = x_from_pixels(grey, frame, padding, box).tobytes()
        assert probe.ask("x_from_pixels", *options, np.array([*size, 1, *box]), pixels[..., 0]) == [expected]

    x_hat = rng.normal(0.5, 0.6, (1, 3, whole.height, whole.width)).astype(np.float32)
    halves = (np.arange(256, dtype=np.float32) + np.float32(0.5)) / np.float32(255)
    x_hat.reshape(-1)[::2] = np.resize(halves, len(x_hat.reshape(-1)[::2]))  # ties, as near as float32 comes
    x_hat.reshape(-1)[:4] = np.inf, -np.inf, -0.0, 1
    for box in [frame.picture, *boxes_in(whole, rng)]:
        asked, expected = np.array([*size, 3, *box]), pixels_in_box(x_hat, box)
        assert probe.ask("pixels_in_box", *options, asked, x_hat, b"\0") == [expected.tobytes()]
        assert probe.ask("pixels_in_box", *options, asked, x_hat, b"\1") == [grey_from_pixels(expected).tobytes()]
    x_hat[0, 1, frame.top, frame.left] = np.nan
    with pytest.raises(RefusedError, match="graph g_s returned NaN") as caught:
        probe.ask("pixels_in_box", *options, np.array([*size, 3, *frame.picture]), x_hat, b"\0")
    assert caught.value.status == 41


def boxes_in(whole, rng):
    """Return the whole, its corners, and boxes anywhere, some of them beside the picture."""
    boxes = [whole, Box(0, 0, 16, 16), Box(whole.height - 16, whole.width - 16, 16, 16)]
    for _ in range(5):
        (top, bottom), (left, right) = (np.sort(rng.integers(0, side, 2)) for side in (whole.height, whole.width))
        boxes.append(Box(int(top), int(left), int(bottom - top) + 1, int(right - left) + 1))
    return boxes


@pytest.mark.parametrize("positions", ["all", "anchor", "nonanchor"])
def test_parts_of_y_are_equal(probe, rng, positions):
    y = rng.normal(size=(1, 6, 3, 8)).astype(np.float32)
    for first, end in ((0, 6), (2, 3), (1, 5)):
        expected = part_of_y(y, (first, end), positions).tobytes()
        assert probe.ask("part_of_y", y, np.array([3, 8, first, end]), positions) == [expected]
    assert probe.status("part_of_y", y, np.array([8, 3, 0, 6]), positions) == (0 if positions == "all" else 10)
