"""The exact integer chain from the command line: options, progress and what comes out, shared by two commands."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlic.runtime.errors import MlicError
from mlic.tools.calibration_options import BUDGET, CROP, PICTURES
from mlic.tools.chain_report import sensitivity_json
from mlic.tools.console import bytes_text
from mlic.tools.extras import install_command

if TYPE_CHECKING:
    from mlic.calibration.integer.bundle_writer import ChainCalibration


class ChainArithmetic(StrEnum):
    """Arithmetic of the entropy path."""

    float32 = "float32"
    integer = "integer"


Chain = Annotated[
    ChainArithmetic,
    typer.Option(
        "--chain",
        help="Arithmetic of the entropy path. integer is equal on every machine and faster; it is another model, with "
        "files of its own, and leaves the transforms as they are.",
        rich_help_panel=BUDGET,
    ),
]


def run_chain_calibration(
    bundle: Path,
    images: Sequence[Path],
    output: Path,
    pictures: int = PICTURES,
    crop: int = CROP,
    name: str | None = None,
    force: bool = False,
    threads: int | None = None,
    quiet: bool = False,
    compress: bool = False,
    with_layers: bool = False,
) -> ChainCalibration:
    """Give a bundle an integer chain, with a progress bar.

    Args:
        bundle: folder of a bundle with a float chain.
        images: photos and folders.
        output: folder to make.
        pictures: number of crops.
        crop: their sides in pixels.
        name: of the new bundle.
        force: replace a bundle.
        threads: default: as many as the process may use.
        quiet: no bar.
        compress: store graphs as ``.onnx.gz``.
        with_layers: measure what each layer costs.

    Raises:
        MlicError: what is missing, or what went wrong.
    """
    from mlic.runtime.backends.base import usable_cpus  # noqa: PLC0415 - not needed for --help, nor are the others
    from mlic.tools.progress import progress_bar  # noqa: PLC0415

    try:
        from mlic.calibration.images import crops_of, photo_files  # noqa: PLC0415 - an extra
        from mlic.calibration.integer.bundle_writer import calibrate_chain, num_stages  # noqa: PLC0415
        from mlic.export.new_folder import require_new  # noqa: PLC0415
        from mlic.runtime.bundle import Bundle  # noqa: PLC0415
    except ImportError as error:
        raise MlicError(f"cannot import {error.name}: {install_command('calibrate', 'cpu')}") from error
    require_new(output, force, [bundle, *images])
    crops = crops_of(photo_files(images), pictures, crop)
    opened = Bundle.open(bundle)
    with progress_bar(num_stages(opened, with_layers), quiet) as begin:
        return calibrate_chain(
            opened, crops, output, name, force, threads or usable_cpus(), begin, compress, with_layers
        )


def chain_json(result: ChainCalibration) -> dict[str, Any]:
    """Return what the integers cost on the photos of calibration, ready for JSON."""
    costs = {} if result.sensitivity is None else sensitivity_json(result.sensitivity)
    return {
        "arithmetic": result.manifest.arithmetic,
        "rate_percent": round(result.effect.rate_percent, 4),
        "psnr_loss_db": round(result.effect.psnr_loss_db, 4),
    } | costs


def chain_text(result: ChainCalibration) -> str:
    """Return one line for people."""
    return (
        f"integer chain, model {result.manifest.model_id.hex()}, {bytes_text(result.size_bytes)}; on the photos of "
        f"calibration {result.effect.rate_percent:+.2f} % bytes and {-result.effect.psnr_loss_db:+.3f} dB"
    )
