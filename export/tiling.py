"""How far transforms look, found by trying: what a bundle says about cutting pictures into tiles.

**The halo.** A block of the input is made NaN. What comes out as NaN is everything that can depend on the block,
however little: convolutions, normalisations and windows of attention all pass NaN on, whatever their weights. (Masked
attention passes it on through its mask, too, but masks are at the picture's edges only, and a picture on whose edge NaN
comes out counts as too small.) The halo is this reach, rounded up to the multiple: what a tile gives is exact. Only
where the multiple is coarse, the reach is rounded down, if that changes no value by more than engines differ: the
windows of STF reach 129 pixels far, and with a halo of 192 instead of 128 a tile of 1.5 megapixels would keep half of
what it computes instead of two thirds.

**The multiple.** NaN in a small block comes out around it. Where windows lie one beside the other, how far to each side
depends on where in its window the block is; it is the same again a multiple further on. At last a part of a picture is
run, off the picture's beginning by the multiple, and compared with the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mlic.export.verify import picture
from mlic.runtime.arrays import Array, Float32Array
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import GraphSpec, TensorSpec, Tiling, parse_dim
from mlic.runtime.wiring import TILED

MULTIPLES = (16, 32, 64)  # pixels; tiles hold whole positions of y, and end where pictures end
BLOCK = 64  # pixels that are made NaN; windows of the models that are known repeat within it
STEP = 16  # pixels of the small blocks, a position of y
SIDES = (320, 576, 1088, 2112)  # of pictures, each about twice the one before, with a block in the middle
SAME = 1e-5  # of the largest value: where layers sum in another order
ENGINES_DIFFER = 3e-6  # of the largest value; what may be given up by rounding down
COARSE = 64  # a multiple to which the reach may be rounded down

Run = Callable[[Array], Array]
Sample = Callable[[int], Float32Array]


def derive_tilings(specs: Mapping[str, GraphSpec], run: Callable[[str, Array], Array]) -> dict[str, Tiling]:
    """Return how ``g_a`` and ``g_s`` may be run over tiles; without those that look too far or cannot be.

    Args:
        specs: of both graphs, by name.
        run: computes a graph in float32, given its name and its input.
    """

    def x_sample(side: int) -> Float32Array:
        return picture(side, side)

    def y_sample(side: int) -> Float32Array:
        latent: Float32Array = np.rint(run("g_a", picture(side, side)))
        return latent

    found = {}
    for name, sample in zip(TILED, (x_sample, y_sample), strict=True):
        tiling = derive_tiling(specs[name], lambda values, name=name: run(name, values), sample)  # type: ignore[misc]
        if tiling is not None:
            found[name] = tiling
    return found


def derive_tiling(spec: GraphSpec, run: Run, sample: Sample) -> Tiling | None:
    """Return how a graph may be run over tiles, or None if it looks too far or depends on where a tile lies.

    Args:
        spec: of a graph with one input and one output, both [1, C, height/N, width/N].
        run: computes the graph in float32.
        sample: returns an input for a picture of ``side`` x ``side`` pixels.
    """
    found = reach(spec, run, sample)
    if found is None:
        return None
    footprints = _footprints(spec, run, sample, found)
    for multiple in MULTIPLES:
        if not _repeats(footprints, multiple):
            continue
        tiling = Tiling(multiple, -(-found // multiple) * multiple)
        smaller = Tiling(multiple, max(tiling.halo - multiple, 0))
        at_reach, below = _differences(spec, run, sample, multiple, (tiling.halo, smaller.halo))
        if at_reach <= SAME:
            return smaller if multiple >= COARSE and below <= ENGINES_DIFFER else tiling
    return None


def reach(spec: GraphSpec, run: Run, sample: Sample) -> int | None:
    """Return how many pixels from a value of the input lies the farthest value that can depend on it.

    Args:
        spec: as for ``derive_tiling``.
        run: as for ``derive_tiling``.
        sample: as for ``derive_tiling``.

    Returns:
        Pixels beyond a block of ``BLOCK`` pixels, in the direction in which they are most; None if that is more than
        half of the largest of ``SIDES``.
    """
    for side in SIDES:
        first = (side - BLOCK) // 2
        top, left, bottom, right = _lost(spec, run, sample(side), first, BLOCK)
        if min(top, left) > 0 and max(bottom, right) < side:
            return max(first - min(top, left), max(bottom, right) - first - BLOCK, 0)
    return None


def _footprints(spec: GraphSpec, run: Run, sample: Sample, far: int) -> list[tuple[int, int, int, int]]:
    """Return how far each of the small blocks within a block reaches up, left, down and right, in pixels."""
    side = BLOCK * (2 * -(-(far + 1) // BLOCK) + 1)
    values = sample(side)
    footprints = []
    for offset in range(0, BLOCK, STEP):
        first = (side - BLOCK) // 2 + offset
        top, left, bottom, right = _lost(spec, run, values.copy(), first, STEP)
        footprints.append((first - top, first - left, bottom - first, right - first))
    return footprints


def _repeats(footprints: list[tuple[int, int, int, int]], multiple: int) -> bool:
    """Tell whether small blocks a multiple apart reach equally far."""
    period = multiple // STEP
    return all(found == footprints[number % period] for number, found in enumerate(footprints))


def _lost(spec: GraphSpec, run: Run, values: Float32Array, first: int, size: int) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right, in pixels, of what is NaN if a square of the input on the diagonal is."""
    given, stride = _stride(spec.inputs), _stride(spec.outputs)
    block = slice(first // given, (first + size) // given)
    values[..., block, block] = np.nan
    lost = np.isnan(run(values))[0].max(axis=0)
    rows, columns = np.flatnonzero(lost.any(axis=1)), np.flatnonzero(lost.any(axis=0))
    assert rows.size, f"graph {spec.name} does not pass NaN on"
    ends = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    top, left, bottom, right = (int(place) * stride for place in ends)
    return top, left, bottom, right


def _differences(spec: GraphSpec, run: Run, sample: Sample, multiple: int, halos: tuple[int, ...]) -> list[float]:
    """Return how far a part of a picture differs from the whole, over the largest value, for each halo.

    The part is ``multiple`` pixels off the picture's beginning and ends before it does. It is compared wherever it is
    a halo away from all four edges.
    """
    given, stride = _stride(spec.inputs), _stride(spec.outputs)
    side = -(-(2 * max(halos) + 4 * BLOCK) // BLOCK) * BLOCK
    end = side - BLOCK  # an odd number of multiples, as tiles may have
    values = sample(side)
    cut = slice(multiple // given, end // given)
    whole = run(values)
    try:
        part = run(np.ascontiguousarray(values[..., cut, cut]))
    except (BackendError, RuntimeError):  # windows that do not fit
        return [float("inf")] * len(halos)
    place = slice(multiple // stride, end // stride)
    difference = np.abs(part - whole[..., place, place]) / max(1.0, float(np.abs(whole).max()))
    inner = (slice(halo // stride, (end - multiple - halo) // stride) for halo in halos)
    return [float(difference[..., kept, kept].max()) for kept in inner]


def _stride(tensors: dict[str, TensorSpec]) -> int:
    """Return how many pixels a position of the only tensor stands for."""
    (tensor,) = tensors.values()
    (_, rows), (_, columns) = (parse_dim(str(dim)) for dim in tensor.shape[2:])
    assert rows == columns
    return rows
