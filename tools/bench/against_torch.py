"""The runtime against the same weights run eagerly in PyTorch: ``python -m mlic.tools.bench.against_torch``.

Two processes, one with PyTorch and one with the runtime, take turns on the same picture, so that a machine that drifts
drifts under both. PyTorch runs the networks only; the runtime does the whole job, from pixels to the bytes of a file
and back. The *chain* is what decoding takes beside the synthesis.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.choices import BACKENDS

PAUSE_S = 0.3  # lets one engine's spinning threads go to sleep before the other's turn


def main(
    checkpoint: Annotated[Path, typer.Argument(help="What the bundle was made from.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle of the same weights.")],
    image: Annotated[Path, typer.Argument(help="Picture with sides that are multiples of 64.")],
    threads: Annotated[int, typer.Option(help="For each engine.")] = 2,
    backend: Annotated[str, typer.Option(help=f"Engine of the runtime: {', '.join(BACKENDS)}.")] = "auto",
    device: Annotated[str, typer.Option(help="Where PyTorch computes: cpu, or cuda for the GPU.")] = "cpu",
    repeat: Annotated[int, typer.Option(help="Counted runs of each; one more to warm up is not.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print medians in milliseconds, ranges and ratios."""
    with Image.open(image) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    runs: dict[str, list[float]] = {}
    context = multiprocessing.get_context("spawn")
    workers = []
    for serve, arguments in (
        (_serve_torch, (checkpoint, pixels, threads, device)),
        (_serve_runtime, (bundle, pixels, threads, backend)),
    ):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, *arguments), daemon=True)
        process.start()
        theirs.close()  # the worker's end is its own now: if it dies, our end says so
        workers.append((process, ours))
    for turn in range(repeat + 1):
        for _, pipe in workers:
            try:
                pipe.send("run")
                result = pipe.recv()
            except (EOFError, BrokenPipeError):
                raise SystemExit("a worker failed; its error stands above") from None
            for name, value in result.items():
                if turn:
                    runs.setdefault(name, []).append(value)
            time.sleep(PAUSE_S)
    for process, pipe in workers:
        pipe.send("stop")
        process.join()
    print(json.dumps(summary(runs)) if as_json else text(summary(runs)))


def summary(runs: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return ``median``, ``min`` and ``max`` of each series, and the paired ratios PyTorch / runtime."""
    series = dict(runs)
    for job in ("encode", "decode", "chain"):
        pairs = zip(runs[f"torch {job}"], runs[f"mlic {job}"], strict=True)
        series[f"ratio {job}"] = [theirs / ours for theirs, ours in pairs]
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in series.items()
    }


def text(rows: dict[str, dict[str, float]]) -> str:
    """Return a table."""
    lines = [f"{'':<24}{'median':>10}{'min':>10}{'max':>10}"]
    for name, row in rows.items():
        unit = "x" if name.startswith("ratio") else "%" if name.endswith("share") else "ms"
        values = "".join(f"{row[key]:>10.2f}" if unit != "ms" else f"{row[key]:>10.0f}" for key in row)
        lines.append(f"{name:<24}{values} {unit}")
    return "\n".join(lines)


def _serve_torch(pipe: Connection, checkpoint: Path, pixels: UInt8Array, threads: int, device: str) -> None:
    import torch  # noqa: PLC0415 - in this process alone

    from mlic.export.checkpoints import load_checkpoint  # noqa: PLC0415
    from mlic.tools.bench import eager  # noqa: PLC0415

    torch.set_num_threads(threads)
    model: Any = load_checkpoint(checkpoint).model.to(device)
    x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float().div(255).contiguous().to(device)

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize(device)  # calls return before the GPU has done what they ask for
        return time.perf_counter()

    with torch.no_grad():
        while pipe.recv() == "run":
            start = now()
            y, z_hat = eager.encode(model, x)
            middle = now()
            y_hat = eager.latent(model, y, z_hat)
            chain = now()
            model.synthesis(y_hat)
            end = now()
            spent = {"encode": middle - start, "decode": end - middle, "chain": chain - middle}
            pipe.send({f"torch {job}": 1000 * seconds for job, seconds in spent.items()})


def _serve_runtime(pipe: Connection, bundle: Path, pixels: UInt8Array, threads: int, engine: str) -> None:
    from mlic.runtime import Codec  # noqa: PLC0415 - in this process alone
    from mlic.runtime.backends import open_backend  # noqa: PLC0415
    from mlic.tools.bench.timed import TimedBackend  # noqa: PLC0415

    backend = TimedBackend(open_backend(engine, threads))
    codec = Codec.load(bundle, backend)

    def timed(job: str, call: Any, argument: Any) -> tuple[Any, dict[str, float]]:
        backend.reset()
        start = time.perf_counter()
        result = call(argument)
        total = time.perf_counter() - start
        outside = total - sum(backend.seconds.values())
        return result, {f"mlic {job}": 1000 * total, f"mlic {job} outside share": 100 * outside / total}

    while pipe.recv() == "run":
        data, encoding = timed("encode", codec.encode, pixels)
        _, decoding = timed("decode", codec.decode, data)
        # What decoding takes beside the synthesis: the entropy coder and the container count as the chain's.
        chain = decoding["mlic decode"] - 1000 * backend.seconds["g_s"]
        pipe.send(encoding | decoding | {"mlic chain": chain})


if __name__ == "__main__":
    typer.run(main)
