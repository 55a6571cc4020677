"""``mlic-calibrate``: a float bundle becomes one with int8 transforms, of the same model, or with an integer chain."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlic.runtime.errors import MlicError
from mlic.tools.calibration_options import (
    CROP,
    PICTURES,
    PSNR_LOSS,
    RATE_INCREASE,
    AllLayers,
    Crop,
    MaxPsnrLoss,
    MaxRateIncrease,
    Pictures,
    Ranges,
    RangesOption,
)
from mlic.tools.calibration_report import GRAPHS, int8_share, layer_rows, layer_table, write_plot
from mlic.tools.chain_calibration import Chain, ChainArithmetic, chain_json, chain_text, run_chain_calibration
from mlic.tools.chain_report import sensitivity_table, write_sensitivity_plot
from mlic.tools.console import bytes_text, print_json, reported_errors
from mlic.tools.extras import install_command
from mlic.tools.run_options import FLAG, Compress, Json, Quiet

if TYPE_CHECKING:
    from mlic.calibration.bundle_writer import Calibration
    from mlic.calibration.integer.bundle_writer import ChainCalibration

app = typer.Typer(add_completion=True, pretty_exceptions_enable=False)


# Paragraphs are one line each: newer versions of typer keep the breaks between lines.
HELP = (
    "Make a bundle's transforms run in int8, with what they lose kept within a budget.\n\n"
    "Each layer is measured alone on photos; those that cost least for the work they save run in 8 bits, as many as "
    "the limits allow. The entropy path and the model stay the same: both bundles read each other's files.\n\n"
    "With --chain integer it is the entropy path that changes, as a whole, and the transforms that stay.\n\n"
    "mlic-calibrate bundle photos/ -o bundle-int8\n\n"
    "mlic-calibrate bundle photos/ -o bundle-integer --chain integer"
)


@app.command(help=HELP)
def calibrate(
    context: typer.Context,
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Bundle with transforms, or a chain, in fp32.", show_default=False)
    ],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTOS", help="Photos, or folders of them, to calibrate with.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="BUNDLE", help="Folder of the bundle to make.", show_default=False),
    ],
    chain: Chain = ChainArithmetic.float32,
    max_psnr_loss: MaxPsnrLoss = PSNR_LOSS,
    max_rate_increase: MaxRateIncrease = RATE_INCREASE,
    all_layers: AllLayers = False,
    ranges: RangesOption = Ranges.mse,
    pictures: Pictures = PICTURES,
    crop: Crop = CROP,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="SVG file to draw with what each layer costs. With --chain integer, layers are measured for it.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the bundle; default: the folder's.", show_default=False)
    ] = None,
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
    """Calibrate as asked; see ``HELP``."""
    with reported_errors("mlic-calibrate", quiet):
        if chain is ChainArithmetic.integer:
            _refuse(context, "max_psnr_loss", "max_rate_increase", "all_layers", "ranges")
            start = time.perf_counter()
            lowered = run_chain_calibration(
                bundle, images, output, pictures, crop, name, force, threads, quiet, compress, plot is not None
            )
            seconds = time.perf_counter() - start
            if plot is not None and lowered.sensitivity is not None:
                write_sensitivity_plot(plot, lowered.manifest.name, lowered.sensitivity)
            if as_json:
                print_json(_summary(output, lowered, seconds) | chain_json(lowered))
            elif not quiet:
                if lowered.sensitivity is not None:
                    print(sensitivity_table(lowered.sensitivity))
                print(f"{output}: {chain_text(lowered)}; {seconds:.0f} s")
            return
        if plot is not None and all_layers:
            raise MlicError("--plot shows what layers cost, which --all-layers does not measure")
        start = time.perf_counter()
        result = run_calibration(
            bundle,
            images,
            output,
            None if all_layers else (max_psnr_loss, max_rate_increase),
            ranges,
            pictures,
            crop,
            name,
            force,
            threads,
            quiet,
            compress,
        )
        seconds = time.perf_counter() - start
        if plot is not None:
            write_plot(plot, result)
        if as_json:
            print_json(_summary(output, result, seconds) | calibration_json(result))
        elif not quiet:
            print(layer_table(result))
            print(
                f"{output}: model {result.manifest.model_id.hex()}, {bytes_text(result.size_bytes)}, int8 transforms; "
                f"{seconds:.0f} s"
            )


def _refuse(context: typer.Context, *names: str) -> None:
    """Complain about options that are for transforms alone."""
    sources = {name: context.get_parameter_source(name) for name in names}
    if given := [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]:
        option = f"--{given[0].replace('_', '-')}"
        raise MlicError(f"{option} is for the transforms, which --chain integer leaves as they are; leave it out")


def _summary(output: Path, result: Calibration | ChainCalibration, seconds: float) -> dict[str, Any]:
    return {
        "bundle": str(output),
        "model_id": result.manifest.model_id.hex(),
        "engine": result.manifest.engine,
        "bytes": result.size_bytes,
        "seconds": round(seconds, 1),
    }


def run_calibration(
    bundle: Path,
    images: list[Path],
    output: Path,
    limits: tuple[float, float] | None,
    ranges: Ranges = Ranges.mse,
    pictures: int = PICTURES,
    crop: int = CROP,
    name: str | None = None,
    force: bool = False,
    threads: int | None = None,
    quiet: bool = False,
    compress: bool = False,
) -> Calibration:
    """Calibrate with a progress bar.

    Args:
        bundle: folder of the fp32 bundle.
        images: photos and folders.
        output: folder to make.
        limits: of PSNR loss in dB and of the rate's increase in percent; None for all layers.
        ranges: how ranges are found.
        pictures: number of crops.
        crop: their sides in pixels.
        name: of the new bundle.
        force: replace a bundle.
        threads: default: as many as the process may use.
        quiet: no bar.
        compress: store graphs as ``.onnx.gz``.

    Returns:
        What was written.

    Raises:
        MlicError: what is missing, or what went wrong.
    """
    from mlic.runtime.backends.base import usable_cpus  # noqa: PLC0415 - not needed for --help, nor are the others
    from mlic.tools.progress import progress_bar  # noqa: PLC0415

    try:
        from mlic.calibration.bundle_writer import calibrate_bundle, num_stages  # noqa: PLC0415 - an extra
        from mlic.calibration.images import crops_of, photo_files  # noqa: PLC0415
        from mlic.calibration.sensitivity import Budget  # noqa: PLC0415
        from mlic.export.new_folder import require_new  # noqa: PLC0415
        from mlic.runtime.bundle import Bundle  # noqa: PLC0415
    except ImportError as error:
        raise MlicError(f"cannot import {error.name}: {install_command('calibrate', 'cpu')}") from error
    require_new(output, force, [bundle, *images])
    opened = Bundle.open(bundle)
    budget = None if limits is None else Budget(*limits)
    crops = crops_of(photo_files(images), pictures, crop)
    with progress_bar(num_stages(opened, budget), quiet) as begin:
        return calibrate_bundle(
            opened,
            crops,
            output,
            ranges.value,
            budget,
            name,
            force,
            threads or usable_cpus(),
            begin,
            compress,
        )


def calibration_json(result: Calibration) -> dict[str, Any]:
    """Return which layers run in int8 and what that costs, ready for JSON."""
    return {
        "int8_percent": {
            form: {graph: round(int8_share(layers, graph), 1) for graph in GRAPHS}
            for form, layers in result.layers.items()
        },
        "effects": {
            form: {"psnr_loss_db": round(effect.psnr_loss_db, 4), "rate_percent": round(effect.rate_percent, 4)}
            for form, effect in result.effects.items()
        },
        "layers": layer_rows(result),
    }


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
