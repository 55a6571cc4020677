"""Pictures as the graphs see them: uint8 HWC to float32 NCHW and back, padding and cropping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlic.runtime.arrays import Float32Array, UInt8Array
from mlic.runtime.errors import BackendError, MlicError, ShapeError
from mlic.runtime.manifest import Padding
from mlic.runtime.tiles import Box

# What the graphs see is padded; for a picture of one row that is 64 times what it holds.
PADDED_FACTOR = 4
PADDED_FREE = 1 << 20  # small pictures are padded whatever the limit


@dataclass(frozen=True)
class Frame:
    """Where a picture lies in its padded version; all in pixels.

    Attributes:
        height: of the picture.
        width: of the picture.
        padded_height: a multiple of the padding's.
        padded_width: a multiple of the padding's.
        top: rows above the picture.
        left: columns left of it.
    """

    height: int
    width: int
    padded_height: int
    padded_width: int
    top: int
    left: int

    @classmethod
    def around(cls, height: int, width: int, padding: Padding) -> Frame:
        """Return the frame of a picture; odd remainders of ``centre`` go right and below."""
        padded_height, padded_width = (-(-side // padding.multiple) * padding.multiple for side in (height, width))
        centre = padding.placement == "centre"
        top, left = (padded_height - height, padded_width - width) if centre else (0, 0)
        return cls(height, width, padded_height, padded_width, top // 2, left // 2)

    @property
    def picture(self) -> Box:
        """The picture in its padded version."""
        return Box(self.top, self.left, self.height, self.width)


def frame_within(height: int, width: int, padding: Padding, max_pixels: int, refusal: type[MlicError]) -> Frame:
    """Return the frame of a picture, unless padding makes far more of it than ``max_pixels``.

    Args:
        height: of the picture.
        width: of the picture.
        padding: of the bundle.
        max_pixels: limit of the picture itself.
        refusal: what to raise.

    Raises:
        MlicError: of the class ``refusal``.
    """
    frame = Frame.around(height, width, padding)
    limit = max(PADDED_FACTOR * max_pixels, PADDED_FREE)
    if frame.padded_height * frame.padded_width > limit:
        raise refusal(
            f"picture of {width} x {height} pixels is padded to {frame.padded_width} x {frame.padded_height}; the "
            f"limit is {limit} pixels ({PADDED_FACTOR} times max_pixels)"
        )
    return frame


def check_pixels(pixels: UInt8Array) -> UInt8Array:
    """Return a picture as uint8 [H, W, 3], or say what is wrong with it.

    Args:
        pixels: uint8 [H, W, 3], or [H, W] for grey.

    Raises:
        ShapeError: another dtype, shape, or no pixels.
    """
    good = pixels.dtype == np.uint8 and 0 not in pixels.shape
    if not good or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ShapeError(
            f"picture is {pixels.dtype} {list(pixels.shape)}; expected uint8 [height, width, 3] or [height, width]"
        )
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=2)


def x_from_pixels(pixels: UInt8Array, frame: Frame, padding: Padding, box: Box | None = None) -> Float32Array:
    """Return the padded picture, or a part of it, as the analysis transform takes it.

    Args:
        pixels: uint8 [H, W, 3].
        frame: made from H and W.
        padding: what to fill the frame with.
        box: which part of the padded picture; default: all of it.

    Returns:
        float32 [1, 3, box height, box width] in 0..1.
    """
    box = Box(0, 0, frame.padded_height, frame.padded_width) if box is None else box
    x = np.zeros((1, 3, box.height, box.width), dtype=np.float32)
    edge = padding.fill == "edge"
    source_rows, rows = _span(frame.height, box.top - frame.top, box.height, edge)
    source_columns, columns = _span(frame.width, box.left - frame.left, box.width, edge)
    inside = pixels[source_rows, source_columns].transpose(2, 0, 1)
    np.divide(inside, np.float32(255), out=x[0, :, rows, columns], dtype=np.float32)
    if edge:
        x[..., rows, : columns.start] = x[..., rows, columns.start, np.newaxis]
        x[..., rows, columns.stop :] = x[..., rows, columns.stop - 1, np.newaxis]
        x[..., : rows.start, :] = x[..., rows.start, np.newaxis, :]
        x[..., rows.stop :, :] = x[..., rows.stop - 1, np.newaxis, :]
    return x


def pixels_from_x_hat(x_hat: Float32Array, frame: Frame) -> UInt8Array:
    """Return the picture inside a synthesised one.

    Args:
        x_hat: float32 or float16 [1, 3, padded height, padded width], nominally 0..1.
        frame: of the picture.

    Returns:
        uint8 [H, W, 3], clipped, then rounded to the nearest, ties to even.

    Raises:
        BackendError: a value is NaN.
    """
    return pixels_in_box(x_hat, frame.picture)


def pixels_in_box(x_hat: Float32Array, box: Box) -> UInt8Array:
    """Return the pixels in a part of what the synthesis gave.

    Args:
        x_hat: float32 or float16 [1, 3, height, width], nominally 0..1.
        box: which part.

    Returns:
        uint8 [box height, box width, 3], clipped, then rounded to the nearest, ties to even.

    Raises:
        BackendError: a value is NaN.
    """
    values = x_hat[0, :, box.rows, box.columns].astype(np.float32)
    if np.isnan(values).any():
        raise BackendError("graph g_s returned NaN")
    np.clip(values, 0, 1, out=values)
    values *= 255
    return np.ascontiguousarray(np.rint(values, out=values).astype(np.uint8).transpose(1, 2, 0))


def grey_from_pixels(pixels: UInt8Array) -> UInt8Array:
    """Return a picture whose three planes are all the mean of what they were.

    The planes of a decoded grey picture are three estimates of one, with errors of about the same size; their mean is
    nearer to it than any of them and than luma, which hardly looks at blue.

    Args:
        pixels: uint8 [H, W, 3].

    Returns:
        uint8 [H, W, 3], rounded to the nearest.
    """
    total = pixels.sum(axis=2, dtype=np.uint16)
    return np.repeat(((total + 1) // 3).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def _span(length: int, start: int, count: int, nearest: bool) -> tuple[slice, slice]:
    """Return which part of a picture's side lies in a part of its padded version, and where in that.

    Args:
        length: of the picture's side.
        start: of the part, counted from the picture's beginning; negative in the padding before it.
        count: of the part's rows or columns.
        nearest: take the picture's nearest row or column where the part holds none.
    """
    first, end = max(start, 0), min(start + count, length)
    if first >= end:
        first = (0 if start < 0 else length - 1) if nearest else 0
        end = first + 1 if nearest else first
    place = min(max(first - start, 0), count - (end - first))
    return slice(first, end), slice(place, place + end - first)
