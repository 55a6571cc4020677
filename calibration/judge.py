"""What replacing a transform costs: PSNR and bits over a set of pictures, the entropy path unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from mlic.calibration.observe import session
from mlic.runtime.arrays import Array, Float32Array, Tensors, UInt8Array
from mlic.runtime.backends.base import Graph
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.codec import Codec
from mlic.runtime.entropy_model import FrequencyTables
from mlic.runtime.image import Frame, pixels_from_x_hat, x_from_pixels
from mlic.runtime.manifest import GraphFile, GraphSpec

PRECISION_BITS = 24  # frequencies of a row sum to 2^24


@dataclass(frozen=True)
class Quality:
    """How a pair of transforms does.

    Attributes:
        psnr_db: mean over the pictures of 10 log10 (255² / mean squared error).
        bits: of all pictures, by the coder's tables.
    """

    psnr_db: float
    bits: float


@dataclass(frozen=True)
class Effect:
    """What other transforms change.

    Attributes:
        psnr_loss_db: PSNR before less PSNR after.
        rate_percent: bits after over bits before, less one, in percent.
    """

    psnr_loss_db: float
    rate_percent: float


def effect(before: Quality, after: Quality) -> Effect:
    """Return what changed."""
    return Effect(before.psnr_db - after.psnr_db, 100 * (after.bits / before.bits - 1))


class Judge:
    """Runs a bundle with transforms replaced.

    Args:
        bundle: the float one.
        pictures: uint8 [H, W, 3] each.
        threads: of each graph.

    Attributes:
        x: what g_a takes, float32 [1, 3, padded height, padded width] for each picture.
        y_hat: what g_s takes, float32 [1, M, h, w] each, with the float g_a.
    """

    def __init__(self, bundle: Bundle, pictures: Sequence[UInt8Array], threads: int) -> None:
        self._threads = threads
        self._backend = _SwitchingBackend(OnnxRuntimeBackend(threads))
        self._codec = Codec(bundle, self._backend)
        self._pictures = pictures
        padding = bundle.manifest.padding
        self._frames = [Frame.around(pixels.shape[0], pixels.shape[1], padding) for pixels in pictures]
        self.x = [x_from_pixels(*both, padding) for both in zip(pictures, self._frames, strict=True)]
        self.y_hat, self._bits = self._latents()
        float_g_s = onnx.load_from_string(bundle.read_graph(bundle.manifest.graphs["g_s"]))
        self._synthesis = session(float_g_s, threads)
        self.before = Quality(self._psnr(self.y_hat, self._synthesis), self._bits)

    def measure(self, g_a: onnx.ModelProto | None = None, g_s: onnx.ModelProto | None = None) -> Effect:
        """Return the effect of replacing one transform or both."""
        y_hat, bits = self.y_hat, self._bits
        if g_a is not None:
            with self._backend.analysis.replaced(session(g_a, self._threads)):
                y_hat, bits = self._latents()
        synthesis = self._synthesis if g_s is None else session(g_s, self._threads)
        return effect(self.before, Quality(self._psnr(y_hat, synthesis), bits))

    def _latents(self) -> tuple[list[Float32Array], float]:
        """Return y_hat of every picture, and the bits of all."""
        traces = [self._codec.trace(pixels) for pixels in self._pictures]
        return [trace["y_hat"] for trace in traces], sum(self._bits_of(trace) for trace in traces)

    def _psnr(self, y_hat: Sequence[Float32Array], synthesis: onnxruntime.InferenceSession) -> float:
        found = []
        for latents, frame, pixels in zip(y_hat, self._frames, self._pictures, strict=True):
            decoded = pixels_from_x_hat(synthesis.run(["x_hat"], {"y_hat": latents})[0], frame)
            error = float(np.mean((decoded.astype(np.float64) - pixels) ** 2))
            found.append(10 * np.log10(255**2 / max(error, 1e-10)))
        return float(np.mean(found))

    def _bits_of(self, trace: dict[str, Any]) -> float:
        entropy = self._codec.bundle.entropy
        z_symbols = trace["z_symbols"]
        rows = np.broadcast_to(np.arange(z_symbols.shape[1])[:, None, None], z_symbols.shape[1:])
        bits = bits_of(entropy.z, z_symbols, rows)
        return bits + sum(bits_of(entropy.y, *both) for both in zip(trace["symbols"], trace["indexes"], strict=True))


class _SwitchingBackend:
    """An engine whose g_a can be replaced for a while."""

    def __init__(self, backend: OnnxRuntimeBackend) -> None:
        self._backend = backend
        self.analysis = _SwitchingGraph()

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def granted(self) -> str:
        return self._backend.granted

    def open(self, path: Path, graph: GraphFile) -> Graph:
        opened = self._backend.open(path, graph)
        if graph.spec.name != "g_a":
            return opened
        self.analysis.original = opened
        return self.analysis


class _SwitchingGraph:
    original: Graph
    _other: onnxruntime.InferenceSession | None = None

    @property
    def spec(self) -> GraphSpec:
        return self.original.spec

    def run(self, inputs: Tensors) -> dict[str, Array]:
        if self._other is None:
            return self.original.run(inputs)
        return {"y": self._other.run(["y"], {"x": inputs["x"]})[0]}

    @contextmanager
    def replaced(self, other: onnxruntime.InferenceSession) -> Iterator[None]:
        self._other = other
        try:
            yield
        finally:
            self._other = None


def bits_of(tables: FrequencyTables, symbols: Array, rows: Array) -> float:
    """Return what coding symbols takes: 24 - log2 of each frequency, and about 2 log2 for what escapes."""
    flat = np.ascontiguousarray(rows, np.int64).reshape(-1)
    slots, raws = tables.slots_from_symbols(np.ascontiguousarray(symbols, np.int32).reshape(-1), flat)
    frequencies = tables.frequencies[tables.starts[flat] + slots]
    escapes = 2 * np.log2(raws + 1.0) + 1
    return float((PRECISION_BITS - np.log2(frequencies)).sum() + escapes.sum())
