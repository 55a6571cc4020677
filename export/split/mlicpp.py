"""MLIC++ cut into its chain of steps: slice by slice, anchors then nonanchors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlic.export.models.checkerboard import anchor_mask
from mlic.export.models.mlicpp import CHANNEL_CONTEXT, CONTEXT_CHANNELS, SLICE_CHANNELS, Mlicpp
from mlic.export.models.mlicpp_context import (
    INTRA_HEADS,
    GlobalIntraContext,
    linear_attention,
)
from mlic.export.split.base import Split, Subgraph
from mlic.export.split.checkerboard import pack, spread
from mlic.export.split.fold import folded
from mlic.export.split.hyper import HyperAnalysisSymbols
from mlic.export.split.local_attention import EVEN, ODD, PackedLocalContext, WindowGeometry
from mlic.runtime.manifest import GraphSpec, StepSpec, TensorSpec


def full(channels: int) -> TensorSpec:
    """Return the spec of a map over all positions of the latent."""
    return TensorSpec("float32", (1, channels, "height/16", "width/16"))


def packed(channels: int) -> TensorSpec:
    """Return the spec of a packed checkerboard half."""
    return TensorSpec("float32", (1, channels, "height/16", "width/32"))


class HyperState(nn.Module):
    """h_s: everything the steps take from z, and the geometry of the local windows."""

    def __init__(self, model: Mlicpp) -> None:
        super().__init__()
        self.h_s = model.h_s
        self.medians = nn.Parameter(model.entropy_bottleneck.medians.reshape(1, -1, 1, 1), requires_grad=False)
        self.m = model.widths.m
        self.geometry = WindowGeometry()

    def forward(self, z_symbols: Tensor) -> tuple[Tensor, ...]:
        """Map z_symbols [1, N, h/4, w/4] to hyper means, both packed halves of hyper, their masks and the windows."""
        hyper = self.h_s(z_symbols + self.medians)
        mask = anchor_mask(hyper)
        other = 1 - mask
        return hyper[:, self.m :], pack(hyper, mask), pack(hyper, other), mask, other, *self.geometry(hyper)


class PackedIntraContext(nn.Module):
    """``GlobalIntraContext`` at the nonanchor positions."""

    def __init__(self, source: GlobalIntraContext) -> None:
        super().__init__()
        self.source = source

    def forward(self, before: Tensor, anchors: Tensor, mask: Tensor, other: Tensor) -> Tensor:
        """Map the finished slice before and this slice's anchors, each [1, C, h, w], to packed [1, 2C, h, w/2].

        ``mask`` and ``other`` keep the anchors and the nonanchors.
        """
        _, channels, height, width = anchors.shape
        source = self.source
        heads = (1, INTRA_HEADS, channels // INTRA_HEADS, height * width // 2)
        q = pack(source.queries(before * other), other).reshape(heads)
        k = pack(source.keys(before * mask), mask).reshape(heads)
        v = pack(source.values(anchors), mask).reshape(heads)
        attended = linear_attention(q, k, v).reshape(1, channels, height, width // 2)
        projected: Tensor = source.reprojection(spread(attended, other))
        return pack(projected + source.mlp(projected), other)


class AnchorStep(nn.Module):
    """Completes the slice before (but for the first) and predicts this slice's anchors."""

    def __init__(self, model: Mlicpp, index: int) -> None:
        super().__init__()
        self.index = index
        if index:
            self.complete = CompleteSlice(model, index - 1)
            self.inter = model.at("global_inter_context", index)
            self.channel = model.at("channel_context", index)
        self.parameters_of = model.at("entropy_parameters_anchor", index)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Take the inputs that ``_anchor_spec`` lists and return its outputs."""
        if not self.index:
            params = self.parameters_of(inputs[0])
            return params[:, :SLICE_CHANNELS], params[:, SLICE_CHANNELS:]
        hyper_anchor, mask, completion = inputs[0], inputs[1], inputs[2:]
        y_hat = self.complete(*completion)
        finished = torch.cat([*completion[CompleteSlice.FIXED_INPUTS :], y_hat], dim=1)
        context = torch.cat([self.inter(finished), self.channel(finished)], dim=1)
        params = self.parameters_of(torch.cat([pack(context, mask), hyper_anchor], dim=1))
        return (
            params[:, :SLICE_CHANNELS],
            params[:, SLICE_CHANNELS:],
            y_hat,
            pack(context, completion[0]),
        )


class CompleteSlice(nn.Module):
    """Adds the nonanchors to a slice and predicts their residual (C_i)."""

    FIXED_INPUTS = 5  # mask of nonanchors, symbols, means, anchors, hyper_means; then the finished slices

    def __init__(self, model: Mlicpp, index: int) -> None:
        super().__init__()
        self.lrp = model.at("lrp_nonanchor", index)

    def forward(
        self, mask: Tensor, symbols: Tensor, means: Tensor, anchors: Tensor, hyper_means: Tensor, *finished: Tensor
    ) -> Tensor:
        """Return y_hat of the slice, [1, 32, h, w]."""
        whole = anchors + spread(symbols + means, mask)
        result: Tensor = whole + self.lrp(torch.cat([hyper_means, *finished, whole], dim=1)) * mask
        return result


class NonanchorStep(nn.Module):
    """Corrects this slice's anchors and predicts its nonanchors (B_i)."""

    def __init__(self, model: Mlicpp, index: int) -> None:
        super().__init__()
        self.index = index
        self.lrp = model.at("lrp_anchor", index)
        self.local = PackedLocalContext(model.at("local_context", index))  # type: ignore[arg-type]
        self.parameters_of = model.at("entropy_parameters_nonanchor", index)
        if index:
            self.intra = PackedIntraContext(model.at("global_intra_context", index))  # type: ignore[arg-type]

    def forward(
        self,
        symbols: Tensor,
        means: Tensor,
        hyper_means: Tensor,
        hyper_nonanchor: Tensor,
        mask: Tensor,
        window_index: Tensor,
        window_place: Tensor,
        window_inside: Tensor,
        window_excluded: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return scales, means and the slice with its anchors alone.

        ``rest``, but for the first slice: mask of the nonanchors, context, finished slices.
        """
        finished = rest[2:]
        sparse = spread(symbols + means, mask)
        lrp = self.lrp(torch.cat([hyper_means, *finished, sparse], dim=1))
        sparse = sparse + lrp * mask
        contexts = [self.local(pack(sparse, mask), window_index, window_place, window_inside, window_excluded)]
        if self.index:
            contexts += [self.intra(finished[-1], sparse, mask, rest[0]), rest[1]]
        params = self.parameters_of(torch.cat([*contexts, hyper_nonanchor], dim=1))
        return params[:, :SLICE_CHANNELS], params[:, SLICE_CHANNELS:], sparse


class Finish(nn.Module):
    """Completes the last slice and joins all of them."""

    def __init__(self, model: Mlicpp) -> None:
        super().__init__()
        self.complete = CompleteSlice(model, model.widths.num_slices - 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return y_hat [1, M, h, w]."""
        return torch.cat([*inputs[CompleteSlice.FIXED_INPUTS :], self.complete(*inputs)], dim=1)


def split_mlicpp(model: Mlicpp) -> Split:
    """Cut ``model`` into graphs; two steps a slice."""
    model = folded(model)
    widths = model.widths
    m, n, last = widths.m, widths.n, widths.num_slices - 1
    image, y = TensorSpec("float32", (1, 3, "height", "width")), full(m)
    z = TensorSpec("float32", (1, n, "height/64", "width/64"))
    hyper = {
        "hyper_means": full(m),
        "hyper_anchor": packed(2 * m),
        "hyper_nonanchor": packed(2 * m),
        "anchor_mask": full(1),
        "nonanchor_mask": full(1),
        "window_index": TensorSpec("int64", ("height/16", "width/32", len(ODD) + 1)),
        "window_place": TensorSpec("int64", ("height/16", "width/32")),
        "window_inside": TensorSpec("float32", (len(EVEN), "height/16", "width/32")),
        "window_excluded": TensorSpec("float32", (len(ODD), len(ODD), "height/16", "width/32")),
    }
    subgraphs = [
        Subgraph(GraphSpec("g_a", {"x": image}, {"y": y}, exact=False), model.g_a),
        Subgraph(
            GraphSpec("h_a", {"y": y}, {"z_symbols": z}, exact=False),
            HyperAnalysisSymbols(model.h_a, model.entropy_bottleneck.medians),
        ),
        Subgraph(GraphSpec("h_s", {"z_symbols": z}, hyper, exact=True), HyperState(model)),
    ]
    steps = []
    part, contexts = packed(SLICE_CHANNELS), packed(CONTEXT_CHANNELS + CHANNEL_CONTEXT)

    def coded(step: int) -> dict[str, TensorSpec]:
        return {f"symbols_{step:02d}": part, f"means_{step:02d}": part}

    def predicted(step: int) -> dict[str, TensorSpec]:
        return {f"scales_{step:02d}": part, f"means_{step:02d}": part}

    def completing(i: int) -> dict[str, TensorSpec]:
        """Inputs of ``CompleteSlice`` for slice ``i``."""
        coding = {"nonanchor_mask": full(1), **coded(2 * i + 1), f"anchors_{i:02d}": one_slice}
        return {**coding, "hyper_means": full(m), **finished(i)}

    def finished(i: int) -> dict[str, TensorSpec]:
        return {f"y_hat_{j:02d}": one_slice for j in range(i)}

    one_slice = full(SLICE_CHANNELS)
    for i in range(last + 1):
        anchor, nonanchor = 2 * i, 2 * i + 1
        inputs = {"hyper_anchor": hyper["hyper_anchor"]}
        outputs = predicted(anchor)
        if i:
            inputs |= {"anchor_mask": full(1), **completing(i - 1)}
            outputs |= {f"y_hat_{i - 1:02d}": one_slice, f"contexts_{i:02d}": contexts}
        subgraphs.append(_step(anchor, inputs, outputs, AnchorStep(model, i)))
        inputs = coded(anchor) | {k: v for k, v in hyper.items() if k not in {"hyper_anchor", "nonanchor_mask"}}
        if i:
            inputs |= {"nonanchor_mask": full(1), f"contexts_{i:02d}": contexts} | finished(i)
        outputs = predicted(nonanchor) | {f"anchors_{i:02d}": one_slice}
        subgraphs.append(_step(nonanchor, inputs, outputs, NonanchorStep(model, i)))
        channels = (SLICE_CHANNELS * i, SLICE_CHANNELS * (i + 1))
        steps += [
            StepSpec(f"step_{anchor:02d}", channels, "anchor"),
            StepSpec(f"step_{nonanchor:02d}", channels, "nonanchor"),
        ]
    subgraphs += [
        Subgraph(GraphSpec("finish", completing(last), {"y_hat": y}, exact=True), Finish(model)),
        Subgraph(GraphSpec("g_s", {"y_hat": y}, {"x_hat": image}, exact=False), model.g_s),
    ]
    return Split(tuple(subgraphs), tuple(steps))


def _step(number: int, inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec], module: nn.Module) -> Subgraph:
    return Subgraph(GraphSpec(f"step_{number:02d}", inputs, outputs, exact=True), module)
