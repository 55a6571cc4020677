"""STF and WACNN cut into graphs.

The networks of a slice run side by side: layers that read inputs of their own are one grouped convolution. A
first layer is linear in its input channels, so what a residual prediction's first layer makes of everything
that is known before its slice is decoded is computed along with the slice's means and handed on as
``lrp_base_..``; the next graph adds the share of the 32 decoded channels. The slices past the support window
are one last step.

Measured with ONNX Runtime, fp32, one thread, h = 32, w = 48, widths of STF: behind their first layers, the 12 networks
of the last step take 215 ms grouped and 217 ms apart. First layers that read the same input are no faster as one
convolution, whose outputs must then be copied apart. The hyper latents' share of all first layers would cost 753 ms
in ``h_s`` and save 62 ms for each slice in the steps, so it gains nothing for ten times the memory.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlic.export.models.slices import SliceModel
from mlic.export.models.stf import Stf
from mlic.export.models.wacnn import Wacnn
from mlic.export.split.base import Split, Subgraph
from mlic.export.split.fold import folded
from mlic.export.split.hyper import HyperAnalysisSymbols
from mlic.runtime.manifest import GraphSpec, StepSpec, TensorSpec


def split_stf(model: Stf) -> Split:
    """Return the graphs of ``model``, which is left as it is."""
    return _split(model, ("patch_embed", "layers"), ("syn_layers", "end_conv"))


def split_wacnn(model: Wacnn) -> Split:
    """Return the graphs of ``model``, which is left as it is."""
    return _split(model, ("g_a",), ("g_s",))


def _split(model: SliceModel, analysis: Sequence[str], synthesis: Sequence[str]) -> Split:
    w = model.widths
    c = w.slice_channels
    image = TensorSpec("float32", (1, 3, "height", "width"))
    y, z = _latent(w.m), TensorSpec("float32", (1, w.n, "height/64", "width/64"))
    hyper = {"latent_means": y, "latent_scales": y}

    def graph(
        name: str,
        inputs: dict[str, TensorSpec],
        outputs: dict[str, TensorSpec],
        module: nn.Module,
        exact: bool = True,
    ) -> Subgraph:
        return Subgraph(GraphSpec(name, inputs, outputs, exact), module.eval())

    subgraphs = [
        graph("g_a", {"x": image}, {"y": y}, _Analysis(model, analysis), exact=False),
        graph(
            "h_a",
            {"y": y},
            {"z_symbols": z},
            HyperAnalysisSymbols(folded(model.h_a), model.entropy_bottleneck.medians),
            exact=False,
        ),
        graph("h_s", {"z_symbols": z}, hyper, _HyperSynthesis(model)),
    ]
    steps: list[StepSpec] = []
    before: range | None = None  # slices of the step before
    for index in range(w.support + 1):
        slices = range(index, index + 1 if index < w.support else w.num_slices)
        name = f"step_{index:02}"
        part = _latent(len(slices) * c)
        inputs, outputs = dict(hyper), {f"scales_{index:02}": part, f"means_{index:02}": part}
        if before is not None:
            inputs |= {f"y_hat_{i:02}": _latent(c) for i in range(index - 1)}
            inputs |= _decoded(model, before)
            outputs[f"y_hat_{before.start:02}"] = _latent(c)
        outputs[f"lrp_base_{index:02}"] = _latent(len(slices) * w.stack[0])
        subgraphs.append(graph(name, inputs, outputs, _Step(model, slices, before)))
        steps.append(StepSpec(name, (slices.start * c, slices.stop * c), "all"))
        before = slices
    assert before is not None
    inputs = {f"y_hat_{i:02}": _latent(c) for i in range(w.support)} | _decoded(model, before)
    subgraphs.append(graph("finish", inputs, {"y_hat": y}, _Finish(model, before)))
    subgraphs.append(graph("g_s", {"y_hat": y}, {"x_hat": image}, _Synthesis(model, synthesis), exact=False))
    return Split(tuple(subgraphs), tuple(steps))


def _latent(channels: int) -> TensorSpec:
    return TensorSpec("float32", (1, channels, "height/16", "width/16"))


def _decoded(model: SliceModel, slices: range) -> dict[str, TensorSpec]:
    """Return the inputs from which ``_Residual`` finishes ``slices``."""
    part = _latent(len(slices) * model.widths.slice_channels)
    base = _latent(len(slices) * model.widths.stack[0])
    number = f"{slices.start:02}"  # of the step, too: only the last one has several slices
    return {f"lrp_base_{number}": base, f"symbols_{number}": part, f"means_{number}": part}


class _Analysis(nn.Module):
    def __init__(self, model: SliceModel, children: Sequence[str]) -> None:
        super().__init__()
        self.model = _part(model, children)

    def forward(self, x: Tensor) -> Tensor:
        return self.model.analysis(x)


class _Synthesis(nn.Module):
    def __init__(self, model: SliceModel, children: Sequence[str]) -> None:
        super().__init__()
        self.model = _part(model, children)

    def forward(self, y_hat: Tensor) -> Tensor:
        return self.model.synthesis(y_hat)


class _HyperSynthesis(nn.Module):
    """Both hyper syntheses side by side."""

    def __init__(self, model: SliceModel) -> None:
        super().__init__()
        self.register_buffer("medians", model.entropy_bottleneck.medians.reshape(1, -1, 1, 1).clone())
        self.medians: Tensor
        means, scales = _convolutions(model.h_mean_s), _convolutions(model.h_scale_s)
        layers = [_wide([means[0], scales[0]])]
        layers += [_grouped([m, s]) for m, s in zip(means[1:], scales[1:], strict=True)]
        # Pixel shuffles leave groups of channels apart.
        shuffle, gelu = nn.PixelShuffle(2), nn.GELU()
        a, b, c, d, e = layers
        self.layers = nn.Sequential(a, gelu, b, shuffle, gelu, c, gelu, d, shuffle, gelu, e)

    def forward(self, z_symbols: Tensor) -> tuple[Tensor, Tensor]:
        latent_means, latent_scales = self.layers(z_symbols + self.medians).chunk(2, dim=1)
        return latent_means, latent_scales


class _Residual(nn.Module):
    """Finishes slices from their symbols and means: latent residual prediction."""

    def __init__(self, model: SliceModel, slices: range) -> None:
        super().__init__()
        c = model.widths.slice_channels
        stacks = [_convolutions(model.lrp_transforms[i]) for i in slices]
        self.first = _grouped([_inputs(stack[0], slice(-c, None), bias=False) for stack in stacks])
        self.rest = _side_by_side([stack[1:] for stack in stacks])

    def forward(self, base: Tensor, symbols: Tensor, means: Tensor) -> Tensor:
        decoded = symbols + means
        return decoded + 0.5 * torch.tanh(self.rest(base + self.first(decoded)))


class _Step(nn.Module):
    """Finishes the slices ``before`` and returns scales and means of ``slices``."""

    def __init__(self, model: SliceModel, slices: range, before: range | None) -> None:
        super().__init__()
        c = model.widths.slice_channels
        self.residual = None if before is None else _Residual(model, before)
        means = [_convolutions(model.cc_mean_transforms[i]) for i in slices]
        scales = [_convolutions(model.cc_scale_transforms[i]) for i in slices]
        bases = [_inputs(_convolutions(model.lrp_transforms[i])[0], slice(0, -c)) for i in slices]
        self.means_first = _wide([stack[0] for stack in means])
        self.scales_first = _wide([stack[0] for stack in scales])
        self.lrp_base = _wide(bases)
        self.rest = _side_by_side([stack[1:] for stack in scales + means])

    def forward(self, latent_means: Tensor, latent_scales: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        finished, new = list(state[:-3]), []
        if self.residual is not None:
            new = [self.residual(*state[-3:])]
        with_means = torch.cat([latent_means, *finished, *new], dim=1)
        with_scales = torch.cat([latent_scales, *finished, *new], dim=1)
        first = torch.cat([self.scales_first(with_scales), self.means_first(with_means)], dim=1)
        scales, means = self.rest(first).chunk(2, dim=1)
        return scales, means, *new, self.lrp_base(with_means)


class _Finish(nn.Module):
    def __init__(self, model: SliceModel, slices: range) -> None:
        super().__init__()
        self.residual = _Residual(model, slices)

    def forward(self, *state: Tensor) -> Tensor:
        return torch.cat([*state[:-3], self.residual(*state[-3:])], dim=1)


def _part(model: SliceModel, children: Sequence[str]) -> SliceModel:
    """Return ``model`` with only these children, folded."""
    result = copy.copy(model)
    result._modules = {name: folded(model.get_submodule(name)) for name in children}
    return result


def _convolutions(stack: nn.Module) -> list[nn.Conv2d]:
    return [module for module in stack.modules() if isinstance(module, nn.Conv2d)]


def _conv(weight: Tensor, bias: Tensor | None, groups: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution of stride 1 with these weights."""
    fan_out, fan_in = weight.shape[:2]
    layer = nn.Conv2d(fan_in * groups, fan_out, 3, padding=1, groups=groups, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def _inputs(layer: nn.Conv2d, channels: slice, bias: bool = True) -> nn.Conv2d:
    """Return the share of some input channels in ``layer``."""
    return _conv(layer.weight[:, channels], layer.bias if bias else None)


def _concatenated(layers: Sequence[nn.Conv2d], groups: int) -> nn.Conv2d:
    biases = [layer.bias for layer in layers if layer.bias is not None]
    assert len(biases) in (0, len(layers))
    return _conv(torch.cat([layer.weight for layer in layers]), torch.cat(biases) if biases else None, groups)


def _wide(layers: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Return one convolution for ``layers`` that read the same input; outputs one after another."""
    return _concatenated(layers, groups=1)


def _grouped(layers: Sequence[nn.Conv2d]) -> nn.Conv2d:
    """Return one convolution for ``layers`` that read inputs of their own, which lie one after another."""
    return _concatenated(layers, groups=len(layers))


def _side_by_side(stacks: Sequence[Sequence[nn.Conv2d]]) -> nn.Sequential:
    """Return ``stacks`` as one of grouped convolutions, each with a GELU before it."""
    layers = [_grouped(level) for level in zip(*stacks, strict=True)]
    return nn.Sequential(*(module for layer in layers for module in (nn.GELU(), layer)))
