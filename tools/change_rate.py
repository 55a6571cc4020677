"""Prepare a trained MLIC++ for another rate: ``python -m mlic.tools.change_rate CHECKPOINT -o OUT``.

Another weight of the distortion wants another quantisation step, by the square root of the ratio of the two (at high
rate; Cover and Thomas, Elements of Information Theory, 10.3.3). Steps are always 1, so y is scaled instead: the last
layer of g_a up, all layers that take y down, and what predicts y up. The model then works at about the rate that
training will end at, instead of spending its first thousands of steps on the way there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mlic.runtime.errors import MlicError
from mlic.tools.console import reported_errors
from mlic.tools.extras import required

with required("change_rate", "export", "cpu"):
    import torch
    from torch import Tensor

    from mlic.export.checkpoints import load_checkpoint
    from mlic.export.models.mlicpp import SLICE_CHANNELS, Mlicpp
    from mlic.export.official_tables import fill_tables

# Parameters that grow with y, and weights of layers that take y. The first block of g_s adds a branch to y itself.
GIVES_Y = r"g_a\.analysis_transform\.6\.(weight|bias)|g_s\.synthesis_transform\.0\.conv2\.(weight|bias)"
PREDICTS_Y = r"entropy_parameters_(anchor|nonanchor)\.\d+\.fusion\.6\.(weight|bias)"
TAKES_Y = (
    r"g_s\.synthesis_transform\.(0\.conv1|1\.subpel_conv\.0|1\.upsample\.0)\.weight"
    r"|h_a\.reduction\.0\.weight|channel_context\.\d+\.fushion\.0\.weight"
    r"|global_(inter|intra)_context\.\d+\.(queries|keys|values)\.0\.weight"
)
TAKES_Y_BEHIND_MEANS = r"lrp_(anchor|nonanchor)\.\d+\.lrp_transform\.0\.weight"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    checkpoint: Annotated[Path, typer.Argument(help="Trained MLIC++.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write.")],
    before: Annotated[float, typer.Option("--from", help="Weight of the distortion that it was trained with.")],
    after: Annotated[float, typer.Option("--to", help="Weight that it will be trained with.")],
) -> None:
    """Write a checkpoint to train on from."""
    with reported_errors("change_rate"):
        if before <= 0 or after <= 0:
            raise MlicError(f"weights of the distortion are {before:g} and {after:g}; expected more than 0")
        model = load_checkpoint(checkpoint, "mlicpp").model
        assert isinstance(model, Mlicpp)
        rescale(model, (after / before) ** 0.5)
        fill_tables(model)
        torch.save({"epoch": 0, "state_dict": model.state_dict(), "loss": None}, output)


@torch.no_grad()
def rescale(model: Mlicpp, factor: float) -> None:
    """Multiply y by a factor and let everything else follow, in place.

    Exact but for the activation inside the first block of g_s and the local context's normalisation; latent residual
    predictions are fractions of a step and stay.

    Args:
        model: of the current variant.
        factor: above 0.

    Raises:
        MlicError: the model is of the old variant.
    """
    if model.widths.old:
        raise MlicError("the rate of an old MLIC++ cannot be changed; train it on")
    for name, parameter in model.named_parameters():
        if re.fullmatch(f"{GIVES_Y}|{PREDICTS_Y}", name):
            parameter.mul_(factor)
        elif re.fullmatch(TAKES_Y, name):
            parameter.div_(factor)
        elif re.fullmatch(TAKES_Y_BEHIND_MEANS, name):
            _behind_means(parameter, model.widths.m).div_(factor)


def _behind_means(weight: Tensor, m: int) -> Tensor:
    """Return the part of a first layer's weight that meets finished slices: behind the M hyper means."""
    assert (weight.shape[1] - m) % SLICE_CHANNELS == 0
    return weight[:, m:]


if __name__ == "__main__":
    app()
