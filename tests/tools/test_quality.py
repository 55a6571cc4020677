"""Distances between pictures, against figures of another implementation."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mlic.runtime.errors import ShapeError
from mlic.tools.quality import MS_SSIM_SMALLEST, ms_ssim, psnr


def blurred(pixels: np.ndarray, noise: int, seed: int = 0) -> np.ndarray:
    """Return a picture that differs in blur and noise alone, without any codec whose versions may differ."""
    rng = np.random.default_rng(seed)
    wide = pixels.astype(np.int64)
    mean = (wide + np.roll(wide, 1, axis=0) + np.roll(wide, 1, axis=1) + np.roll(wide, (1, 1), axis=(0, 1))) // 4
    return np.clip(mean + rng.integers(-noise, noise + 1, pixels.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "noise", "expected"),
    [(256, 320, 0, 0.950815), (256, 320, 40, 0.9216629), (177, 161, 10, 0.9557947), (200, 333, 90, 0.8316577)],
)
def test_ms_ssim_is_that_of_pytorch_msssim(make_photo, height: int, width: int, noise: int, expected: float):
    # Expected: ms_ssim of pytorch-msssim 1.0.0 on float64 tensors [1, 3, H, W], data_range=255. Its window is float32.
    pixels = make_photo(height, width)
    assert ms_ssim(pixels, blurred(pixels, noise)) == pytest.approx(expected, abs=2e-6)


def test_equal_pictures_are_as_near_as_can_be(make_photo):
    pixels = make_photo(200, 180)
    assert ms_ssim(pixels, pixels) == pytest.approx(1)
    assert psnr(pixels, pixels) == float("inf")


def test_psnr_of_a_known_error():
    pixels = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(pixels, pixels + 5) == pytest.approx(10 * np.log10(255**2 / 25))


def test_order_does_not_matter_and_dark_minus_bright_does_not_wrap(make_photo):
    pixels = make_photo(170, 165)
    other = 255 - pixels
    assert psnr(pixels, other) == psnr(other, pixels) < 10
    assert ms_ssim(pixels, other) == pytest.approx(ms_ssim(other, pixels))


def test_more_compression_is_farther(make_photo):
    pixels = blurred(make_photo(256, 256), 0)
    values = []
    for quality in (5, 50, 95):
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as image:
            values.append(ms_ssim(pixels, np.asarray(image)))
    assert values == sorted(values)


def test_too_small_or_different_shapes_are_refused(make_photo):
    small, large = make_photo(MS_SSIM_SMALLEST - 1, 300), make_photo(MS_SSIM_SMALLEST, 300)
    assert 0 < ms_ssim(large, blurred(large, 3)) < 1
    with pytest.raises(ShapeError, match=r"300 x 160; expected 161 pixels a side"):
        ms_ssim(small, small)
    for distance in (psnr, ms_ssim):
        with pytest.raises(ShapeError, match="expected the same shape"):
            distance(small, large)
