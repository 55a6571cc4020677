"""MLIC++ (Jiang et al. 2023), with the keys of its official checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mlic.export.models.checkerboard import anchor_mask
from mlic.export.models.entropy_bottleneck import EntropyBottleneck
from mlic.export.models.forward import Forward
from mlic.export.models.gaussian import GaussianConditional
from mlic.export.models.mlicpp_context import (
    ChannelContext,
    EntropyParameters,
    GlobalInterContext,
    GlobalIntraContext,
    LatentResidualPrediction,
    LocalContext,
)
from mlic.export.models.mlicpp_transforms import (
    AnalysisTransform,
    HyperAnalysis,
    HyperSynthesis,
    SynthesisTransform,
)
from mlic.export.models.rounding import quantize_ste

SLICE_CHANNELS = 32
MAX_M = 50 * SLICE_CHANNELS  # two steps a slice, and a step's number has two digits
CONTEXT_CHANNELS = 64  # of each of the local, inter and intra contexts
CHANNEL_CONTEXT = 128


@dataclass(frozen=True)
class MlicppWidths:
    """Everything that sizes an MLIC++.

    Attributes:
        n: channels of the transforms and of z.
        m: channels of y; a multiple of 32, one slice per 32.
        old: latent residual prediction and synthesis of the checkpoints of 2023-09.
        entropy_parameters: hidden widths of the 1x1 networks.
        lrp: hidden widths of the latent residual prediction; the old variant derives its own.
        channel_context: hidden widths.
        h_s: hidden widths; None for M and 3/2 M.
    """

    n: int = 192
    m: int = 320
    old: bool = False
    entropy_parameters: tuple[int, int, int] = (320, 256, 128)
    lrp: tuple[int, int] = (224, 128)
    channel_context: tuple[int, int] = (192, 128)
    h_s: tuple[int, int] | None = None

    @property
    def num_slices(self) -> int:
        """Slices of 32 channels in y."""
        return self.m // SLICE_CHANNELS

    def lrp_widths(self, index: int) -> tuple[int, ...]:
        """Return the channels from input to output of the latent residual prediction of slice ``index``."""
        fan_in = self.m + SLICE_CHANNELS * (index + 1)
        if not self.old:
            return (fan_in, *self.lrp, SLICE_CHANNELS)
        drop = fan_in - SLICE_CHANNELS
        return (fan_in, *(fan_in - drop * quarter // 4 for quarter in (1, 2, 3)), SLICE_CHANNELS)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> MlicppWidths:
        """Read the widths off the shapes of a checkpoint with official keys; the official ones where keys miss."""

        def fan_out(key: str, default: int) -> int:
            found = state.get(f"{key}.weight", state.get(f"{key}.bias"))
            return default if found is None else found.shape[0]

        m = fan_out("g_a.analysis_transform.6", cls.m)
        ep = "entropy_parameters_anchor.0.fusion"
        lrp = "lrp_anchor.0.lrp_transform"
        h_s = (fan_out("h_s.increase.0", m), fan_out("h_s.increase.4", m * 3 // 2))
        old = f"{lrp}.6.weight" in state
        return cls(
            n=fan_out("g_a.analysis_transform.0.conv1", cls.n),
            m=m,
            old=old,
            entropy_parameters=(
                fan_out(f"{ep}.0", cls.entropy_parameters[0]),
                fan_out(f"{ep}.2", cls.entropy_parameters[1]),
                fan_out(f"{ep}.4", cls.entropy_parameters[2]),
            ),
            lrp=cls.lrp if old else (fan_out(f"{lrp}.0", cls.lrp[0]), fan_out(f"{lrp}.2", cls.lrp[1])),
            channel_context=(
                fan_out("channel_context.1.fushion.0", cls.channel_context[0]),
                fan_out("channel_context.1.fushion.2", cls.channel_context[1]),
            ),
            h_s=None if h_s == (m, m * 3 // 2) else h_s,
        )


class Mlicpp(nn.Module):
    """The whole model, for training, for checking and to be cut into graphs."""

    def __init__(self, widths: MlicppWidths | None = None) -> None:
        super().__init__()
        self.widths = w = widths or MlicppWidths()
        if w.m % SLICE_CHANNELS or not SLICE_CHANNELS <= w.m <= MAX_M:
            raise ValueError(f"M is {w.m}; expected a multiple of {SLICE_CHANNELS} up to {MAX_M}")
        self.g_a = AnalysisTransform(w.n, w.m)
        self.g_s = SynthesisTransform(w.n, w.m, w.old)
        self.h_a = HyperAnalysis(w.n, w.m)
        self.h_s = HyperSynthesis(w.n, w.m, w.h_s)
        self.entropy_bottleneck = EntropyBottleneck(w.n)
        self.gaussian_conditional = GaussianConditional()
        first, later = range(w.num_slices), range(1, w.num_slices)

        def by_slice(modules: Mapping[int, nn.Module]) -> nn.Module:
            # Modules that the first slice does not have keep their slice's number, so names start at 1.
            holder = nn.Module()
            for index, module in modules.items():
                holder.add_module(str(index), module)
            return holder

        self.local_context = by_slice({i: LocalContext(SLICE_CHANNELS) for i in first})
        self.channel_context = by_slice(
            {i: ChannelContext(SLICE_CHANNELS * i, w.channel_context, CHANNEL_CONTEXT) for i in later}
        )
        self.global_inter_context = by_slice(
            {i: GlobalInterContext(SLICE_CHANNELS * i, CONTEXT_CHANNELS) for i in later}
        )
        self.global_intra_context = by_slice({i: GlobalIntraContext(SLICE_CHANNELS) for i in later})
        before = CONTEXT_CHANNELS + CHANNEL_CONTEXT  # inter and channel contexts
        self.entropy_parameters_anchor = by_slice({i: self._entropy_parameters(before if i else 0) for i in first})
        self.entropy_parameters_nonanchor = by_slice(
            {i: self._entropy_parameters(CONTEXT_CHANNELS * (2 if i else 1) + (before if i else 0)) for i in first}
        )
        self.lrp_anchor = by_slice({i: LatentResidualPrediction(w.lrp_widths(i)) for i in first})
        self.lrp_nonanchor = by_slice({i: LatentResidualPrediction(w.lrp_widths(i)) for i in first})

    def _entropy_parameters(self, contexts: int) -> EntropyParameters:
        w = self.widths
        return EntropyParameters(contexts + 2 * w.m, w.entropy_parameters, 2 * SLICE_CHANNELS)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Mlicpp:
        """Return a model of the widths of ``state``, without its values."""
        return cls(MlicppWidths.from_state_dict(state))

    def at(self, name: str, index: int) -> nn.Module:
        """Return the module ``name`` of slice ``index``."""
        return self.get_submodule(f"{name}.{index}")

    def analysis(self, x: Tensor) -> Tensor:
        """Map a picture float32 [B, 3, H, W] to y [B, M, H/16, W/16]."""
        y: Tensor = self.g_a(x)
        return y

    def synthesis(self, y_hat: Tensor) -> Tensor:
        """Map y_hat [B, M, H/16, W/16] to x_hat [B, 3, H, W], not clipped."""
        x_hat: Tensor = self.g_s(y_hat)
        return x_hat

    def forward(self, x: Tensor, noise: bool = False) -> Forward:
        """Run encoder and decoder without the entropy coder.

        Args:
            x: float32 [B, 3, H, W] in 0..1, H and W multiples of 64.
            noise: take likelihoods at values with uniform noise (training) instead of at rounded ones.

        Returns:
            All arrays of the pass; likelihoods of both latents.
        """
        coded = self.code(self.analysis(x), noise)
        return replace(coded, x_hat=self.synthesis(coded.y_hat))

    def code(self, y: Tensor, noise: bool = False) -> Forward:
        """Run what lies between analysis and synthesis.

        Args:
            y: float32 [B, M, h, w], h and w multiples of 4.
            noise: as in ``forward``.

        Returns:
            All arrays of the pass but ``x_hat``, which is empty.
        """
        z = self.h_a(y)
        z_hat, z_likelihoods = self.entropy_bottleneck(z, noise)
        hyper = self.h_s(z_hat)
        finished: list[Tensor] = []
        params: list[Tensor] = []
        for i, y_slice in enumerate(torch.split(y, SLICE_CHANNELS, dim=1)):
            y_hat, slice_params = self.slice(i, y_slice, hyper, finished)
            finished.append(y_hat)
            params.append(slice_params)
        scales = torch.cat([p[:, :SLICE_CHANNELS] for p in params], dim=1)
        means = torch.cat([p[:, SLICE_CHANNELS:] for p in params], dim=1)
        y_hat = torch.cat(finished, dim=1)
        noisy = y + torch.empty_like(y).uniform_(-0.5, 0.5) if noise else quantize_ste(y - means) + means
        likelihoods = self.gaussian_conditional(noisy, scales, means)
        nothing = y.new_empty(0)
        return Forward(nothing, y, z, z_hat, y_hat, scales, means, likelihoods, z_likelihoods)

    def slice(self, i: int, y: Tensor, hyper: Tensor, finished: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return y_hat of slice ``i`` and its merged scales and means [B, 64, h, w]."""
        anchors = anchor_mask(y)
        hyper_means = hyper[:, self.widths.m :]
        before = []
        if i:
            support = torch.cat(finished, dim=1)
            before = [self.at("global_inter_context", i)(support), self.at("channel_context", i)(support)]

        params_a = self.at("entropy_parameters_anchor", i)(torch.cat([*before, hyper], dim=1))
        means_a = params_a[:, SLICE_CHANNELS:]
        half = (quantize_ste(y - means_a) + means_a) * anchors
        lrp = self.at("lrp_anchor", i)(torch.cat([hyper_means, *finished, half], dim=1))
        half = half + lrp * anchors

        contexts = [self.at("local_context", i)(half)]
        if i:
            contexts.append(self.at("global_intra_context", i)(finished[-1], half))
        params_n = self.at("entropy_parameters_nonanchor", i)(torch.cat([*contexts, *before, hyper], dim=1))
        means_n = params_n[:, SLICE_CHANNELS:]
        whole = half + (quantize_ste(y - means_n) + means_n) * (1 - anchors)
        lrp = self.at("lrp_nonanchor", i)(torch.cat([hyper_means, *finished, whole], dim=1))
        return whole + lrp * (1 - anchors), params_a * anchors + params_n * (1 - anchors)
