"""How far two pictures are apart."""

import math

import numpy as np

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.errors import ShapeError


def psnr(a: UInt8Array, b: UInt8Array) -> float:
    """Return the peak signal-to-noise ratio of two uint8 pictures of one shape, in dB; infinite if they are equal.

    The mean squared error is over all pixels and channels together, on 8-bit values.

    Raises:
        ShapeError: the shapes differ.
    """
    if a.shape != b.shape:
        raise ShapeError(f"pictures are {a.shape} and {b.shape}; expected the same shape")
    mse = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)
