"""Options that mlic-calibrate and mlic-export --engine int8 share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mlic.tools.run_options import FLAG

PSNR_LOSS, RATE_INCREASE = 0.03, 0.15  # dB and percent: together less than 1 % of the rate
PICTURES, CROP = 48, 256
BUDGET = "Precision"  # heading of --help


class Ranges(StrEnum):
    """How the range that 8 bits cover is found; keys of ``calibration.ranges.METHODS``."""

    mse = "mse"
    entropy = "entropy"
    percentile = "percentile"
    min_max = "min-max"


MaxPsnrLoss = Annotated[
    float,
    typer.Option(
        "--max-psnr-loss",
        min=0.0,
        metavar="DB",
        help="How much PSNR int8 may cost, in dB, both transforms together.",
        rich_help_panel=BUDGET,
    ),
]
MaxRateIncrease = Annotated[
    float,
    typer.Option(
        "--max-rate-increase",
        min=0.0,
        metavar="PERCENT",
        help="How much larger int8 may make files, in percent.",
        rich_help_panel=BUDGET,
    ),
]
AllLayers = Annotated[
    bool,
    typer.Option(
        "--all-layers",
        metavar=FLAG,
        help="Quantise all layers but the first and last of each transform, whatever that costs, measuring none alone.",
        rich_help_panel=BUDGET,
    ),
]
RangesOption = Annotated[
    Ranges, typer.Option("--ranges", help="How the range that 8 bits cover is found.", rich_help_panel=BUDGET)
]
Pictures = Annotated[
    int,
    typer.Option(
        "--pictures",
        min=1,
        metavar="N",
        help="Crops to calibrate with at most, one of a photo.",
        rich_help_panel=BUDGET,
    ),
]
Crop = Annotated[
    int,
    typer.Option("--crop", min=64, metavar="PIXELS", help="Height and width of a crop.", rich_help_panel=BUDGET),
]
