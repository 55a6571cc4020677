"""What a bundle says about itself: graphs, tensors, steps (``docs/bundle-format.md``).

``manifest_json.py`` reads and writes it, ``wiring.py`` checks that its graphs and steps fit together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from mlic.runtime.errors import BundleError

Positions = Literal["all", "anchor", "nonanchor"]
Dim = int | str

FORMAT = "mlic-bundle"
FORMAT_VERSION = 1
DTYPES = ("float32", "float16", "int32", "int64", "uint8", "int8")

_DIM = re.compile(r"(height|width)(?:/([1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class TensorSpec:
    """Type and shape of one graph input or output.

    Attributes:
        dtype: numpy name: ``float32``, ``float16``, ``int32``, ``int64``, ``uint8``, ``int8``.
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
        exact: True on the entropy path (strict fp32, or integers), False where any precision will do.
    """

    name: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    exact: bool


@dataclass(frozen=True)
class StepSpec:
    """What lies between two uses of the entropy coder.

    Attributes:
        graph: ``step_NN``, the graph whose ``scales_NN``, or ``indexes_NN``, and ``means_NN`` code this step's
            ``symbols_NN``.
        channels: first and one past the last channel of y.
        positions: checkerboard half, or all positions.
    """

    graph: str
    channels: tuple[int, int]
    positions: Positions

    @property
    def scales(self) -> str:
        """Name of this step's standard deviations in the state."""
        return self.graph.replace("step", "scales")

    @property
    def means(self) -> str:
        """Name of this step's means in the state."""
        return self.graph.replace("step", "means")

    @property
    def symbols(self) -> str:
        """Name under which later graphs take this step's symbols."""
        return self.graph.replace("step", "symbols")


@dataclass(frozen=True)
class GraphForm:
    """One of the files that hold a graph.

    Attributes:
        path: relative to the bundle, with ``/``.
        sha256: of the file, lower-case hex.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Tiling:
    """How a graph may be run over parts of a picture; all in pixels of the padded picture.

    Attributes:
        multiple: where edges of tiles inside the picture may lie.
        halo: how much more is computed on every side of a tile that is not the edge of the picture; a multiple of
            ``multiple``.
    """

    multiple: int
    halo: int


@dataclass(frozen=True)
class GraphFile:
    """Where a graph lies in the bundle.

    A quantised graph may lie there in two forms, because engines want it differently. ONNX Runtime computes in 8 bits
    where activations are uint8 and quantised at the inputs and the outputs of convolutions: that is the plain form.
    TensorRT takes nothing but symmetric int8, quantised at the inputs alone, and OpenVINO needs it for transposed
    convolutions.

    Attributes:
        spec: names and shapes.
        path: of the plain form, relative to the bundle, with ``/``.
        sha256: of that file, lower-case hex.
        precision: ``fp32``, ``fp16``: what the file computes in; ``bf16``: a file in fp32 that engines may run in
            bfloat16; ``int8``: convolutions in 8 bits by QuantizeLinear and DequantizeLinear, the rest in fp32.
        symmetric: the form with symmetric activations, if there is one.
        tiling: how the graph may be run over tiles; None where it has to run in one pass.
    """

    spec: GraphSpec
    path: str
    sha256: str
    precision: str
    symmetric: GraphForm | None = None
    tiling: Tiling | None = None

    @property
    def forms(self) -> tuple[GraphForm, ...]:
        """All files of the graph, the plain one first."""
        plain = GraphForm(self.path, self.sha256)
        return (plain,) if self.symmetric is None else (plain, self.symmetric)

    def symmetric_or_plain(self) -> GraphFile:
        """Return the entry as if the symmetric form were its only one; unchanged where it has none.

        On the entropy path it stays plain whatever a manifest says: there all engines must compute the same.
        """
        if self.symmetric is None or self.spec.exact:
            return self
        return replace(self, path=self.symmetric.path, sha256=self.symmetric.sha256, symmetric=None)


@dataclass(frozen=True)
class Padding:
    """How a picture is brought to a multiple of ``multiple`` pixels.

    Attributes:
        multiple: of both sides.
        placement: where the picture lies in the padded one (``top-left`` or ``centre``; odd remainders go
            right and below).
        fill: what the encoder puts around it: ``zeros`` (as the official scripts do) or ``edge``. The decoder
            does not depend on it.
    """

    multiple: int
    placement: Literal["top-left", "centre"]
    fill: Literal["zeros", "edge"]


@dataclass(frozen=True)
class SizeRange:
    """Sizes of pictures that built engines are for, each (height, width) in pixels.

    Attributes:
        min: the least height and the least width.
        opt: what engines are tuned for.
        max: the largest height and the largest width.
    """

    min: tuple[int, int] = (64, 64)
    opt: tuple[int, int] = (512, 768)
    max: tuple[int, int] = (4096, 4096)

    def problem(self) -> str | None:
        """Return what is wrong with the range, or None."""
        for side, values in zip(("height", "width"), zip(self.min, self.opt, self.max, strict=True), strict=True):
            if not 1 <= values[0] <= values[1] <= values[2]:
                return "{} has min {}, opt {}, max {}; expected 1 <= min <= opt <= max".format(side, *values)
        return None

    def padded(self, multiple: int) -> SizeRange:
        """Return the range with every side rounded up to a multiple of ``multiple``, as pictures are padded."""

        def up(size: tuple[int, int]) -> tuple[int, int]:
            return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple

        return SizeRange(up(self.min), up(self.opt), up(self.max))


DEFAULT_SIZES = SizeRange()


@dataclass(frozen=True)
class CertificateFile:
    """Where a bundle's certificate lies (``certificate.py``).

    Attributes:
        path: relative to the bundle, with ``/``.
        sha256: of the file, lower-case hex.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The parsed ``manifest.json``.

    Attributes:
        name: of the bundle, for people.
        architecture: ``mlicpp``, ``stf``, ``wacnn`` or another; the runtime does not look at it.
        variant: of the architecture.
        model_id: 8 bytes; what both ends must share.
        arithmetic: of the entropy path, as ``container.ARITHMETICS`` names it.
        engine: precision of the transforms, as asked at export.
        padding: how pictures are brought to whole latents.
        y_channels: M.
        z_channels: N.
        tables_path: relative to the bundle.
        tables_sha256: of that file, lower-case hex.
        graphs: by name.
        steps: in coding order.
        sizes: of pictures that built engines are for; the default where the file names none.
        certificate: by which engines prove that they compute the entropy path; None where it is in floats.
        details: everything else that the file holds: ``widths``, ``provenance`` and keys of later versions.
    """

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
    sizes: SizeRange = DEFAULT_SIZES
    certificate: CertificateFile | None = None
    details: dict[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=256)  # every array of every graph asks, hundreds of times a picture, for the same few
def parse_dim(dim: str) -> tuple[Literal["height", "width"], int]:
    """Return the side of the padded picture that a dimension follows, and by what the side is divided.

    Raises:
        BundleError: ``dim`` is not ``height``, ``width``, ``height/N`` or ``width/N``.
    """
    match = _DIM.fullmatch(dim)
    if match is None:
        raise BundleError(f"dimension {dim!r:.40} is not a number, height/N or width/N")
    return ("height" if match[1] == "height" else "width"), int(match[2] or 1)


def _evaluate(dim: str, height: int, width: int) -> int:
    side, divisor = parse_dim(dim)
    return (height if side == "height" else width) // divisor
