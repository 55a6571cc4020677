"""A miniature bundle that needs onnx to be built and nothing else: five steps, six channels of y, four of z.

The transforms project 16 x 16 blocks on six patterns (the mean of each colour and three slopes) and back, so
a decoded picture looks like its original, and a mistake in geometry or colour order shows. The steps carry
the whole contract: both checkerboard halves and ``all``, state handed from step to step, symbols and means of
the step before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlic.runtime.manifest import GraphFile, GraphSpec, Manifest, Padding, Positions, StepSpec, TensorSpec, Tiling
from mlic.runtime.manifest_json import json_from_manifest
from mlic.runtime.wiring import TILED

Y_CHANNELS = 6
Z_CHANNELS = 4
HYPER = 8
SCALES = 16
GAIN = 24.0  # one unit of y is 1/24 of the range of a block's mean
TAIL = 3.0  # rows end here, in standard deviations; narrow, so that ordinary pictures escape

STEPS: Sequence[tuple[tuple[int, int], Positions]] = (
    ((0, 2), "anchor"),
    ((0, 2), "nonanchor"),
    ((2, 4), "anchor"),
    ((2, 4), "nonanchor"),
    ((4, 6), "all"),
)


def build_tiny_bundle(
    folder: Path,
    seed: int = 0,
    padding: Padding | None = None,
    name: str | None = None,
    tiling: Tiling | None = None,
) -> Path:
    """Write a bundle.

    Args:
        folder: made if it is not there.
        seed: of the weights of the entropy path; another seed gives another model_id.
        padding: default: 64, top-left, zeros.
        name: of the bundle; default: tells the seed.
        tiling: of both transforms, which need no halo; default: none, they run in one pass.

    Returns:
        ``folder``.
    """
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    np.savez(folder / "tables.npz", **_tables())
    models = {spec.name: (spec, model) for spec, model in _graphs(np.random.default_rng(seed))}
    graphs = {}
    for graph, (spec, model) in models.items():
        path = folder / "onnx" / f"{graph}.onnx"
        path.write_bytes(model)
        sha256 = hashlib.sha256(model).hexdigest()
        cut = tiling if graph in TILED else None
        graphs[graph] = GraphFile(spec, f"onnx/{graph}.onnx", sha256, "fp32", tiling=cut)
    manifest = Manifest(
        name=name or f"tiny-{seed}",
        architecture="tiny",
        variant="test",
        model_id=hashlib.sha256(f"tiny {seed}".encode()).digest()[:8],
        arithmetic="float32-syndrome",
        engine="fp32",
        padding=padding or Padding(64, "top-left", "zeros"),
        y_channels=Y_CHANNELS,
        z_channels=Z_CHANNELS,
        tables_path="tables.npz",
        tables_sha256=hashlib.sha256((folder / "tables.npz").read_bytes()).hexdigest(),
        graphs=graphs,
        steps=tuple(step_spec(index) for index in range(len(STEPS))),
        details={"widths": {"N": Z_CHANNELS, "M": Y_CHANNELS}, "provenance": {"tools": {"mlic": "tests"}}},
    )
    (folder / "manifest.json").write_text(json_from_manifest(manifest))
    return folder


def gaussian_rows(scales: Sequence[float], tail: float) -> tuple[list[np.ndarray], list[int]]:
    """Return frequencies (uint32, the escape last) and offset of a row for each scale."""
    rows, offsets = [], []
    for scale in scales:
        reach = math.ceil(scale * tail)
        edges = [math.erfc(-(symbol - 0.5) / scale / math.sqrt(2)) / 2 for symbol in range(-reach, reach + 2)]
        pmf = [*np.diff(edges), edges[0] + 1 - edges[-1]]
        frequencies = np.maximum(1, np.floor(np.array(pmf) * (1 << 24))).astype(np.int64)
        frequencies[np.argmax(frequencies)] += (1 << 24) - frequencies.sum()
        rows.append(frequencies.astype(np.uint32))
        offsets.append(-reach)
    return rows, offsets


def _tables() -> dict[str, np.ndarray]:
    scale_table = np.exp(np.linspace(math.log(0.11), math.log(24), SCALES)).astype(np.float32)
    y_rows, y_offsets = gaussian_rows(scale_table.tolist(), TAIL)
    z_rows, z_offsets = gaussian_rows([1.0 + channel for channel in range(Z_CHANNELS)], TAIL)
    return {
        "scale_table": scale_table,
        "medians": np.zeros(Z_CHANNELS, np.float32),
        **_arrays("y", y_rows, y_offsets),
        **_arrays("z", z_rows, z_offsets),
    }


def _arrays(prefix: str, rows: list[np.ndarray], offsets: list[int]) -> dict[str, np.ndarray]:
    return {
        f"{prefix}_frequencies": np.concatenate(rows),
        f"{prefix}_lengths": np.array([len(row) for row in rows], np.int32),
        f"{prefix}_offsets": np.array(offsets, np.int32),
    }


class Builder:
    """Collects the nodes and constants of one graph."""

    def __init__(self, spec: GraphSpec) -> None:
        self.spec = spec
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def op(self, kind: str, *inputs: str | np.ndarray, out: str = "", **attributes: Any) -> str:
        """Append a node; arrays among the inputs become constants. Returns the output's name."""
        names = []
        for value in inputs:
            if isinstance(value, np.ndarray):
                names.append(f"constant_{len(self.constants)}")
                self.constants[names[-1]] = value
            else:
                names.append(value)
        out = out or f"value_{len(self.nodes)}"
        name = f"{kind}_{len(self.nodes)}"  # ONNX Runtime 1.20 merges nodes without a name into namesakes
        self.nodes.append(helper.make_node(kind, names, [out], name, **attributes))
        return out

    def finish(self) -> tuple[GraphSpec, bytes]:
        graph = helper.make_graph(
            self.nodes,
            self.spec.name,
            [_value(name, tensor) for name, tensor in self.spec.inputs.items()],
            [_value(name, tensor) for name, tensor in self.spec.outputs.items()],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return self.spec, model.SerializeToString()

    def squeeze(self, values: str, positions: Positions) -> str:
        """Pack a checkerboard half: [1, C, h, w] -> [1, C, h, w/2]."""
        pairs = self.op("Reshape", values, np.array([0, 0, 0, -1, 2], np.int64))
        first, second = (self.op("Gather", pairs, np.array(k, np.int64), axis=4) for k in (0, 1))
        if positions == "anchor":
            first, second = second, first
        return self.op("Where", self._even_rows(values), first, second)

    def unsqueeze(self, packed: str, positions: Positions, dtype: type = np.float32) -> str:
        """Spread a half: [1, C, h, w/2] -> [1, C, h, w], zeros elsewhere."""
        even = self._even_rows(packed)
        zero = np.zeros((), dtype)
        columns = [self.op("Where", even, packed, zero), self.op("Where", even, zero, packed)]
        if positions == "anchor":
            columns.reverse()
        columns = [self.op("Unsqueeze", column, np.array([4], np.int64)) for column in columns]
        pairs = self.op("Concat", *columns, axis=4)
        return self.op("Reshape", pairs, np.array([0, 0, 0, -1], np.int64))

    def _even_rows(self, values: str) -> str:
        height = self.op("Shape", values, start=2, end=3)
        scalar = self.op("Squeeze", height)
        rows = self.op("Range", np.array(0, np.int64), scalar, np.array(1, np.int64))
        odd = self.op("Cast", self.op("Mod", rows, np.array(2, np.int64)), to=TensorProto.BOOL)
        return self.op("Reshape", self.op("Not", odd), np.array([1, 1, -1, 1], np.int64))


def _graphs(rng: np.random.Generator) -> list[tuple[GraphSpec, bytes]]:
    x = TensorSpec("float32", (1, 3, "height", "width"))
    y, z, hyper = latent(Y_CHANNELS, 16), latent(Z_CHANNELS, 64), latent(HYPER, 16)
    patterns = _patterns()

    g_a = Builder(GraphSpec("g_a", {"x": x}, {"y": y}, exact=False))
    g_a.op("Conv", "x", patterns * np.float32(GAIN / 256), out="y", strides=[16, 16])
    h_a = Builder(GraphSpec("h_a", {"y": y}, {"z_symbols": z}, exact=False))
    pooled = h_a.op("AveragePool", "y", kernel_shape=[4, 4], strides=[4, 4])
    mix = rng.normal(0, 0.3, (Z_CHANNELS, Y_CHANNELS, 1, 1)).astype(np.float32)
    h_a.op("Round", h_a.op("Conv", pooled, mix), out="z_symbols")
    h_s = Builder(GraphSpec("h_s", {"z_symbols": z}, {"hyper": hyper}, exact=True))
    up = rng.normal(0, 0.4, (Z_CHANNELS, HYPER, 4, 4)).astype(np.float32)
    h_s.op("ConvTranspose", "z_symbols", up, out="hyper", strides=[4, 4])
    g_s = Builder(GraphSpec("g_s", {"y_hat": y}, {"x_hat": x}, exact=False))
    g_s.op("ConvTranspose", "y_hat", patterns / np.float32(GAIN), out="x_hat", strides=[16, 16])

    builders = [g_a, h_a, h_s, *(_step(index, rng) for index in range(len(STEPS))), _finish(), g_s]
    return [builder.finish() for builder in builders]


def _step(index: int, rng: np.random.Generator) -> Builder:
    """Return a step: complete what the step before coded, look at it and at hyper, give scales and means."""
    (first, end), positions = STEPS[index]
    spec = step_spec(index)
    part = part_of(end - first, positions)
    inputs, outputs = {"hyper": latent(HYPER, 16)}, {spec.scales: part, spec.means: part}
    if index:
        inputs |= _taken(index)
        outputs[f"decoded_{index:02d}"] = latent(STEPS[index - 1][0][1], 16)
    builder = Builder(GraphSpec(spec.graph, inputs, outputs, exact=True))
    seen, seen_channels = "hyper", HYPER
    if index:
        decoded = _complete(builder, index, f"decoded_{index:02d}")
        seen = builder.op("Concat", "hyper", decoded, axis=1)
        seen_channels += STEPS[index - 1][0][1]
    for name, spread in ((spec.scales, 0.5), (spec.means, 0.3)):
        weights = rng.normal(0, spread / math.sqrt(seen_channels), (end - first, seen_channels, 3, 3))
        full = builder.op("Conv", seen, weights.astype(np.float32), pads=[1, 1, 1, 1])
        if name == spec.scales:  # around 2, at times negative as the networks' are
            full = builder.op("Add", full, np.array(2, np.float32))
        builder.op("Identity", full if positions == "all" else builder.squeeze(full, positions), out=name)
    return builder


def _finish() -> Builder:
    last = len(STEPS)
    builder = Builder(GraphSpec("finish", _taken(last), {"y_hat": latent(Y_CHANNELS, 16)}, exact=True))
    _complete(builder, last, "y_hat")
    return builder


def _taken(index: int) -> dict[str, TensorSpec]:
    """Return what completes the step before ``index``: its symbols and means, and all decoded earlier."""
    (first, end), positions = STEPS[index - 1]
    before = step_spec(index - 1)
    taken = {name: part_of(end - first, positions) for name in (before.symbols, before.means)}
    if index > 1:
        taken[f"decoded_{index - 1:02d}"] = latent(STEPS[index - 2][0][1], 16)
    return taken


def _complete(builder: Builder, index: int, out: str) -> str:
    """Append the nodes that add the step before ``index`` to what was decoded earlier."""
    (first, _), positions = STEPS[index - 1]
    before = step_spec(index - 1)
    values = builder.op("Add", before.symbols, before.means)
    if positions != "all":
        values = builder.unsqueeze(values, positions)
    if index == 1:
        return builder.op("Identity", values, out=out)
    earlier = f"decoded_{index - 1:02d}"
    if positions != "nonanchor":  # new channels
        return builder.op("Concat", earlier, values, axis=1, out=out)
    if first == 0:  # the other half of channels that are already there
        return builder.op("Add", earlier, values, out=out)
    zeros = builder.op("Mul", builder.op("Slice", earlier, *span(0, first)), np.array(0, np.float32))
    return builder.op("Add", earlier, builder.op("Concat", zeros, values, axis=1), out=out)


def span(first: int, end: int) -> list[np.ndarray]:
    """Return the arguments by which Slice takes channels."""
    return [np.array([value], np.int64) for value in (first, end, 1)]


def step_spec(index: int) -> StepSpec:
    """Return a step of the table."""
    return StepSpec(f"step_{index:02d}", *STEPS[index])


def _patterns() -> np.ndarray:
    """Return six orthogonal patterns with a sum of squares of 256: float32 [6, 3, 16, 16]."""
    slope = (np.arange(16) - 7.5) / np.sqrt(np.mean((np.arange(16) - 7.5) ** 2))
    planes = [
        np.broadcast_to(slope[:, None], (16, 16)),
        np.broadcast_to(slope, (16, 16)),
        np.outer(slope, slope),
    ]
    patterns = np.zeros((Y_CHANNELS, 3, 16, 16))
    for channel in range(3):
        patterns[channel, channel] = 1
        patterns[3 + channel] = planes[channel] / math.sqrt(3)
    return patterns.astype(np.float32)


def latent(channels: int, stride: int) -> TensorSpec:
    """Return the type of a map with one position for so many pixels."""
    return TensorSpec("float32", (1, channels, f"height/{stride}", f"width/{stride}"))


def part_of(channels: int, positions: Positions) -> TensorSpec:
    """Return the type of what a step codes."""
    return TensorSpec("float32", (1, channels, "height/16", "width/16" if positions == "all" else "width/32"))


def _value(name: str, spec: TensorSpec) -> Any:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)), spec.shape)
