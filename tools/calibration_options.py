"""Options that mlic-calibrate and mlic-export --engine int8 share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

PSNR_LOSS, RATE_INCREASE = 0.03, 0.15  # dB and percent: together less than 1 % of the rate
PICTURES, CROP = 48, 256


class Ranges(StrEnum):
    """How the range that 8 bits cover is found; keys of ``calibration.ranges.METHODS``."""

    mse = "mse"
    entropy = "entropy"
    percentile = "percentile"
    min_max = "min-max"


MaxPsnrLoss = Annotated[
    float,
    typer.Option("--max-psnr-loss", min=0.0, help="Of both transforms together, in dB; layers are chosen for it."),
]
MaxRateIncrease = Annotated[
    float, typer.Option("--max-rate-increase", min=0.0, help="Of the files, in percent; layers are chosen for it.")
]
AllLayers = Annotated[
    bool,
    typer.Option(
        "--all-layers", help="Quantise all layers but the first and last of each, whatever they cost; measures little."
    ),
]
RangesOption = Annotated[Ranges, typer.Option("--ranges", help="How the range that 8 bits cover is found.")]
Pictures = Annotated[int, typer.Option("--pictures", min=1, help="Crops to take, one of a photo.")]
Crop = Annotated[int, typer.Option("--crop", min=64, help="Their height and width in pixels.")]
