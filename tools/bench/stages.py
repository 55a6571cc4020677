"""Where the time of an encode or a decode goes."""

from __future__ import annotations

import math
import re
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlic.runtime import Codec
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.container import read
from mlic.runtime.image import Frame
from mlic.tools.bench.timed import TimedBackend

TRANSFORMS = ("g_a", "h_a", "g_s")
OUTSIDE = ("image", "coder", "container")


class StageClock:
    """Takes a codec's reports of progress and adds up the seconds of each stage.

    Attributes:
        seconds: by stage, in the order in which they first began.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._stage: str | None = None
        self._since = 0.0

    def __call__(self, stage: str) -> None:
        """Begin a stage, which ends the one before."""
        self.stop()
        self._stage, self._since = stage, time.perf_counter()

    def stop(self) -> None:
        """End the stage at hand."""
        if self._stage is not None:
            self.seconds[self._stage] += time.perf_counter() - self._since
        self._stage = None


@dataclass(frozen=True)
class Timings:
    """Repeated runs of one job.

    Attributes:
        seconds: by stage, one value a run; ``total`` is the whole call.
        outside: share of each run that was not spent inside the engine's own calls, 0..1.
    """

    seconds: dict[str, list[float]]
    outside: list[float]

    def median_ms(self, stage: str = "total") -> float:
        """Return the median of a stage in milliseconds."""
        return 1000 * statistics.median(self.seconds[stage])

    def chain_ms(self) -> float:
        """Return the median in milliseconds of all stages but the transforms, the picture and the container."""
        names = [name for name in self.seconds if name not in (*TRANSFORMS, "total", "image", "container")]
        return 1000 * statistics.median(map(sum, zip(*(self.seconds[name] for name in names), strict=True)))

    def as_json(self) -> dict[str, Any]:
        """Return everything, in milliseconds."""
        return {
            "total_ms": _summary(self.seconds["total"]),
            "stages_ms": {name: _summary(values) for name, values in self.seconds.items() if name != "total"},
            "chain_ms": round(self.chain_ms(), 3),
            "outside_engine_percent": round(100 * statistics.median(self.outside), 2),
        }


@dataclass(frozen=True)
class Benchmark:
    """What ``mlic-run bench`` measured.

    Attributes:
        encode: of the picture.
        decode: of its file.
        width: of the picture.
        height: of the picture.
        num_bytes: of the file.
        num_symbols: of y and z together.
        peak_bytes: largest resident memory of the process so far, both jobs and Python included.
        engine: what ran the graphs.
    """

    encode: Timings
    decode: Timings
    width: int
    height: int
    num_bytes: int
    num_symbols: int
    peak_bytes: int
    engine: str

    def as_json(self) -> dict[str, Any]:
        """Return everything, with derived rates."""
        pixels = self.width * self.height
        result: dict[str, Any] = {
            "engine": self.engine,
            "width": self.width,
            "height": self.height,
            "bytes": self.num_bytes,
            "bpp": round(8 * self.num_bytes / pixels, 4),
            "symbols": self.num_symbols,
            "runs": len(self.encode.outside),
            "peak_memory_mb": round(self.peak_bytes / 1e6, 1),
        }
        for name, job in (("encode", self.encode), ("decode", self.decode)):
            result[name] = job.as_json() | {
                "mpixel_per_s": round(pixels / 1e3 / job.median_ms(), 4),
                "msymbol_per_s": round(self.num_symbols / 1e3 / job.median_ms("coder"), 4),
            }
        return result


def _summary(values: list[float]) -> dict[str, float]:
    milliseconds = [1000 * value for value in values]
    return {
        "median": round(statistics.median(milliseconds), 3),
        "min": round(min(milliseconds), 3),
        "max": round(max(milliseconds), 3),
    }


def measure(
    codec: Codec, backend: TimedBackend, pixels: UInt8Array, repeat: int, begin: Callable[[str], None]
) -> Benchmark:
    """Encode and decode a picture again and again, in turns.

    Args:
        codec: opened on ``backend``.
        backend: measures the engine's own calls.
        pixels: uint8 [H, W, 3].
        repeat: runs that count; one more before them opens the graphs and is not counted.
        begin: called before each run.

    Raises:
        MlicError: as ``Codec.encode`` and ``Codec.decode``.
    """
    runs: dict[str, list[tuple[dict[str, float], float]]] = {"encode": [], "decode": []}
    data = b""
    for turn in range(repeat + 1):
        begin(f"run {turn} of {repeat}" if turn else "warm-up")
        data, encoding = _timed(backend, codec.encode, pixels)
        _, decoding = _timed(backend, codec.decode, data)
        if turn:
            runs["encode"].append(encoding)
            runs["decode"].append(decoding)
    height, width = pixels.shape[:2]
    return Benchmark(
        _timings(runs["encode"]),
        _timings(runs["decode"]),
        width,
        height,
        len(data),
        _num_symbols(codec, data),
        _peak_bytes(),
        backend.granted,
    )


def _timed(
    backend: TimedBackend, call: Callable[..., Any], argument: Any
) -> tuple[Any, tuple[dict[str, float], float]]:
    """Return what a call gives, its seconds by stage, and the share of them outside the engine."""
    backend.reset()
    clock = StageClock()
    start = time.perf_counter()
    result = call(argument, progress=clock)
    clock.stop()
    total = time.perf_counter() - start
    return result, (clock.seconds | {"total": total}, 1 - sum(backend.seconds.values()) / total)


def _num_symbols(codec: Codec, data: bytes) -> int:
    """Return how many symbols of y and z a file holds."""
    manifest, stream = codec.bundle.manifest, read(data)
    y, z = manifest.graphs["h_a"].spec.inputs["y"], manifest.graphs["h_a"].spec.outputs["z_symbols"]
    count = 0
    for cell in [stream] if stream.grid is None else stream.grid.cells:
        frame = Frame.around(cell.height, cell.width, manifest.padding)
        count += sum(math.prod(each.concrete(frame.padded_height, frame.padded_width)) for each in (y, z))
    return count


def _timings(runs: list[tuple[dict[str, float], float]]) -> Timings:
    stages = runs[0][0]
    return Timings({name: [seconds[name] for seconds, _ in runs] for name in stages}, [share for _, share in runs])


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def grouped(stages: dict[str, Any]) -> dict[str, list[str]]:
    """Return stages by the row in which a short table shows them: all steps share one."""
    rows: dict[str, list[str]] = {}
    for name in stages:
        rows.setdefault("steps" if re.fullmatch(r"step_\d+", name) else name, []).append(name)
    return rows
