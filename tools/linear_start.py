"""Weights to start an MLIC++ from that already are a transform codec.

``python -m mlic.tools.linear_start PHOTOS -o OUT`` writes a checkpoint for ``--init`` of the training command.

From random weights it takes days of one CPU until the transforms keep more of a picture than a classical block
transform of as many coefficients does: 192 of 768 keep 35 dB of a detailed photo, networks after 13,000 steps kept 30.
But the networks contain that block transform, exactly on the synthesis side and nearly on the other:

- g_s: the sub-pixel skip paths alone are linear from y to the picture; all else starts small.
- g_a: GELU(x + 6) - 6 is x unless x < -3, so values of a bounded range pass through it unchanged; divisive
  normalisation with small weights is the identity. Coefficients have no bounded range: at edges they reach many
  deviations. So a rotation mixes them before the activation, which spreads a large one over all, and is undone behind.

The transform is the Karhunen-Loeve transform (principal components) of 16x16 blocks, in two stages as the widths
demand: 8x8 blocks to N coefficients, 2x2 such blocks to M. Coefficients are ordered by variance and scaled so that the
quantisation step of one is optimal at high rate: D = 3 / (2 ln 2 lambda 255^2) in values of 0..1, step^2 = 12 D
(reverse water-filling, Cover and Thomas, Elements of Information Theory, 10.3.3; uniform quantisation noise). Entropy
networks start at random, with scales that are the coefficients' standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from mlic.runtime.arrays import Array, UInt8Array
from mlic.runtime.errors import MlicError
from mlic.tools.console import reported_errors
from mlic.tools.extras import required

with required("linear_start", "export", "cpu"):
    import torch
    from torch import Tensor, nn

    from mlic.export.models.gdn import GDN, PEDESTAL
    from mlic.export.models.mlicpp import SLICE_CHANNELS, Mlicpp, MlicppWidths
    from mlic.export.models.mlicpp_transforms import ResidualBlock, ResidualBlockDown, ResidualBlockUp
    from mlic.export.official_tables import fill_tables
    from mlic.tools.training_data import RandomCrops, load_photos, tensor_from_pixels

CENTRE = 1  # tap of a 3x3 kernel that looks at its own place
SHIFT = 6.0  # GELU(x + SHIFT) - SHIFT is x, for x > -3
SMALL_SHIFT = 3.0  # enough for what may be bent a little
CONTRAST = 4.0  # brings pixels, whose deviation is about 1/4, to unit variance
GAIN = 1.5  # keeps rotated coefficients of 8x8 blocks, up to 1.7 in photos, below 3
QUIET = 0.03  # factor of a head that starts near zero
GAMMA = 1e-4  # weights of the divisive normalisation
PIXELS, MIDDLE = 3, 48  # values of one pixel, and of a 4x4 block
CROPS, CROP = 600, 128
Z_CROPS, Z_DEVIATION = 64, 2.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    photos: Annotated[Path, typer.Argument(help="Folder of pictures to take the statistics of.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Checkpoint to write.")],
    n: Annotated[int, typer.Option("--n", min=MIDDLE, help="Channels of the transforms.")] = 64,
    m: Annotated[int, typer.Option("--m", min=SLICE_CHANNELS, help="Channels of y, a multiple of 32.")] = 192,
    h_s: Annotated[tuple[int, int], typer.Option(help="Hidden widths of the hyper synthesis.")] = (96, 144),
    entropy_parameters: Annotated[tuple[int, int, int], typer.Option(help="Hidden widths.")] = (106, 85, 42),
    lrp: Annotated[tuple[int, int], typer.Option(help="Hidden widths of the latent residual prediction.")] = (40, 40),
    channel_context: Annotated[tuple[int, int], typer.Option(help="Hidden widths.")] = (64, 42),
    rate_lambda: Annotated[float, typer.Option("--lambda", help="Weight of the distortion.")] = 0.013,
    seed: Annotated[int, typer.Option(min=0, help="Of crops and random weights.")] = 1,
) -> None:
    """Write a checkpoint to train on from."""
    with reported_errors("linear_start"):
        torch.manual_seed(seed)
        model = Mlicpp(MlicppWidths(n, m, False, entropy_parameters, lrp, channel_context, h_s)).eval()
        crops = RandomCrops(load_photos(photos, CROP, 0.05)[0], CROP).batch(CROPS, np.random.default_rng(seed))
        start(model, crops, rate_lambda)
        fill_tables(model)
        torch.save({"epoch": 0, "state_dict": model.state_dict(), "loss": None}, output)


@torch.no_grad()
def start(model: Mlicpp, pixels: UInt8Array, rate_lambda: float) -> None:
    """Set a fresh model's weights in place.

    Args:
        model: with random weights, of the current variant.
        pixels: uint8 [B, H, W, 3], sides multiples of 64, to take the statistics of.
        rate_lambda: weight of the distortion that it will be trained with.

    Raises:
        MlicError: the widths have no room for the transform.
    """
    n, m = model.widths.n, model.widths.m
    if model.widths.old or n < MIDDLE or m > 4 * n:
        raise MlicError(f"no room for the transform in N {n}, M {m}; expected N of at least {MIDDLE} and M up to 4 N")
    transform = transform_of(pixels, min(n, 4 * MIDDLE), m)
    step = math.sqrt(12 * 3 / (2 * math.log(2) * rate_lambda * 255**2))
    _quieten(model)
    state = model.state_dict()  # shares the parameters' memory
    _set_analysis(state, transform, step)
    _set_synthesis(state, transform, step)
    _set_entropy(state, model.widths.num_slices, transform.large_deviations / step)
    y = model.analysis(tensor_from_pixels(pixels[:Z_CROPS], torch.device("cpu")))
    _scale_z(model, y)
    _set_residual_prediction(model, y)


class Transform(NamedTuple):
    """The two stages of the transform.

    Attributes:
        small: orthonormal columns float32 [192, n], for 8x8 blocks as ``blocks_of`` orders them, values around 0.
        large: orthonormal columns [4 n, m] for 2x2 of the first stage's results, position before coefficient.
        large_deviations: standard deviations of the coefficients, [m].
    """

    small: Tensor
    large: Tensor
    large_deviations: Tensor


def transform_of(pixels: UInt8Array, n: int, m: int) -> Transform:
    """Return the transform that keeps most of the variance of pictures.

    Args:
        pixels: uint8 [B, H, W, 3], sides multiples of 16.
        n: coefficients of an 8x8 block.
        m: coefficients of a 16x16 block.
    """
    blocks = blocks_of(pixels.astype(np.float32) / 255 - 0.5, 3)
    small = _principal(blocks, n)
    first = blocks @ small
    stacked = blocks_of(first, 1)
    large = _principal(stacked, m)
    return Transform(_tensor(small), _tensor(large), _tensor((stacked @ large).reshape(-1, m).std(axis=0)))


def blocks_of(values: Array, halvings: int) -> Array:
    """Return the values of square blocks, stacked: [B, H, W, C] to [B, H / 2^k, W / 2^k, 4^k C].

    Each halving puts the values of 2x2 neighbours behind one another: top left, top right, bottom left, bottom right.
    """
    for _ in range(halvings):
        batch, height, width, channels = values.shape
        pairs = values.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
        values = pairs.reshape(batch, height // 2, width // 2, 4 * channels)
    return values


def _principal(values: Array, count: int) -> Array:
    """Return the directions of largest power as columns, in falling order."""
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    return vectors[:, ::-1][:, :count].astype(np.float32)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _quieten(model: Mlicpp) -> None:
    """Make every residual branch silent and every normalisation nearly the identity.

    Branches end in zeros, not in small random numbers: what those add to y and to the picture is noise.
    """
    for module in [*model.g_a.modules(), *model.g_s.modules()]:
        if isinstance(module, ResidualBlock):
            _silence(module.conv2)
        elif isinstance(module, ResidualBlockUp):
            _silence(module.conv)
        elif isinstance(module, ResidualBlockDown):
            _silence(module.skip)
        elif isinstance(module, GDN):
            module.beta.fill_(math.sqrt(1 + PEDESTAL))
            module.gamma.fill_(math.sqrt(GAMMA / len(module.gamma) + PEDESTAL))


def _silence(layer: nn.Conv2d) -> None:
    assert layer.bias is not None
    layer.weight.zero_()
    layer.bias.zero_()


def _set_analysis(state: Mapping[str, Tensor], transform: Transform, step: float) -> None:
    prefix, n = "g_a.analysis_transform", transform.small.shape[1]
    _pass(state, f"{prefix}.0", torch.eye(4 * PIXELS) * CONTRAST, -0.5 * CONTRAST)
    _pass(state, f"{prefix}.2", torch.eye(MIDDLE))
    _pass(state, f"{prefix}.4", transform.small.T / CONTRAST, rotation=_rotation(n))
    state[f"{prefix}.6.weight"].zero_()
    state[f"{prefix}.6.bias"].zero_()
    state[f"{prefix}.6.weight"][:, :n, CENTRE:, CENTRE:] = _kernel(transform.large.T / step)


def _pass(
    state: Mapping[str, Tensor], block: str, matrix: Tensor, offset: float = 0.0, rotation: Tensor | None = None
) -> None:
    """Let a block compute ``matrix`` [out, 4 in] times the stacked values of 2x2 neighbours, plus ``offset``.

    Args:
        state: of the model.
        block: a ``ResidualBlockDown``.
        matrix: position before channel.
        offset: added to every result.
        rotation: orthonormal [out, out], of what passes the activation; None if the results are of bounded range.
    """
    rows, columns = len(matrix), matrix.shape[1] // 4
    for name in ("conv1.weight", "conv2.weight", "skip.weight", "skip.bias"):
        state[f"{block}.{name}"][:rows] = 0
    there = torch.eye(rows) if rotation is None else rotation * GAIN
    back = torch.linalg.inv(there)
    state[f"{block}.conv1.weight"][:rows, :columns, CENTRE:, CENTRE:] = _kernel(there @ matrix)
    state[f"{block}.conv1.bias"][:rows] = there.sum(dim=1) * offset + SHIFT
    state[f"{block}.conv2.weight"][:rows, :rows, CENTRE, CENTRE] = back
    state[f"{block}.conv2.bias"][:rows] = -SHIFT * back.sum(dim=1)


def _rotation(size: int) -> Tensor:
    """Return an orthonormal matrix without a structure that pictures could share."""
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    rotation: Tensor = torch.linalg.qr(noise).Q
    return rotation


def _kernel(matrix: Tensor) -> Tensor:
    """Return [out, in, 2, 2] from [out, 4 in], position before channel: what a stride of 2 sees of its own block."""
    return matrix.reshape(len(matrix), 2, 2, -1).permute(0, 3, 1, 2)


def _set_synthesis(state: Mapping[str, Tensor], transform: Transform, step: float) -> None:
    stack = torch.eye(MIDDLE)
    for layer, matrix in (
        ("1.upsample.0", transform.large * step),
        ("3.upsample.0", transform.small),
        ("5.upsample.0", stack),
        ("7.0", stack[: 4 * PIXELS, : 4 * PIXELS]),
    ):
        weight, bias = (state[f"g_s.synthesis_transform.{layer}.{name}"] for name in ("weight", "bias"))
        rows, columns = matrix.shape
        weight[:rows], bias[:rows] = 0, 0
        # A pixel shuffle wants the four positions of a channel together; the matrix has positions before channels.
        kernel = matrix.reshape(4, rows // 4, columns).transpose(0, 1).flatten(0, 1)
        weight[:rows, :columns, CENTRE, CENTRE] = kernel
    state["g_s.synthesis_transform.7.0.bias"] += 0.5


def _set_entropy(state: Mapping[str, Tensor], num_slices: int, deviations: Tensor) -> None:
    """Let scales begin as the deviations, and no network see values far from unit variance."""
    m, width = len(deviations), SLICE_CHANNELS
    large = deviations.clamp(min=1)[:, None, None]
    for layer in ("h_a.reduction.0", "g_s.synthesis_transform.0.conv1", "g_s.synthesis_transform.1.subpel_conv.0"):
        state[f"{layer}.weight"].div_(large)
    for i in range(num_slices):
        before, own = slice(0, width * i), slice(width * i, width * (i + 1))
        for kind in ("anchor", "nonanchor"):
            head = f"entropy_parameters_{kind}.{i}.fusion.6"
            state[f"{head}.weight"][:width] *= deviations[own, None, None, None]
            state[f"{head}.bias"][:width] = deviations[own]
            state[f"{head}.bias"][width:] = 0
            prediction = f"lrp_{kind}.{i}.lrp_transform"
            state[f"{prediction}.0.weight"][:, m:].div_(large[: width * (i + 1)])
            state[f"{prediction}.4.weight"].mul_(QUIET)
            state[f"{prediction}.4.bias"].zero_()
        if i:
            state[f"channel_context.{i}.fushion.0.weight"].div_(large[before])
            for name in ("queries", "keys", "values"):
                state[f"global_inter_context.{i}.{name}.0.weight"].div_(large[before])
                seen = own if name == "values" else slice(width * (i - 1), width * i)
                state[f"global_intra_context.{i}.{name}.0.weight"].div_(large[seen])


def _scale_z(model: Mlicpp, y: Tensor) -> None:
    """Give z a mean of zero and a standard deviation that rounding does not hide."""
    z = model.h_a(y)
    state = model.state_dict()
    factor = Z_DEVIATION / z.std(dim=(0, 2, 3))
    state["h_a.reduction.8.weight"].mul_(factor[:, None, None, None])
    state["h_a.reduction.8.bias"].sub_(z.mean(dim=(0, 2, 3))).mul_(factor)


def _set_residual_prediction(model: Mlicpp, y: Tensor) -> None:
    """Let each coefficient be moved towards zero by as much as its density falls (Sullivan 1996, centroids).

    A coefficient passes both activations on a hidden channel of its own; where the hidden layers are too narrow for
    that, nothing is predicted.
    """
    if min(model.widths.lrp) < SLICE_CHANNELS:
        return
    state, own = model.state_dict(), torch.arange(SLICE_CHANNELS)
    for i, values in enumerate(torch.split(y, SLICE_CHANNELS, dim=1)):
        rounded = torch.round(values)
        unit = rounded.std(dim=(0, 2, 3), keepdim=True).clamp(min=0.5)
        seen = rounded / unit
        slopes = ((values - rounded) * seen).mean(dim=(0, 2, 3)) / seen.square().mean(dim=(0, 2, 3)).clamp(min=1e-3)
        for kind in ("anchor", "nonanchor"):
            prefix = f"lrp_{kind}.{i}.lrp_transform"
            first, second, last = (state[f"{prefix}.{layer}.weight"] for layer in (0, 2, 4))
            offsets = [state[f"{prefix}.{layer}.bias"] for layer in (0, 2, 4)]
            first[own], second[own], last[:, own] = 0, 0, 0
            first[own, len(first[0]) - SLICE_CHANNELS + own, CENTRE, CENTRE] = 1 / unit.flatten()
            second[own, own, CENTRE, CENTRE] = 1
            last[own, own, CENTRE, CENTRE] = 2 * slopes  # behind it comes 0.5 tanh
            offsets[0][own], offsets[1][own], offsets[2][own] = SMALL_SHIFT, 0, -2 * slopes * SMALL_SHIFT


if __name__ == "__main__":
    app()
