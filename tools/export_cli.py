"""``mlic-export``: a checkpoint becomes a bundle."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlic.runtime.errors import MlicError
from mlic.tools.build_options import LEAST, MOST, USUAL, MaxSize, MinSize, OptSize, sizes_from
from mlic.tools.build_report import build_problem, build_rows, build_table
from mlic.tools.console import bytes_text, print_json, reported_errors
from mlic.tools.progress import progress_bar

app = typer.Typer(add_completion=True, pretty_exceptions_enable=False)


class Arch(StrEnum):
    """Architectures, and ``auto`` to tell by the checkpoint's keys."""

    auto = "auto"
    mlicpp = "mlicpp"
    stf = "stf"
    wacnn = "wacnn"


class EngineName(StrEnum):
    """Precision of the transforms."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class ExportTarget(StrEnum):
    """What is made beside the ONNX files; ``build_options.Target`` and no engines."""

    onnx = "onnx"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


class Fill(StrEnum):
    """What lies around a padded picture."""

    zeros = "zeros"
    edge = "edge"


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="File of torch.save: MLIC++, STF or WACNN.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the bundle to make.", show_default=False)],
    arch: Annotated[Arch, typer.Option(help="Architecture; auto tells by the keys.")] = Arch.auto,
    engine: Annotated[
        EngineName, typer.Option(help="Precision of g_a, h_a and g_s; the entropy path is always fp32.")
    ] = EngineName.fp32,
    target: Annotated[
        ExportTarget, typer.Option(help="What to build from the ONNX files, which stay beside it.")
    ] = ExportTarget.onnx,
    least: MinSize = LEAST,
    usual: OptSize = USUAL,
    most: MaxSize = MOST,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle; default: the folder's.", show_default=False)
    ] = None,
    padding: Annotated[
        Fill, typer.Option(help="What encoders put around a picture; zeros is what the official scripts do.")
    ] = Fill.zeros,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle of that name.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Split a checkpoint into ONNX graphs that mlic-run encodes and decodes with.

    Every graph is compared with PyTorch at four sizes; the export fails if one differs.

    With --target tensorrt, engines are built from them too, by TensorRT on this machine's GPU or by TensorRT-RTX, which
    needs none.
    """
    sizes = sizes_from(least, usual, most)
    with reported_errors("mlic-export", quiet):
        start = time.perf_counter()
        try:
            import torch  # noqa: PLC0415 - seconds to load, and not needed for --help

            from mlic.export.bundle_writer import export_bundle  # noqa: PLC0415
            from mlic.export.checkpoints import load_checkpoint  # noqa: PLC0415
            from mlic.export.verify import SIZES  # noqa: PLC0415
        except ImportError as error:
            raise MlicError(f"cannot import {error.name}: pip install mlic-deploy[export,cpu]") from error
        building = target is not ExportTarget.onnx
        if building:
            from mlic.export.engines import build_engines, ready_flavour  # noqa: PLC0415
            from mlic.runtime.bundle import Bundle  # noqa: PLC0415

            ready_flavour(target.value)  # what is missing is said before the minutes of work
        if threads:
            torch.set_num_threads(threads)
        loaded = load_checkpoint(checkpoint, arch.value)
        count = len(loaded.architecture.split(loaded.model).subgraphs)
        with progress_bar(count * (1 + len(SIZES) + building), quiet) as begin:
            result = export_bundle(
                loaded,
                output,
                engine.value,
                name,
                padding.value,
                force,
                lambda stage, graph: begin(f"{stage} {graph}"),
                threads,
                sizes,
            )
            builds = []
            if building:
                builds = build_engines(
                    Bundle.open(output), target.value, progress=lambda graph: begin(f"build {graph}")
                )
        seconds = time.perf_counter() - start
        manifest = result.manifest
        worst = max(result.checks, key=lambda check: check.error)
        if as_json:
            print_json(
                {
                    "bundle": str(output),
                    "architecture": manifest.architecture,
                    "variant": manifest.variant,
                    "model_id": manifest.model_id.hex(),
                    "engine": manifest.engine,
                    "steps": len(manifest.steps),
                    "bytes": result.size_bytes,
                    "seconds": round(seconds, 1),
                    "worst_error": worst.error,
                    "worst_graph": worst.graph,
                }
                | ({"engines": build_rows(builds)} if builds else {})
            )
        elif not quiet:
            print(
                f"{output}: {loaded.architecture.title} ({manifest.variant}), model {manifest.model_id.hex()}, "
                f"{len(manifest.graphs)} graphs, {bytes_text(result.size_bytes)}, {manifest.engine} transforms\n"
                f"checked against PyTorch at {len(SIZES)} sizes; largest error {worst.error:.1e} ({worst.graph}); "
                f"{seconds:.0f} s"
            )
            if builds:
                print(build_table(builds))
        if problem := build_problem(builds):
            raise MlicError(f"{output}: its ONNX files are complete, its engines are not: {problem}")


def main() -> None:
    """Run the command line."""
    app()
