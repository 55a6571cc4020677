"""Which indexes engines disagree on, for every pair of engines on this machine and in ``build/engines``.

``python -m mlic.tools.bench.agreement BUNDLE PHOTO… [--checkpoint CHECKPOINT] [--json FILE]``. All engines get the
symbols that the first one coded, so each step is compared on equal terms. Prints tables in Markdown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from mlic.runtime import Codec
from mlic.runtime.atomic import write_atomically
from mlic.runtime.backends import Backend, open_backend
from mlic.runtime.bundle import Bundle
from mlic.runtime.image_files import read_image
from mlic.tools.agreement import Scales, by_step, known, margin, overall, scales_of
from mlic.tools.console import reported_errors
from mlic.tools.engines import aarch64
from mlic.tools.engines.available import WORKERS, foreign_engines
from mlic.tools.engines.here import LEVELS, OnnxRuntimeAtLevel, engines_on_gpu
from mlic.tools.engines.worker import WorkerBackend

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Starters = dict[str, Callable[[], Backend]]


@app.command()
def agreement(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Exported in fp32.")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Pictures to encode.")],
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Of the bundle; adds PyTorch in float32 and float64.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this file.")] = None,
    emulated: Annotated[bool, typer.Option("--emulated", help="Add arm64 under QEMU, a hundred times slower.")] = False,
    only: Annotated[str, typer.Option("--only", help="Engines whose name contains this, beside the first.")] = "",
) -> None:
    """Compare engines."""
    with reported_errors("agreement"):
        opened = Bundle.open(bundle)
        starters: Starters = native_engines() | engines_on_gpu() | dict(foreign_engines())
        if emulated:
            starters |= emulated_engines()
        if checkpoint is not None:
            starters |= torch_engines(checkpoint)
        first = next(iter(starters))
        codec = Codec(opened, starters[first]())
        pictures = [known(codec, read_image(path, codec.max_pixels).pixels) for path in photos]
        found: dict[str, list[Scales]] = {}
        for name, start in starters.items():
            if only in name or name == first:
                print(name, file=sys.stderr, flush=True)
                found[name] = scales_of(Codec(opened, start()), pictures)
        row = report(opened, found) | {"bundle": opened.manifest.name, "photos": [path.name for path in photos]}
        if json_file is not None:
            write_atomically(json_file, (json.dumps(row, indent=1) + "\n").encode())
        print(as_markdown(row))


def native_engines() -> Starters:
    """Return ONNX Runtime at each level and at several numbers of threads, and OpenVINO."""
    starters: Starters = {}
    for threads in (2, 1, 4):
        starters[f"onnxruntime all, {threads} threads"] = partial(OnnxRuntimeAtLevel, "all", threads)
    for level in LEVELS:
        if level != "all":
            starters[f"onnxruntime {level}"] = partial(OnnxRuntimeAtLevel, level, 1)
    for threads in (1, 2):
        starters[f"openvino, {threads} threads"] = partial(open_backend, "openvino", threads)
    return starters


def emulated_engines() -> Starters:
    """Return ONNX Runtime on arm64, with the kernels of two processors, if that is set up."""
    if not aarch64.is_available():
        return {}
    starters: Starters = {}
    for cpu in ("cortex-a72", "max"):
        prefix, variables = aarch64.command(cpu)
        line = [*prefix, str(WORKERS / "ort_worker.py")]
        starters[f"aarch64 {cpu}"] = partial(WorkerBackend, line, f"aarch64 {cpu}", variables, {"threads": 1})
    return starters


def torch_engines(checkpoint: Path) -> Starters:
    """Return PyTorch with and without oneDNN, and in float64."""
    import torch  # noqa: PLC0415 - slow to load, needed only here

    from mlic.export.checkpoints import load_checkpoint  # noqa: PLC0415
    from mlic.tools.engines.torch_modules import TorchBackend  # noqa: PLC0415

    loaded = load_checkpoint(checkpoint)
    return {
        "torch": lambda: TorchBackend.of(loaded),
        "torch without oneDNN": lambda: TorchBackend.of(loaded, onednn=False),
        "float64": lambda: TorchBackend.of(loaded, torch.float64),
    }


def report(bundle: Bundle, found: dict[str, list[Scales]]) -> dict[str, Any]:
    """Return what differs between engines; those that are equal to the last bit count as one.

    Args:
        bundle: the model.
        found: by engine, the scales of every picture.
    """
    groups: dict[str, list[str]] = {}
    for name, scales in found.items():
        same = next((other for other in groups if _equal(found[other], scales)), name)
        groups.setdefault(same, []).append(name)
    pairs = []
    for left, right in combinations(groups, 2):
        whole = overall(bundle.entropy, found[left], found[right])
        steps = by_step(bundle.entropy, found[left], found[right])
        pairs.append(
            {"engines": [left, right], "margin": margin(bundle.entropy, found[left], found[right])}
            | asdict(whole)
            | {"flips_per_million": whole.flips_per_million, "steps": [asdict(step) for step in steps]}
        )
    count = sum(step.size for picture in next(iter(found.values())) for step in picture)
    return {"indexes": count, "equal": list(groups.values()), "pairs": pairs}


def _equal(left: list[Scales], right: list[Scales]) -> bool:
    return all(
        np.array_equal(a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True)
    )


def as_markdown(row: dict[str, Any]) -> str:
    """Return the tables."""
    names = [group[0] for group in row["equal"]]
    lines = [f"{row['bundle']}, {len(row['photos'])} photos, {row['indexes']} indexes.", ""]
    lines += [f"Equal to the last bit: {', '.join(group)}." for group in row["equal"] if len(group) > 1]
    if not row["pairs"]:
        return "\n".join(lines)
    lines += ["", "| flips per million | " + " | ".join(str(1 + place) for place in range(len(names))) + " |"]
    lines.append("| --- " * (len(names) + 1) + "|")
    cells = {frozenset(pair["engines"]): pair for pair in row["pairs"]}
    for place, name in enumerate(names):
        values = [cells.get(frozenset((name, other))) for other in names]
        texts = ["" if pair is None else f"{pair['flips_per_million']:.1f}" for pair in values]
        lines.append(f"| {place + 1} {name} | " + " | ".join(texts) + " |")
    lines += [
        "",
        f"| against {names[0]} | equal scales | mean | 99.9 % | largest | flips | margin |",
        "| --- " * 7 + "|",
    ]
    for pair in row["pairs"]:
        if pair["engines"][0] == names[0]:
            lines.append(
                f"| {pair['engines'][1]} | {100 * pair['equal']:.1f} % | {pair['mean']:.1e} | {pair['p999']:.1e} "
                f"| {pair['largest']:.1e} | {pair['flips']} | {pair['margin']:g} |"
            )
    least = min(row["pairs"], key=lambda pair: pair["margin"])
    lines += ["", f"Least margin of all pairs: {least['margin']:g}, {' and '.join(least['engines'])}."]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
