"""How far two pictures are apart."""

from __future__ import annotations

import math

import numpy as np

from mlic.runtime.arrays import Float64Array, UInt8Array
from mlic.runtime.errors import ShapeError

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli and Bovik 2003, section 3.2
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
MS_SSIM_SMALLEST = 16 * (WINDOW - 1) + 1  # shorter side: a window fits at the fifth scale


def psnr(a: UInt8Array, b: UInt8Array) -> float:
    """Return the peak signal-to-noise ratio of two uint8 pictures of one shape, in dB; infinite if they are equal.

    The mean squared error is over all pixels and channels together, on 8-bit values.

    Raises:
        ShapeError: the shapes differ.
    """
    _require_one_shape(a, b)
    mse = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ms_ssim(a: UInt8Array, b: UInt8Array) -> float:
    """Return the multi-scale structural similarity of two pictures, 0..1 (Wang, Simoncelli and Bovik 2003).

    As papers on learned compression report it: five scales, 11x11 Gaussian windows that lie inside the picture, mean of
    the three channels of RGB.

    Args:
        a: uint8 [H, W, 3], H and W at least ``MS_SSIM_SMALLEST``.
        b: of the same shape.

    Raises:
        ShapeError: the shapes differ, or the pictures are too small.
    """
    _require_one_shape(a, b)
    if min(a.shape[:2]) < MS_SSIM_SMALLEST:
        raise ShapeError(
            f"pictures are {a.shape[1]} x {a.shape[0]}; expected {MS_SSIM_SMALLEST} pixels a side at least"
        )
    planes = [np.moveaxis(picture.astype(np.float64), 2, 0) for picture in (a, b)]
    result = np.ones(3)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        luminance, structure = _similarities(*planes)
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        term = np.mean(luminance * structure if last else structure, axis=(1, 2))
        result *= np.maximum(term, 0) ** weight
        if not last:
            planes = [_halved(plane) for plane in planes]
    return float(result.mean())


def _similarities(a: Float64Array, b: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the luminance and the contrast-structure terms at every place of the window: float64 [C, h, w]."""
    mean_a, mean_b = _windowed(a), _windowed(b)
    square, product = mean_a**2 + mean_b**2, mean_a * mean_b
    variances = _windowed(a**2 + b**2) - square
    covariance = _windowed(a * b) - product
    return (2 * product + C1) / (square + C1), (2 * covariance + C2) / (variances + C2)


def _windowed(planes: Float64Array) -> Float64Array:
    """Return weighted means over every window that lies inside: [C, H, W] to [C, H - 10, W - 10]."""
    from scipy.ndimage import correlate1d  # noqa: PLC0415 - scipy comes with the extra `report`

    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    margin = WINDOW // 2
    rows = correlate1d(planes, weights, axis=1)[:, margin:-margin]
    result: Float64Array = correlate1d(rows, weights, axis=2)[:, :, margin:-margin]
    return result


def _halved(planes: Float64Array) -> Float64Array:
    """Return means of 2x2 pixels; an odd last row or column is paired with zeros that count as pixels.

    That is how the implementations that papers use treat odd sizes, so that figures agree.
    """
    _, height, width = planes.shape
    odd = (height % 2, width % 2)
    padded = np.pad(planes, ((0, 0), (odd[0], odd[0]), (odd[1], odd[1])))
    padded = padded[:, : (padded.shape[1] // 2) * 2, : (padded.shape[2] // 2) * 2]
    result: Float64Array = (
        padded[:, ::2, ::2] + padded[:, 1::2, ::2] + padded[:, ::2, 1::2] + padded[:, 1::2, 1::2]
    ) / 4
    return result


def _require_one_shape(a: UInt8Array, b: UInt8Array) -> None:
    if a.shape != b.shape:
        raise ShapeError(f"pictures are {a.shape} and {b.shape}; expected the same shape")
