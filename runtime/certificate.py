"""The certificate of an integer bundle: what its entropy path gives for known inputs, for every engine to compare with.

Integers are equal on every engine that computes them as their definition says. Whether one does is tried, not believed:
``certificate.json`` holds the SHA-256 of what ``h_s``, the steps and ``finish`` give in a few cases, and an engine that
gives anything else reads and writes no file. Inputs are made from a case's numbers (``docs/bundle-format.md``):

- The outputs of SplitMix64 seeded with the case's seed are seeds themselves: the first for z_symbols, the next for the
  symbols of step_00, and so on. Element i of an array, in C order, comes from r, output i of SplitMix64 with its seed.
- If ``outliers`` is not 0 and divides r, the element is (r >> 40) mod 2^(1 + (r >> 32) mod 24), negative where bit
  20 of r is set: up to the largest symbol that a file can hold.
- Otherwise it is (r >> 16) mod (magnitude + 1) - (r >> 40) mod (magnitude + 1).

A graph takes what the graphs before it gave, as in decoding. The hash is over its outputs in the manifest's order:
name, dtype and sides as the text ``name dtype side,side,...`` with a line feed, then the values, little-endian in C
order, with negative zeros as zeros.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlic.runtime.arrays import Array, Float32Array, Tensors
from mlic.runtime.backends.base import Graph
from mlic.runtime.errors import BundleError, EngineMismatchError, listed
from mlic.runtime.manifest import CertificateFile, GraphSpec, Manifest
from mlic.runtime.strict_json import value_from_json
from mlic.runtime.walk import State

FILE_NAME = "certificate.json"
FORMAT = "mlic-certificate"
FORMAT_VERSION = 1

# A certificate may come from anybody, and engines run it before anything else.
MAX_BYTES = 1 << 20  # one case of 25 graphs has 2.3 kB
MAX_CASES = 8
MAX_CASE_PIXELS = 1 << 18
MAX_MAGNITUDE = 1 << 20

_GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64's increment
_WORD = (1 << 64) - 1
_SHA256 = re.compile(r"[0-9a-f]{64}")

Run = Graph | Callable[[Tensors], Mapping[str, Array]]  # a graph, or what runs one on named arrays


@dataclass(frozen=True)
class Case:
    """One run of the entropy path.

    Attributes:
        height: of the padded picture, in pixels.
        width: likewise.
        seed: of the inputs, 0..2^63 - 1.
        magnitude: of ordinary symbols, which lie within ±``magnitude``, smaller ones oftener.
        outliers: one symbol in so many is as large as may be; 0 for none.
    """

    height: int
    width: int
    seed: int
    magnitude: int
    outliers: int


# As in photos; then wide; then so that most values saturate.
DEFAULT_CASES = (Case(128, 192, 1, 2, 0), Case(64, 64, 2, 24, 1024), Case(64, 128, 3, 8, 16))


@dataclass(frozen=True)
class ProvenCase:
    """A case and what has to come out.

    Attributes:
        case: the inputs.
        sha256: of each graph's outputs, lower-case hex, by graph in the order in which they run.
    """

    case: Case
    sha256: dict[str, str]


@dataclass(frozen=True)
class Certificate:
    """The parsed ``certificate.json``.

    Attributes:
        cases: one or more.
        sha256: of the file, lower-case hex.
    """

    cases: tuple[ProvenCase, ...]
    sha256: str


def certificate_of(
    graphs: Mapping[str, Run], manifest: Manifest, cases: Sequence[Case] | None = None
) -> dict[str, Any]:
    """Run the entropy path and return what ``certificate.json`` holds.

    Args:
        graphs: ``h_s``, the steps and ``finish``, by name; others are ignored.
        manifest: of the bundle; its own entry of the certificate is not looked at.
        cases: default: ``DEFAULT_CASES``, their sides rounded up to the bundle's padding.

    Raises:
        BackendError: a graph failed.
    """
    multiple = manifest.padding.multiple
    if cases is None:
        cases = [
            Case(_up(case.height, multiple), _up(case.width, multiple), case.seed, case.magnitude, case.outliers)
            for case in DEFAULT_CASES
        ]
    rows = [{**asdict(case), "sha256": dict(run_case(case, graphs, manifest))} for case in cases]
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "cases": rows}


def write_certificate(folder: Path, certificate: Mapping[str, Any]) -> CertificateFile:
    """Write ``certificate.json`` into a bundle's folder and return its entry in the manifest.

    Args:
        folder: of the bundle.
        certificate: as ``certificate_of`` returns it.
    """
    data = (json.dumps(certificate, indent=1) + "\n").encode()
    (folder / FILE_NAME).write_bytes(data)
    return CertificateFile(FILE_NAME, hashlib.sha256(data).hexdigest())


def certificate_from_json(data: bytes, manifest: Manifest) -> Certificate:
    """Parse a certificate and see that it covers the entropy path.

    Args:
        data: the file.
        manifest: of its bundle.

    Raises:
        BundleError: not JSON, not a certificate, of a newer version, or with wrong entries, all of them listed.
    """
    value = value_from_json(data, FILE_NAME)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BundleError(f"{FILE_NAME} is not a certificate: its format is not {FORMAT!r}")
    version, cases = value.get("format_version"), value.get("cases")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise BundleError(f"{FILE_NAME}: format version {version!r:.40}; this reader knows 1 to {FORMAT_VERSION}")
    if not isinstance(cases, list) or not 1 <= len(cases) <= MAX_CASES:
        raise BundleError(f"{FILE_NAME}: cases are no list of 1 to {MAX_CASES}")
    problems = [f"cases[{number}] {problem}" for number, case in enumerate(cases) for problem in _wrong(case, manifest)]
    if problems:
        raise BundleError(f"{FILE_NAME}: {listed(problems)}")
    proven = [
        ProvenCase(
            Case(*(case[name] for name in Case.__dataclass_fields__)),
            {name: case["sha256"][name] for name in chain_names(manifest)},
        )
        for case in cases
    ]
    return Certificate(tuple(proven), hashlib.sha256(data).hexdigest())


def prove(certificate: Certificate, graphs: Mapping[str, Run], manifest: Manifest, engine: str) -> None:
    """Compare what an engine computes with a bundle's certificate.

    Args:
        certificate: of the bundle.
        graphs: of the entropy path, on the engine.
        manifest: of the bundle.
        engine: what runs the graphs, for errors.

    Raises:
        EngineMismatchError: a graph gives anything else than the certificate says.
        BackendError: a graph failed.
    """
    for proven in certificate.cases:
        for name, found in run_case(proven.case, graphs, manifest):
            if found != proven.sha256[name]:
                raise EngineMismatchError(
                    f"graph {name}: {engine} does not compute the integers that the certificate of bundle "
                    f"{manifest.name} has ({proven.case.width}x{proven.case.height}, seed {proven.case.seed}); "
                    "use another engine or version"
                )


def run_case(case: Case, graphs: Mapping[str, Run], manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Run the entropy path on a case's inputs; yield each graph's name and the SHA-256 of its outputs.

    Args:
        case: the inputs.
        graphs: ``h_s``, the steps and ``finish``, by name.
        manifest: of the bundle.

    Raises:
        BackendError: a graph failed.
    """
    specs = {name: manifest.graphs[name].spec for name in chain_names(manifest)}
    seeds = _splitmix64(case.seed, 1 + len(manifest.steps))
    size = (case.height, case.width)
    z_shape = manifest.graphs["h_a"].spec.outputs["z_symbols"].concrete(*size)
    state = State(list(specs.values()), {"z_symbols": symbols_of(case, int(seeds[0]), z_shape)})
    symbols = {
        step.graph: (step.symbols, int(seed), specs[step.graph].outputs[step.means].concrete(*size))
        for step, seed in zip(manifest.steps, seeds[1:], strict=True)
    }
    for name, spec in specs.items():
        outputs = state.run(_Runnable(spec, graphs[name]))
        yield name, digest_of(spec, outputs)
        if name in symbols:
            taken, seed, shape = symbols[name]
            state.put(taken, symbols_of(case, seed, shape))


def chain_names(manifest: Manifest) -> list[str]:
    """Return the graphs of the entropy path in the order in which they run."""
    return ["h_s", *(step.graph for step in manifest.steps), "finish"]


def symbols_of(case: Case, seed: int, shape: Sequence[int]) -> Float32Array:
    """Return made symbols: float32 of this shape, whole numbers within ±(2^24 - 1).

    Args:
        case: how large they are.
        seed: of SplitMix64.
        shape: of the array.
    """
    r = _splitmix64(seed, int(np.prod(shape)))
    span = np.uint64(case.magnitude + 1)
    values = ((r >> np.uint64(16)) % span).astype(np.int64) - ((r >> np.uint64(40)) % span).astype(np.int64)
    if case.outliers:
        huge = r % np.uint64(case.outliers) == 0
        bits = np.uint64(1) + (r >> np.uint64(32)) % np.uint64(24)
        size = ((r >> np.uint64(40)) & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
        values = np.where(huge, np.where(r & np.uint64(1 << 20), -size, size), values)
    return values.astype(np.float32).reshape(shape)


def digest_of(spec: GraphSpec, outputs: Tensors) -> str:
    """Return the SHA-256 of a graph's outputs, lower-case hex."""
    digest = hashlib.sha256()
    for name in spec.outputs:
        array = np.asarray(outputs[name])
        digest.update(f"{name} {array.dtype.name} {','.join(map(str, array.shape))}\n".encode())
        if array.dtype.kind == "f":
            array = array + array.dtype.type(0)  # -0 + 0 is 0
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


class _Runnable:
    """A graph of which only a function may be known."""

    def __init__(self, spec: GraphSpec, run: Run) -> None:
        self.spec = spec
        self._run = run

    def run(self, inputs: Tensors) -> dict[str, Array]:
        if callable(self._run):
            return dict(self._run({name: inputs[name] for name in self.spec.inputs}))
        return self._run.run(inputs)


def _splitmix64(seed: int, count: int) -> NDArray[np.uint64]:
    """Return the first outputs of SplitMix64 (Steele, Lea, Flood 2014)."""
    z = (np.uint64(seed & _WORD) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)).astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _wrong(case: object, manifest: Manifest) -> list[str]:
    """Return what is wrong with an entry of the list of cases."""
    if not isinstance(case, dict):
        return [f"is {case!r:.40}; expected an object"]
    multiple, problems = manifest.padding.multiple, []
    limits = {"height": MAX_CASE_PIXELS, "width": MAX_CASE_PIXELS, "seed": _WORD >> 1}
    limits |= {"magnitude": MAX_MAGNITUDE, "outliers": 1 << 32}
    for name, most in limits.items():
        least = multiple if name in ("height", "width") else 0
        if type(case.get(name)) is not int or not least <= case[name] <= most or (least and case[name] % multiple):
            expected = f"{least} to {most}" + (f", a multiple of {multiple}" if least else "")
            problems.append(f"has {name} {case.get(name)!r:.40}; expected {expected}")
    if not problems and case["height"] * case["width"] > MAX_CASE_PIXELS:
        problems.append(f"has {case['width']}x{case['height']} pixels; expected at most {MAX_CASE_PIXELS}")
    digests, names = case.get("sha256"), chain_names(manifest)
    if not isinstance(digests, dict) or set(digests) != set(names):
        problems.append(f"has no sha256 of each of {', '.join(names)}, and of no others")
    elif not all(isinstance(text, str) and _SHA256.fullmatch(text) for text in digests.values()):
        problems.append("has a sha256 that is not 64 hexadecimal digits")
    return problems
