"""What a bundle says about itself: graphs, tensors, steps (``docs/bundle-format.md``)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from mlic.runtime.errors import BundleError

Positions = Literal["all", "anchor", "nonanchor"]
Dim = int | str

_DIM = re.compile(r"(height|width)(?:/([1-9][0-9]*))?")


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of one graph input or output.

    Attributes:
        dtype: numpy name: ``float32``, ``float16``, ``int32``, ``int64``, ``uint8``.
        shape: integers, or ``height/16`` and the like in terms of the *padded* picture.
    """

    dtype: str
    shape: tuple[Dim, ...]

    def concrete(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape for a padded picture of ``height`` x ``width`` pixels."""
        return tuple(dim if isinstance(dim, int) else _evaluate(dim, height, width) for dim in self.shape)


@dataclass(frozen=True)
class GraphSpec:
    """One graph: its named inputs and outputs, and whether both ends must compute it alike.

    Attributes:
        name: ``g_a``, ``h_a``, ``h_s``, ``step_00``…, ``finish``, ``g_s``.
        inputs: in the order of the graph's arguments.
        outputs: in the order of the graph's results.
        exact: True on the entropy path (strict fp32), False where any precision will do.
    """

    name: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    exact: bool


@dataclass(frozen=True)
class StepSpec:
    """What lies between two uses of the entropy coder.

    Attributes:
        graph: graph whose ``scales`` and ``means`` code this step's symbols.
        channels: first and one past the last channel of y.
        positions: checkerboard half, or all positions.
    """

    graph: str
    channels: tuple[int, int]
    positions: Positions


@dataclass(frozen=True)
class GraphFile:
    """Where a graph lies in the bundle.

    Attributes:
        spec: names and shapes.
        path: relative to the bundle, with ``/``.
        sha256: of the file, lower-case hex.
        precision: ``fp32``, ``fp16``: what the file computes in.
    """

    spec: GraphSpec
    path: str
    sha256: str
    precision: str


@dataclass(frozen=True)
class Padding:
    """How a picture is brought to a multiple of ``multiple`` pixels.

    Attributes:
        multiple: of both sides.
        placement: where the picture lies in the padded one (``top-left`` or ``centre``; odd remainders go right and
            below).
        fill: what the encoder puts around it: ``zeros`` (as the official scripts do) or ``edge``. The decoder does
            not depend on it.
    """

    multiple: int
    placement: Literal["top-left", "centre"]
    fill: Literal["zeros", "edge"]


@dataclass(frozen=True)
class Manifest:
    """The parsed ``manifest.json``."""

    name: str
    architecture: str
    variant: str
    model_id: bytes
    arithmetic: str
    engine: str
    padding: Padding
    y_channels: int
    z_channels: int
    tables_path: str
    tables_sha256: str
    graphs: dict[str, GraphFile]
    steps: tuple[StepSpec, ...]
    details: dict[str, Any] = field(default_factory=dict)


def _evaluate(dim: str, height: int, width: int) -> int:
    match = _DIM.fullmatch(dim)
    if match is None:
        raise BundleError(f"dimension {dim!r} is not a number, height/N or width/N")
    size = height if match[1] == "height" else width
    return size // int(match[2] or 1)
