"""Padding, cropping and rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.errors import BackendError, ShapeError
from mlic.runtime.image import Frame, check_pixels, pixels_from_x_hat, x_from_pixels
from mlic.runtime.manifest import Padding

PADDINGS = [Padding(64, place, fill) for place in ("top-left", "centre") for fill in ("zeros", "edge")]


def test_a_picture_lies_top_left_or_in_the_centre():
    assert Frame.around(1, 64, Padding(64, "top-left", "zeros")) == Frame(1, 64, 64, 64, 0, 0)
    assert Frame.around(65, 61, Padding(64, "centre", "zeros")) == Frame(65, 61, 128, 64, 31, 1)
    assert Frame.around(128, 63, Padding(64, "centre", "zeros")) == Frame(128, 63, 128, 64, 0, 0)


@given(st.integers(1, 140), st.integers(1, 140), st.sampled_from(PADDINGS))
def test_pixels_survive_padding_and_cropping(height, width, padding):
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    frame = Frame.around(height, width, padding)
    x = x_from_pixels(pixels, frame, padding)
    assert x.shape == (1, 3, frame.padded_height, frame.padded_width)
    assert x.dtype == np.float32
    assert frame.padded_height % 64 == frame.padded_width % 64 == 0
    assert np.array_equal(pixels_from_x_hat(x, frame), pixels)


def test_zeros_surround_the_picture():
    padding = Padding(64, "centre", "zeros")
    frame = Frame.around(62, 61, padding)
    x = x_from_pixels(np.full((62, 61, 3), 255, np.uint8), frame, padding)
    assert x.sum() == 3 * 62 * 61
    assert x[0, 0, 1, 1] == 1
    assert x[0, 0, 0, 1] == x[0, 0, 1, 0] == x[0, 0, 63, 1] == x[0, 0, 1, 62] == 0


def test_edges_are_repeated():
    padding = Padding(64, "centre", "edge")
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    frame = Frame.around(2, 3, padding)
    x = x_from_pixels(pixels, frame, padding) * np.float32(255)
    expected = np.pad(pixels, ((31, 31), (30, 31), (0, 0)), mode="edge").transpose(2, 0, 1)
    assert np.allclose(x[0], expected, atol=1e-4)  # one rounding of a division and a product


def test_values_are_those_of_a_division_by_255():
    padding = Padding(64, "top-left", "zeros")
    levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    x = x_from_pixels(levels, Frame.around(16, 16, padding), padding)
    assert np.array_equal(x[0, 0, :16, :16].ravel(), np.arange(256, dtype=np.float32) / np.float32(255))


def test_output_is_clipped_and_rounded():
    frame = Frame(1, 5, 1, 5, 0, 0)
    row = np.array([-0.5, 1.7, 0.499 / 255, 0.501 / 255, 200.4 / 255], np.float32)
    x_hat = np.broadcast_to(row, (1, 3, 1, 5))
    assert pixels_from_x_hat(x_hat, frame)[0, :, 0].tolist() == [0, 255, 0, 1, 200]
    assert pixels_from_x_hat(x_hat.astype(np.float16), frame).dtype == np.uint8
    infinite = np.where(x_hat > 1, np.float32(np.inf), x_hat)
    assert pixels_from_x_hat(infinite, frame)[0, :, 0].tolist() == [0, 255, 0, 1, 200]


def test_nan_is_an_error_of_the_graph():
    with pytest.raises(BackendError, match="g_s returned NaN"):
        pixels_from_x_hat(np.full((1, 3, 64, 64), np.nan, np.float32), Frame(64, 64, 64, 64, 0, 0))


def test_grey_becomes_three_equal_channels():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(check_pixels(grey), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 3, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((), np.uint8),
    ],
)
def test_other_arrays_are_refused(pixels):
    with pytest.raises(ShapeError, match=r"expected uint8 \[height, width, 3\] or \[height, width\]"):
        check_pixels(pixels)
