"""``mlic-export``: a checkpoint becomes a bundle."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mlic.runtime.errors import MlicError
from mlic.tools.build_options import ENGINES, LEAST, MOST, USUAL, MaxSize, MinSize, OptSize, sizes_from
from mlic.tools.build_report import build_problem, build_rows, build_table
from mlic.tools.calibrate_cli import calibration_json, run_calibration
from mlic.tools.calibration_options import BUDGET, PSNR_LOSS, RATE_INCREASE, MaxPsnrLoss, MaxRateIncrease
from mlic.tools.calibration_report import layer_table
from mlic.tools.chain_calibration import Chain, ChainArithmetic, chain_json, chain_text, run_chain_calibration
from mlic.tools.console import bytes_text, print_json, reported_errors
from mlic.tools.extras import install_command
from mlic.tools.run_options import FLAG, Compress, Json, Quiet

if TYPE_CHECKING:
    from mlic.calibration.bundle_writer import Calibration
    from mlic.calibration.integer.bundle_writer import ChainCalibration
    from mlic.export.bundle_writer import Export
    from mlic.export.engines import GraphBuild

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


# Paragraphs are one line each: newer versions of typer keep the breaks between lines.
HELP = """Split a checkpoint into ONNX graphs that mlic-run encodes and decodes with.

Every graph is compared with PyTorch at four sizes; the export fails if one differs.

mlic-export checkpoint.pth -o bundle

mlic-export checkpoint.pth -o bundle --engine int8 --chain integer --calibrate photos/
"""


@app.command(help=HELP)
def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="File of torch.save: MLIC++, STF or WACNN.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="BUNDLE", help="Folder of the bundle to make.", show_default=False),
    ],
    arch: Annotated[Arch, typer.Option(help="Architecture; auto tells by the keys.")] = Arch.auto,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="Precision of g_a, h_a and g_s; the entropy path has --chain. int8 needs --calibrate and chooses "
            "layers within the two limits below; mlic-calibrate does the same with a bundle and has more options.",
            rich_help_panel=BUDGET,
        ),
    ] = EngineName.fp32,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--calibrate",
            metavar="PHOTOS",
            help="For --engine int8 and --chain integer: a photo or a folder of them; once for each.",
            rich_help_panel=BUDGET,
            show_default=False,
        ),
    ] = None,
    chain: Chain = ChainArithmetic.float32,
    max_psnr_loss: MaxPsnrLoss = PSNR_LOSS,
    max_rate_increase: MaxRateIncrease = RATE_INCREASE,
    target: Annotated[
        ExportTarget,
        typer.Option(
            help="What to build from the ONNX files, which stay beside it: nothing; engines by TensorRT, on this "
            "machine's GPU; or engines by TensorRT-RTX, which needs none.",
            rich_help_panel=ENGINES,
        ),
    ] = ExportTarget.onnx,
    least: MinSize = LEAST,
    usual: OptSize = USUAL,
    most: MaxSize = MOST,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the bundle; default: the folder's.", show_default=False)
    ] = None,
    padding: Annotated[
        Fill, typer.Option(help="What encoders put around a picture; zeros is what the official scripts do.")
    ] = Fill.zeros,
    compress: Compress = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", metavar=FLAG, help="Replace the bundle, if there is one.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="CPU threads; default: all.", show_default=False)
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export as asked; see ``HELP``."""
    sizes = sizes_from(least, usual, most)
    with reported_errors("mlic-export", quiet):
        start = time.perf_counter()
        from mlic.tools.progress import progress_bar  # noqa: PLC0415

        try:
            import torch  # noqa: PLC0415 - seconds to load, and not needed for --help

            from mlic.export.bundle_writer import export_bundle  # noqa: PLC0415
            from mlic.export.checkpoints import load_checkpoint  # noqa: PLC0415
            from mlic.export.new_folder import require_new  # noqa: PLC0415
            from mlic.export.verify import SIZES  # noqa: PLC0415
        except ImportError as error:
            raise MlicError(f"cannot import {error.name}: {install_command('export', 'cpu')}") from error
        _require_engine()  # what is missing is said before the minutes of work
        building = target is not ExportTarget.onnx
        if building:
            from mlic.export.engines import build_engines, ready_flavour  # noqa: PLC0415
            from mlic.runtime.bundle import Bundle  # noqa: PLC0415

            ready_flavour(target.value)
        limits = (max_psnr_loss, max_rate_increase) if engine is EngineName.int8 else None
        if (limits is not None or chain is ChainArithmetic.integer) != bool(images):
            raise MlicError("--engine int8 and --chain integer need --calibrate PHOTOS, and nothing else does")
        require_new(output, force, [checkpoint])
        calibrating = _Calibrating(output, images, limits, chain, name, force, compress) if images else None
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
                    compress and calibrating is None,
                )
            calibration, lowered = calibrating.run(exported, threads, quiet) if calibrating else (None, None)
        builds = []
        if building:
            with progress_bar(count, quiet) as begin:
                builds = build_engines(
                    Bundle.open(output), target.value, progress=lambda graph: begin(f"build {graph}")
                )
        seconds = time.perf_counter() - start
        if as_json:
            print_json(_row(output, result, calibration, lowered, builds, seconds))
        elif not quiet:
            _show(output, loaded.architecture.title, result, calibration, lowered, seconds)
            if builds:
                print(build_table(builds))
        if problem := build_problem(builds):
            raise MlicError(f"{output}: its ONNX files are complete, its engines are not: {problem}")


def _row(
    output: Path,
    result: Export,
    calibration: Calibration | None,
    lowered: ChainCalibration | None,
    builds: Sequence[GraphBuild],
    seconds: float,
) -> dict[str, Any]:
    """Return what was made, ready for JSON."""
    last = lowered or calibration or result
    worst = max(result.checks, key=lambda check: check.error)
    row = {
        "bundle": str(output),
        "architecture": last.manifest.architecture,
        "variant": last.manifest.variant,
        "model_id": last.manifest.model_id.hex(),
        "engine": last.manifest.engine,
        "steps": len(last.manifest.steps),
        "bytes": last.size_bytes,
        "seconds": round(seconds, 1),
        "worst_error": worst.error,
        "worst_graph": worst.graph,
    }
    row |= {"calibration": calibration_json(calibration)} if calibration else {}
    row |= {"chain": chain_json(lowered)} if lowered else {}
    return row | ({"engines": build_rows(builds)} if builds else {})


def _show(
    output: Path,
    title: str,
    result: Export,
    calibration: Calibration | None,
    lowered: ChainCalibration | None,
    seconds: float,
) -> None:
    """Print what was made, for people."""
    from mlic.export.verify import SIZES  # noqa: PLC0415 - loads torch

    last = lowered or calibration or result
    worst = max(result.checks, key=lambda check: check.error)
    print(
        f"{output}: {title} ({last.manifest.variant}), model {last.manifest.model_id.hex()}, "
        f"{len(last.manifest.graphs)} graphs, {bytes_text(last.size_bytes)}, {last.manifest.engine} transforms\n"
        f"checked against PyTorch at {len(SIZES)} sizes; largest error {worst.error:.1e} ({worst.graph}); "
        f"{seconds:.0f} s"
    )
    if calibration:
        print(layer_table(calibration))
    if lowered:
        print(chain_text(lowered))


def _require_engine() -> None:
    from mlic.runtime.backends import open_backend  # noqa: PLC0415 - not needed for --help

    open_backend("onnxruntime")  # with which the graphs are compared


class _Calibrating:
    """What follows the export where transforms or chain are to run in integers.

    Args:
        output: folder of the bundle.
        images: photos and folders.
        limits: of int8 transforms, as in ``run_calibration``; None for transforms as exported.
        chain: arithmetic of the entropy path.
        name: of the bundle.
        force: replace a bundle.
        compress: store graphs as ``.onnx.gz``.

    Raises:
        MlicError: at once, if the end of it would fail: no photos, or no place for the bundle.
    """

    def __init__(
        self,
        output: Path,
        images: list[Path],
        limits: tuple[float, float] | None,
        chain: ChainArithmetic,
        name: str | None,
        force: bool,
        compress: bool,
    ) -> None:
        from mlic.calibration.images import photo_files  # noqa: PLC0415 - an extra
        from mlic.export.new_folder import require_new  # noqa: PLC0415

        require_new(output, force, images)
        self._files = photo_files(images)
        self._output, self._name, self._force = output, name or output.resolve().name, force
        self._limits, self._chain, self._compress = limits, chain, compress

    @contextmanager
    def float_folder(self) -> Iterator[Path]:
        """Give the name of a folder for the float bundle, which is gone after the block."""
        target = self._output.resolve()
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:40]}.", dir=target.parent) as folder:
            yield Path(folder) / "fp32"

    def run(
        self, exported: Path, threads: int | None, quiet: bool
    ) -> tuple[Calibration | None, ChainCalibration | None]:
        """Make the bundle of the float one: first its transforms, then its chain."""
        calibration, lowered, source = None, None, exported
        common: dict[str, Any] = {"name": self._name, "threads": threads, "quiet": quiet}
        is_integer = self._chain is ChainArithmetic.integer
        if self._limits is not None:
            target = exported.with_name("int8") if is_integer else self._output
            if not is_integer:
                common |= {"force": self._force, "compress": self._compress}
            calibration = run_calibration(source, self._files, target, self._limits, **common)
            source = target
        if is_integer:
            common |= {"force": self._force, "compress": self._compress}
            lowered = run_chain_calibration(source, self._files, self._output, **common)
        return calibration, lowered


def main() -> None:
    """Run the command line."""
    app()
