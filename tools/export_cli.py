"""``mlic-export``: a checkpoint becomes a bundle."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlic.runtime.errors import MlicError
from mlic.tools.build_options import LEAST, MOST, USUAL, MaxSize, MinSize, OptSize, sizes_from
from mlic.tools.build_report import build_problem, build_rows, build_table
from mlic.tools.calibrate_cli import calibration_json, run_calibration
from mlic.tools.calibration_options import PSNR_LOSS, RATE_INCREASE, MaxPsnrLoss, MaxRateIncrease
from mlic.tools.calibration_report import layer_table
from mlic.tools.console import bytes_text, print_json, reported_errors
from mlic.tools.progress import progress_bar

if TYPE_CHECKING:
    from mlic.calibration.bundle_writer import Calibration

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
    int8 = "int8"


# What calibration begins with is a float bundle.
_FILES: dict[EngineName, Literal["fp32", "fp16", "bf16"]] = {
    EngineName.fp32: "fp32",
    EngineName.fp16: "fp16",
    EngineName.bf16: "bf16",
    EngineName.int8: "fp32",
}


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
    images: Annotated[
        list[Path] | None,
        typer.Option("--calibrate", help="For int8: photos, or folders of them; once for each.", show_default=False),
    ] = None,
    max_psnr_loss: MaxPsnrLoss = PSNR_LOSS,
    max_rate_increase: MaxRateIncrease = RATE_INCREASE,
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

    --engine int8 --calibrate PHOTOS chooses the layers that run in 8 bits within --max-psnr-loss and
    --max-rate-increase; mlic-calibrate does the same with a bundle and has more options.

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
            from mlic.export.new_folder import require_new  # noqa: PLC0415
            from mlic.export.verify import SIZES  # noqa: PLC0415
        except ImportError as error:
            raise MlicError(f"cannot import {error.name}: pip install mlic-deploy[export,cpu]") from error
        building = target is not ExportTarget.onnx
        if building:
            from mlic.export.engines import build_engines, ready_flavour  # noqa: PLC0415
            from mlic.runtime.bundle import Bundle  # noqa: PLC0415

            ready_flavour(target.value)  # what is missing is said before the minutes of work
        if (engine is EngineName.int8) != bool(images):
            raise MlicError("--engine int8 and --calibrate PHOTOS go together")
        require_new(output, force, [checkpoint])
        calibrating = _Calibrating(output, images, max_psnr_loss, max_rate_increase, name, force) if images else None
        if threads:
            torch.set_num_threads(threads)
        loaded = load_checkpoint(checkpoint, arch.value)
        count = len(loaded.architecture.split(loaded.model).subgraphs)
        with ExitStack() as stack:
            exported = stack.enter_context(calibrating.float_folder()) if calibrating else output
            with progress_bar(count * (1 + len(SIZES)), quiet) as begin:
                result = export_bundle(
                    loaded,
                    exported,
                    _FILES[engine],
                    name,
                    padding.value,
                    force,
                    lambda stage, graph: begin(f"{stage} {graph}"),
                    threads,
                    sizes,
                )
            calibration = calibrating.run(exported, threads, quiet) if calibrating else None
        builds = []
        if building:
            with progress_bar(count, quiet) as begin:
                builds = build_engines(
                    Bundle.open(output), target.value, progress=lambda graph: begin(f"build {graph}")
                )
        seconds = time.perf_counter() - start
        manifest = calibration.manifest if calibration else result.manifest
        size = calibration.size_bytes if calibration else result.size_bytes
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
                    "bytes": size,
                    "seconds": round(seconds, 1),
                    "worst_error": worst.error,
                    "worst_graph": worst.graph,
                }
                | ({"calibration": calibration_json(calibration)} if calibration else {})
                | ({"engines": build_rows(builds)} if builds else {})
            )
        elif not quiet:
            print(
                f"{output}: {loaded.architecture.title} ({manifest.variant}), model {manifest.model_id.hex()}, "
                f"{len(manifest.graphs)} graphs, {bytes_text(size)}, {manifest.engine} transforms\n"
                f"checked against PyTorch at {len(SIZES)} sizes; largest error {worst.error:.1e} ({worst.graph}); "
                f"{seconds:.0f} s"
            )
            if calibration:
                print(layer_table(calibration))
            if builds:
                print(build_table(builds))
        if problem := build_problem(builds):
            raise MlicError(f"{output}: its ONNX files are complete, its engines are not: {problem}")


class _Calibrating:
    """What follows the export where the transforms are to run in int8.

    Raises:
        MlicError: at once, if the end of it would fail: no photos, or no place for the bundle.
    """

    def __init__(
        self, output: Path, images: list[Path], psnr_loss: float, rate_increase: float, name: str | None, force: bool
    ) -> None:
        from mlic.calibration.images import photo_files  # noqa: PLC0415 - an extra
        from mlic.export.new_folder import require_new  # noqa: PLC0415

        require_new(output, force, images)
        self._files = photo_files(images)
        self._output = output
        self._limits = (psnr_loss, rate_increase)
        self._name = name
        self._force = force

    @contextmanager
    def float_folder(self) -> Iterator[Path]:
        """Give the name of a folder for the float bundle, which is gone after the block."""
        target = self._output.resolve()
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:40]}.", dir=target.parent) as folder:
            yield Path(folder) / "fp32"

    def run(self, exported: Path, threads: int | None, quiet: bool) -> Calibration:
        """Make the int8 bundle of the float one."""
        return run_calibration(
            exported,
            self._files,
            self._output,
            self._limits,
            name=self._name,
            force=self._force,
            threads=threads,
            quiet=quiet,
        )


def main() -> None:
    """Run the command line."""
    app()
