"""Give a trained MLIC++ more latent channels: ``python -m mlic.tools.widen CHECKPOINT PHOTOS -o OUT --m 192``.

What a transform with M channels can keep of a block of 16x16 pixels is bounded by M, whatever the rate. Training a
wider model from the start wastes what the narrow one has learned; this keeps all of it. Old channels, old slices and
their networks stay as they are, and the decoder starts blind to the new channels. The new analysis filters are fitted
to what the old model loses: the directions of its residual that its last features predict best (reduced-rank
regression, Izenman 1975).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional

from mlic.export.checkpoints import load_checkpoint
from mlic.export.models.mlicpp import SLICE_CHANNELS, Mlicpp
from mlic.export.official_tables import fill_tables
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.errors import MlicError
from mlic.tools.console import reported_errors
from mlic.tools.trainer import tensor_from_pixels
from mlic.tools.training_data import RandomCrops, load_photos

BLOCK = 16  # pixels a side that one position of y stands for
NEW_SCALE = 1.0  # standard deviation of new channels before training: rounding would hide smaller ones
FIT_CROPS, FIT_SIZE = 400, 192

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    checkpoint: Annotated[Path, typer.Argument(help="MLIC++ to widen.")],
    photos: Annotated[Path, typer.Argument(help="Folder of pictures to fit the new filters to.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write.")],
    m: Annotated[int, typer.Option("--m", min=2 * SLICE_CHANNELS, help="Channels of y, a multiple of 32.")] = 192,
    lrp: Annotated[tuple[int, int], typer.Option(help="Hidden widths of the latent residual prediction.")] = (32, 24),
    seed: Annotated[int, typer.Option(min=0, help="Of crops and new random weights.")] = 1,
) -> None:
    """Write a checkpoint with M channels of y that does what CHECKPOINT does, ready to be trained on."""
    with reported_errors("widen"):
        narrow = load_checkpoint(checkpoint, "mlicpp").model.eval()
        assert isinstance(narrow, Mlicpp)
        torch.manual_seed(seed)
        wide = widened(narrow, m, lrp)
        crops = RandomCrops(load_photos(photos, FIT_SIZE, 0.05)[0], FIT_SIZE)
        share = fit_new_filters(wide, narrow, crops.batch(FIT_CROPS, np.random.default_rng(seed)))
        fill_tables(wide)
        torch.save({"epoch": 0, "state_dict": wide.state_dict(), "loss": None}, output)
        print(f"{output}: M {narrow.widths.m} to {m}; the new filters predict {share:.1%} of what was lost")


def widened(narrow: Mlicpp, m: int, lrp: tuple[int, int]) -> Mlicpp:
    """Return a model with ``m`` channels of y that holds the weights of ``narrow``; new slices are appended to y.

    Networks of old slices and the decoder ignore new channels at first. The latent residual predictions start anew and
    predict zero, in every slice.

    Args:
        narrow: trained model, of the current variant.
        m: channels of y; a multiple of 32, more than there are.
        lrp: hidden widths of the latent residual prediction.

    Raises:
        MlicError: ``m`` does not widen, or the model is of the old variant.
    """
    before = narrow.widths
    if before.old or m <= before.m or m % SLICE_CHANNELS:
        raise MlicError(f"cannot widen M from {before.m} to {m}; expected a multiple of 32 above it, current variant")
    h_s = before.h_s or (before.m, before.m * 3 // 2)
    wide = Mlicpp(replace(before, m=m, lrp=lrp, h_s=h_s))
    state = wide.state_dict()
    for name, old in narrow.named_parameters():
        if name.startswith("lrp_"):
            continue
        new = state[name]
        places = [_places(a, b, before.m, m) for a, b in zip(old.shape, new.shape, strict=True)]
        if new.ndim > 1 and len(places[1]) < new.shape[1]:
            new[places[0]] = 0  # old outputs do not hear new inputs
        new[np.ix_(*places)] = old
    for name in state:
        if name.startswith("lrp_") and ".lrp_transform.4." in name:
            state[name].zero_()
        kind, index, *layer = name.split(".")
        if (
            kind.startswith("entropy_parameters_")
            and layer == ["fusion", "6", "bias"]
            and int(index) >= before.num_slices
        ):
            state[name][:SLICE_CHANNELS] = NEW_SCALE
    wide.load_state_dict(state)
    return wide.eval()


def _places(old: int, new: int, old_m: int, new_m: int) -> list[int]:
    """Return where the channels of an axis lie in the widened axis.

    An axis grows by the new channels of y at its end, or by twice as many where it ends in the scales and means of y.
    """
    if new - old == 2 * (new_m - old_m):
        means = old - old_m
        return [*range(means), *range(new - new_m, new - new_m + old_m)]
    return list(range(old))


@torch.no_grad()
def fit_new_filters(wide: Mlicpp, narrow: Mlicpp, pixels: UInt8Array) -> float:
    """Point the new analysis filters at what ``narrow`` loses.

    They span the subspace of its residual blocks that the last features of g_a predict best in the sense of least
    squares, and have unit variance.

    Args:
        wide: changed in place: weights and biases of new outputs of the last layer of g_a.
        narrow: the model before.
        pixels: uint8 [B, H, W, 3], H and W multiples of 64.

    Returns:
        Share of the residual's energy that the new filters predict, 0..1.
    """
    size = 9 * wide.widths.n + 1
    covariance = torch.zeros(size, size, dtype=torch.float64)
    cross = torch.zeros(3 * BLOCK**2, size, dtype=torch.float64)
    energy = 0.0
    layers = list(narrow.g_a.analysis_transform)
    for picture in pixels:
        x = tensor_from_pixels(picture[None], torch.device("cpu"))
        features = x
        for layer in layers[:-1]:
            features = layer(features)
        residual = x - narrow.synthesis(layers[-1](features))
        blocks = functional.pixel_unshuffle(residual, BLOCK)[0].flatten(1).double()
        windows = functional.unfold(features, 3, padding=1, stride=2)[0]
        inputs = torch.cat([windows, torch.ones(1, windows.shape[1])]).double()
        covariance += inputs @ inputs.T
        cross += blocks @ inputs.T
        energy += float((blocks**2).sum())
    ridge = 1e-6 * torch.eye(size) * covariance.trace() / size
    predictor = torch.linalg.solve(covariance + ridge, cross.T).T  # blocks from features
    power, directions = torch.linalg.eigh(predictor @ covariance @ predictor.T)
    old_m = narrow.widths.m
    count = wide.widths.m - old_m
    deviations = (power[-count:] / covariance[-1, -1]).sqrt()  # the last input is 1: its power counts the blocks
    filters: Tensor = (NEW_SCALE * (directions[:, -count:] / deviations).flip(1).T @ predictor).float()
    last = wide.g_a.analysis_transform[-1]
    assert isinstance(last, nn.Conv2d)
    last.weight[old_m:] = filters[:, :-1].reshape(count, -1, 3, 3)
    assert last.bias is not None
    last.bias[old_m:] = filters[:, -1]
    return float(power[-count:].sum()) / energy


if __name__ == "__main__":
    app()
