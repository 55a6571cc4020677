"""The table of architectures: how to recognise one, build it from a checkpoint, and cut it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from mlic.export.models.mlicpp import Mlicpp
from mlic.export.models.stf import Stf
from mlic.export.models.wacnn import Wacnn
from mlic.export.split.base import Split
from mlic.export.split.mlicpp import split_mlicpp
from mlic.export.split.slices import split_stf, split_wacnn


@dataclass(frozen=True)
class Architecture:
    """What the exporter knows of one family of models.

    Attributes:
        name: as in ``--arch`` and in the manifest.
        title: as people write it.
        signature: keys that every checkpoint of it has and no other family has together.
        build: makes a model of the widths of a state dict, without its values.
        split: cuts a model into graphs.
        transforms: key prefixes of what both ends need not share: analysis, synthesis, hyper analysis.
        placement: where the official scripts put the picture in the padded one.
        legacy: key prefixes that old checkpoints carry and no model uses.
    """

    name: str
    title: str
    signature: tuple[str, ...]
    build: Callable[[Mapping[str, Tensor]], nn.Module]
    split: Callable[[Any], Split]
    transforms: tuple[str, ...]
    placement: Literal["top-left", "centre"]
    legacy: tuple[str, ...] = ()


ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            name="mlicpp",
            title="MLIC++",
            signature=("g_a.analysis_transform.0.conv1.weight", "lrp_anchor.0.lrp_transform.0.weight"),
            build=Mlicpp.from_state_dict,
            split=split_mlicpp,
            transforms=("g_a.", "g_s.", "h_a."),
            placement="top-left",
        ),
        Architecture(
            name="stf",
            title="STF",
            signature=("patch_embed.proj.weight", "cc_mean_transforms.0.0.weight"),
            build=Stf.from_state_dict,
            split=split_stf,
            transforms=("patch_embed.", "layers.", "syn_layers.", "end_conv.", "h_a."),
            placement="centre",
            legacy=("h_s.",),
        ),
        Architecture(
            name="wacnn",
            title="WACNN",
            signature=("g_a.0.weight", "cc_mean_transforms.0.0.weight"),
            build=Wacnn.from_state_dict,
            split=split_wacnn,
            transforms=("g_a.", "g_s.", "h_a."),
            placement="centre",
            legacy=("h_s.",),
        ),
    )
}


def recognise(keys: Mapping[str, Any]) -> Architecture | None:
    """Return the architecture whose signature ``keys`` contains, or None."""
    for architecture in ARCHITECTURES.values():
        if all(key in keys for key in architecture.signature):
            return architecture
    return None
