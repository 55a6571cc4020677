"""What ``mlic-run verify`` checks, on this machine's engine and without PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlic.runtime import Codec
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.backends import Backend
from mlic.runtime.choices import MAX_PIXELS
from mlic.runtime.errors import MlicError
from mlic.tools.build_report import build_problem, build_table
from mlic.tools.certificate import PairReport, certify, table
from mlic.tools.console import bytes_text
from mlic.tools.engines.here import engines_here
from mlic.tools.extras import install_command

if TYPE_CHECKING:
    from mlic.export.engines import GraphBuild

Starters = dict[str, Callable[[], Backend]]

ROUND_TRIPS = ((1, 1), (64, 64), (100, 150), (256, 192))  # height and width of the pictures


@dataclass(frozen=True)
class GraphReport:
    """Whether one graph loads.

    Attributes:
        name: of the graph.
        precision: that its file computes in.
        file_bytes: of the ONNX file.
        load_ms: until the engine was ready to run it, milliseconds.
        problem: what the engine said, or None.
    """

    name: str
    precision: str
    file_bytes: int
    load_ms: float
    problem: str | None


@dataclass(frozen=True)
class RoundTripReport:
    """Whether one picture came back.

    Attributes:
        height: in pixels.
        width: in pixels.
        file_bytes: of its ``.mlic`` file.
        problem: what differed or failed, or None.
    """

    height: int
    width: int
    file_bytes: int
    problem: str | None


@dataclass(frozen=True)
class ProofReport:
    """Whether the engine computes an integer bundle's entropy path as its certificate says.

    Attributes:
        cases: of the certificate.
        ms: that all of them took, milliseconds.
        problem: what differed or failed, or None.
    """

    cases: int
    ms: float
    problem: str | None


@dataclass(frozen=True)
class Verification:
    """All that was checked.

    Attributes:
        model: what ``Codec.info`` says.
        graphs: one row a graph.
        round_trips: one row a picture; empty if a graph did not load.
        engines: one row for each engine that reads another's files; empty if that was not asked for.
        builds: one row a graph that was built; empty if that was not asked for.
        proof: of an integer bundle whose graphs load; None otherwise.
    """

    model: dict[str, Any]
    graphs: list[GraphReport]
    round_trips: list[RoundTripReport]
    engines: list[PairReport] = field(default_factory=list)
    builds: list[GraphBuild] = field(default_factory=list)
    proof: ProofReport | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return self.problem() is None

    def problem(self) -> str | None:
        """Return the first thing that was wrong."""
        rows = [(f"graph {g.name}", g.problem) for g in self.graphs]
        rows += [("certificate", self.proof.problem)] if self.proof else []
        rows += [(f"picture {r.width}x{r.height}", r.problem) for r in self.round_trips]
        rows += [(f"{pair.writer} read by {pair.reader}", pair.problem) for pair in self.engines]
        found = next((f"{where}: {problem}" for where, problem in rows if problem), None)
        return found or build_problem(self.builds)

    def as_json(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {"passed": self.passed, **asdict(self), "engines": [pair.as_json() for pair in self.engines]}

    def as_text(self) -> str:
        """Return a table."""
        lines = [
            f"{self.model['name']}: {self.model['architecture']}, model {self.model['model_id']}, "
            f"on {self.model['backend']}",
            f"{'graph':<10} {'precision':<9} {'size':>9} {'load':>8}",
        ]
        for graph in self.graphs:
            size = bytes_text(graph.file_bytes)
            state = graph.problem or "ok"
            lines.append(f"{graph.name:<10} {graph.precision:<9} {size:>9} {graph.load_ms:>5.0f} ms  {state}")
        if self.proof:
            state = self.proof.problem or "the entropy path gives the integers that the bundle names"
            lines.append(f"certificate, {self.proof.cases} cases: {self.proof.ms:.0f} ms, {state}")
        for trip in self.round_trips:
            state = trip.problem or "decodes to the encoder's latent, twice the same bytes"
            lines.append(f"{trip.width}x{trip.height}: {bytes_text(trip.file_bytes)}, {state}")
        if self.builds:
            lines += ["", build_table(self.builds)]
        if self.engines:
            lines += ["", table(self.engines)]
        return "\n".join(lines)


def starters_from(names: str | None, threads: int | None) -> Starters:
    """Return what opens the engines that a user named.

    Args:
        names: ``all``, names with commas between them, or None for no engine.
        threads: of each graph.

    Raises:
        MlicError: an engine is not here, or there are fewer than two.
    """
    if names is None:
        return {}
    here = engines_here(threads)
    chosen = list(here) if names == "all" else [name.strip() for name in names.split(",")]
    if unknown := [name for name in chosen if name not in here]:
        raise MlicError(f"--engines: {', '.join(unknown)} not found; here are {', '.join(here)}")
    if len(set(chosen)) < 2:
        found = f"found {chosen[0]} alone" if chosen else f"none is installed: {install_command('cpu', 'openvino')}"
        raise MlicError(f"--engines: two at least, to read each other's files; {found}")
    return {name: here[name] for name in chosen}


def pictures_from(paths: Sequence[Path]) -> list[UInt8Array]:
    """Return pictures for ``--engines``: a user's, or one that is made.

    Raises:
        ImageError: a file cannot be read.
    """
    if not paths:
        return [_picture(512, 768)]
    from mlic.runtime.image_files import read_image  # noqa: PLC0415 - loads Pillow

    return [read_image(path, MAX_PIXELS).pixels for path in paths]


def num_stages(codec: Codec, engines: int, target: str | None = None) -> int:
    """Return how often ``verify_bundle`` reports progress."""
    manifest, builds = codec.bundle.manifest, 0
    if target:
        from mlic.export.engines import graphs_to_build  # noqa: PLC0415 - loaded when asked for

        builds = len(graphs_to_build(manifest))
    certificates = int(codec.bundle.certificate is not None)
    return len(manifest.graphs) + builds + certificates + len(ROUND_TRIPS) + engines * engines


def verify_bundle(
    codec: Codec,
    progress: Callable[[str], None] = lambda _: None,
    engines: Starters | None = None,
    pictures: Sequence[UInt8Array] = (),
    target: str | None = None,
) -> Verification:
    """Load every graph of a bundle and send pictures through it.

    Opening the bundle has checked its files' hashes and how its graphs fit together.

    Args:
        codec: the bundle on an engine.
        progress: called with the name of each graph, picture, engine and pair of engines before its turn.
        engines: what opens engines that are to read each other's files; none by default.
        pictures: uint8 [H, W, 3], for these engines.
        target: what to build every graph for, as ``mlic.export.engines`` has it; nothing is stored. None for nothing.

    Raises:
        BackendError: what builds for ``target`` is not installed.
    """
    graphs = []
    for name, file in codec.bundle.manifest.graphs.items():
        progress(name)
        path = codec.bundle.path_of(file)
        start, problem = time.perf_counter(), None
        try:
            codec.backend_of(name).open(path, file)
        except MlicError as error:
            problem = str(error)
        elapsed = 1000 * (time.perf_counter() - start)
        graphs.append(GraphReport(name, file.precision, path.stat().st_size, round(elapsed, 1), problem))
    loaded = not any(graph.problem for graph in graphs)
    proof, trips = _proof(codec, progress) if loaded else None, []
    if loaded and (proof is None or not proof.problem):
        for height, width in ROUND_TRIPS:
            progress(f"{width}x{height}")
            trips.append(_round_trip(codec, height, width))
    builds = _built(codec, target, progress) if target else []
    pairs = certify(codec.bundle, engines, pictures, progress) if engines and trips else []
    return Verification(codec.info, graphs, trips, pairs, builds, proof)


def _proof(codec: Codec, progress: Callable[[str], None]) -> ProofReport | None:
    """Run the certificate, whatever was remembered of it."""
    if codec.bundle.certificate is None:
        return None
    progress("certificate")
    start, problem = time.perf_counter(), None
    try:
        codec.prove()
    except MlicError as error:
        problem = str(error)
    elapsed = 1000 * (time.perf_counter() - start)
    return ProofReport(len(codec.bundle.certificate.cases), round(elapsed, 1), problem)


def _built(codec: Codec, target: str, progress: Callable[[str], None]) -> list[GraphBuild]:
    from mlic.export.engines import build_engines  # noqa: PLC0415 - loaded when asked for

    return build_engines(codec.bundle, target, store=False, progress=lambda graph: progress(f"build {graph}"))


def _round_trip(codec: Codec, height: int, width: int) -> RoundTripReport:
    pixels = _picture(height, width)
    data, problem = b"", None
    try:
        data = codec.encode(pixels)
        if codec.encode(pixels) != data:
            problem = "encoding it again gave other bytes"
        elif not np.array_equal(codec.decode_latent(data), codec.trace(pixels)["y_hat"]):
            problem = "the decoder's latent differs from the encoder's"
        elif codec.decode(data).shape != pixels.shape:
            problem = "the decoded picture has another size"
    except MlicError as error:
        problem = str(error)
    return RoundTripReport(height, width, len(data), problem)


def _picture(height: int, width: int) -> UInt8Array:
    """Return a deterministic picture with smooth parts, edges and noise, uint8 [H, W, 3]."""
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = 128 + 90 * np.sin(rows / 29) * np.cos(columns / 41)
    edges = 30 * ((rows // 24 + columns // 40) % 2)
    noise = np.random.default_rng(height * 4096 + width).integers(-12, 13, (height, width, 3))
    pixels: UInt8Array = np.clip((smooth + edges)[..., None] + noise, 0, 255).astype(np.uint8)
    return pixels
