"""Whether the engines of this machine read each other's files: what ``mlic-run verify --engines`` reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mlic.runtime import Codec
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.backends import Backend
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import MlicError
from mlic.tools.agreement import Known, Scales, known, margin, overall, scales_of

MAX_PIXEL_DIFFERENCE = 1  # of 255: g_s may differ in its last digits too


@dataclass(frozen=True)
class PairReport:
    """One engine reads what another wrote.

    Attributes:
        writer: the engine that encoded.
        reader: the engine that decodes.
        indexes: of all pictures.
        flips: indexes in which the two differ, all of them corrected if there is no problem.
        scale_difference: the largest difference of scales.
        pixel_difference: largest difference from the writer's own decoding, of 255.
        margin: how many times larger the differences of scales could be and still be corrected at the first try;
            infinite if there are none.
        problem: what failed, or None.
    """

    writer: str
    reader: str
    indexes: int
    flips: int
    scale_difference: float
    pixel_difference: int
    margin: float
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """Return everything, ready for JSON, which has no infinity."""
        return asdict(self) | {"margin": None if math.isinf(self.margin) else self.margin}


@dataclass(frozen=True)
class _Written:
    codec: Codec
    pictures: list[Known]
    files: list[bytes]
    decoded: list[UInt8Array]


def certify(
    bundle: Bundle,
    engines: Mapping[str, Callable[[], Backend]],
    pictures: Sequence[UInt8Array],
    progress: Callable[[str], None] = lambda _: None,
) -> list[PairReport]:
    """Let every engine read every other's files.

    Args:
        bundle: the model.
        engines: two at least; what opens each, by name.
        pictures: uint8 [H, W, 3].
        progress: called with an engine's name before it writes, and with a pair's before it reads.

    Raises:
        MlicError: an engine cannot encode, or cannot decode its own file.
    """
    written = {}
    for name, start in engines.items():
        progress(name)
        codec = Codec(bundle, start())
        files = [codec.encode(pixels) for pixels in pictures]
        written[name] = _Written(
            codec, [known(codec, pixels) for pixels in pictures], files, [codec.decode(data) for data in files]
        )
    reports = []
    for writer, theirs in written.items():
        their_scales = scales_of(theirs.codec, theirs.pictures)
        for reader, ours in written.items():
            if reader != writer:
                progress(f"{writer} > {reader}")
                reports.append(_pair(writer, reader, theirs, their_scales, ours.codec))
    return reports


def _pair(writer: str, reader: str, theirs: _Written, their_scales: list[Scales], codec: Codec) -> PairReport:
    entropy = codec.bundle.entropy
    our_scales = scales_of(codec, theirs.pictures)
    whole = overall(entropy, their_scales, our_scales)
    problem, apart = None, 0
    try:
        for data, expected in zip(theirs.files, theirs.decoded, strict=True):
            found = codec.decode(data)
            apart = max(apart, int(np.abs(found.astype(np.int16) - expected).max()))
    except MlicError as error:
        problem = str(error)
    if apart > MAX_PIXEL_DIFFERENCE:
        problem = f"a pixel is {apart} of 255 from the writer's own decoding"
    left = margin(entropy, their_scales, our_scales)
    return PairReport(writer, reader, whole.count, whole.flips, whole.largest, apart, left, problem)


def table(reports: Sequence[PairReport]) -> str:
    """Return the reports as a table."""
    width = max(len(name) for report in reports for name in (report.writer, report.reader))
    lines = [
        f"{'written by':<{width}}  {'read by':<{width}}  {'indexes':>9}  {'differ':>6}  {'scales by':>9}  "
        f"{'pixels by':>9}  {'margin':>6}"
    ]
    for one in reports:
        left = "equal" if math.isinf(one.margin) else f"{one.margin:.0f}x"
        lines.append(
            f"{one.writer:<{width}}  {one.reader:<{width}}  {one.indexes:>9}  {one.flips:>6}  "
            f"{one.scale_difference:>9.1e}  {one.pixel_difference:>5}/255  {left:>6}  "
            f"{one.problem or ('all corrected' if one.flips else 'ok')}"
        )
    return "\n".join(lines)
