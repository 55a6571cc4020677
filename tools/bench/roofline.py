"""How near each graph comes to what the processor can do: ``python -m mlic.tools.bench.roofline BUNDLE IMAGE``."""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from mlic.runtime import Codec
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.tools.bench.operators import GraphProfile, read_profile
from mlic.tools.console import reported_errors
from mlic.tools.extras import required

with required("roofline", "calibrate", "cpu"):
    import onnx

PEAK_SIDE = 2048  # of the square matrices whose product may be the machine's peak
PEAK_RUNS = 9

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class ProfilingBackend(OnnxRuntimeBackend):
    """ONNX Runtime that records every node of every graph.

    Args:
        threads: of each graph.
        folder: for the records.
    """

    def __init__(self, threads: int, folder: Path) -> None:
        super().__init__(threads)
        self._folder = folder
        self._sessions: dict[str, Any] = {}

    def open_session(self, source: str | bytes, name: str) -> Any:
        """Return a session that writes a profile."""
        session = super().open_session(source, name)
        self._sessions[name] = session
        return session

    def options(self) -> Any:
        """Return the usual options, with profiling."""
        options = super().options()
        options.enable_profiling = True
        options.profile_file_prefix = str(self._folder / f"{len(self._sessions):03}")
        return options

    def profiles(self) -> dict[str, GraphProfile]:
        """End the recording and return what each graph did."""
        return {name: read_profile(Path(session.end_profiling())) for name, session in self._sessions.items()}


@app.command()
def main(
    bundle: Annotated[Path, typer.Argument(help="What to measure.")],
    image: Annotated[Path, typer.Argument(help="Picture to encode and decode.")],
    threads: Annotated[int, typer.Option(min=1, help="For each graph.")] = 2,
    repeat: Annotated[int, typer.Option(min=1, help="Counted runs; one more before them is not.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print operations, times and the share of this machine's peak, graph by graph."""
    with reported_errors("roofline"):
        with Image.open(image) as opened:
            pixels = np.asarray(opened.convert("RGB"))
        profiles = profiled(bundle, pixels, threads, repeat)
        peak = measured_peak(threads)
        rows = [row(name, profile, peak) for name, profile in profiles.items()]
        print(json.dumps({"peak_gflops": peak, "graphs": rows}) if as_json else text(rows, peak))


def profiled(bundle: Path, pixels: Any, threads: int, repeat: int) -> dict[str, GraphProfile]:
    """Encode and decode a picture, and return what each graph did in one run, in running order."""
    with tempfile.TemporaryDirectory() as folder:
        backend = ProfilingBackend(threads, Path(folder))
        codec = Codec.load(bundle, backend)
        for _ in range(repeat + 1):
            codec.decode(codec.encode(pixels))
        found = backend.profiles()
    return {name: found[name] for name in codec.bundle.manifest.graphs}


def measured_peak(threads: int, side: int = PEAK_SIDE) -> float:
    """Return the most float32 GFLOP/s that the engine reaches.

    The better of a product of two square matrices and a dense 3x3 convolution: which of them comes nearer to the
    processor's limit differs between processors.

    Args:
        threads: of the engine.
        side: of the matrices; the convolution has an eighth as many channels.
    """
    channels = side // 8
    rows = max(16, side**3 // (9 * channels**2 * side))
    image = (1, channels, rows, side)
    product = _best_seconds(threads, "MatMul", (side, side), (side, side))
    convolution = _best_seconds(threads, "Conv", image, (channels, channels, 3, 3), pads=[1, 1, 1, 1])
    return max(2 * side**3 / product, 2 * 9 * channels * math.prod(image) / convolution) / 1e9


def _best_seconds(
    threads: int, kind: str, inputs: tuple[int, ...], weights: tuple[int, ...], **attributes: Any
) -> float:
    """Return the shortest time of one operator on constant weights."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (inputs, weights))
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, ["x", "w"], ["y"], **attributes)],
        "peak",
        [info("x", onnx.TensorProto.FLOAT, x.shape)],
        [info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    session = OnnxRuntimeBackend(threads).open_session(model.SerializeToString(), "peak")
    times = []
    for _ in range(PEAK_RUNS):
        start = time.perf_counter()
        session.run(None, {"x": x})
        times.append(time.perf_counter() - start)
    return min(times)


def row(name: str, profile: GraphProfile, peak: float) -> dict[str, Any]:
    """Return one graph's figures; ``operators_percent`` are the three kinds of operators that took longest."""
    seconds = profile.total_seconds
    longest = sorted(profile.seconds.items(), key=lambda item: -item[1])[:3]
    return {
        "graph": name,
        "nodes": profile.nodes,
        "gflop": round(profile.flops / 1e9, 3),
        "ms": round(1000 * seconds, 3),
        "gflops": round(profile.flops / 1e9 / seconds, 1),
        "peak_percent": round(100 * profile.flops / 1e9 / seconds / peak, 1),
        "operators_percent": {kind: round(100 * spent / seconds, 1) for kind, spent in longest},
    }


def text(rows: list[dict[str, Any]], peak: float) -> str:
    """Return a Markdown table."""
    lines = [
        f"Peak {peak:.0f} GFLOP/s (best of a matrix product and a 3x3 convolution).",
        "",
        "| graph | nodes | GFLOP | ms | GFLOP/s | share of peak | most time in |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in rows:
        kinds = ", ".join(f"{kind} {share:.0f} %" for kind, share in entry["operators_percent"].items())
        lines.append(
            f"| `{entry['graph']}` | {entry['nodes']} | {entry['gflop']:.2f} | {entry['ms']:.1f} | "
            f"{entry['gflops']:.0f} | {entry['peak_percent']:.0f} % | {kinds} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    app()
