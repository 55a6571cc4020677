"""``manifest.json`` to ``Manifest`` and back (``docs/bundle-format.md``)."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar, get_args

from mlic.runtime.container import MAX_SIDE
from mlic.runtime.errors import BundleError, listed
from mlic.runtime.manifest import (
    DEFAULT_SIZES,
    DTYPES,
    FORMAT,
    FORMAT_VERSION,
    CertificateFile,
    Dim,
    GraphFile,
    GraphForm,
    GraphSpec,
    Manifest,
    Padding,
    Positions,
    SizeRange,
    StepSpec,
    TensorSpec,
    Tiling,
    parse_dim,
)
from mlic.runtime.strict_json import value_from_json

# A manifest may come from anybody: what it asks for in numbers is bounded here, far above any known model.
MAX_TEXT = 1024  # characters
MAX_GRAPHS = 1024
MAX_STEPS = 512
MAX_TENSORS = 256  # inputs, and outputs, of one graph
MAX_RANK = 8
MAX_DIM = (1 << 31) - 1
MAX_CHANNELS = 4096  # of y, and of z; the largest of the released models have 320 and 192
MAX_MULTIPLE = 4096  # pixels of padding

_T = TypeVar("_T")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MODEL_ID = re.compile(r"[0-9a-f]{16}")
_MODELLED = {
    "format", "format_version", "name", "architecture", "variant", "model_id", "arithmetic", "engine",
    "padding", "latent", "tables", "graphs", "steps", "sizes", "certificate",
}  # fmt: skip


def manifest_from_json(text: str | bytes) -> Manifest:
    """Parse a manifest; types, names and ranges are checked, files and wiring are not.

    Args:
        text: contents of ``manifest.json``.

    Raises:
        BundleError: not JSON, not a bundle's manifest, of a newer version, or with wrong entries, all of them
            listed.
    """
    value = value_from_json(text, "manifest.json")
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BundleError(f"manifest.json is not the manifest of a bundle: its format is not {FORMAT!r}")
    version = value.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        newer = "; install a newer mlic-deploy" if type(version) is int and version > FORMAT_VERSION else ""
        raise BundleError(f"bundle format version {version!r}; this reader knows 1 to {FORMAT_VERSION}{newer}")
    root = _Object(value, "", problems := [])
    latent, tables, padding = root.object("latent"), root.object("tables"), root.object("padding")
    model_id = root.text("model_id", _MODEL_ID)
    graphs = [_graph(entry) for entry in root.objects("graphs", MAX_GRAPHS)]
    manifest = Manifest(
        name=root.text("name"),
        architecture=root.text("architecture"),
        variant=root.text("variant"),
        model_id=bytes.fromhex(model_id) if _MODEL_ID.fullmatch(model_id) else b"",
        arithmetic=root.text("arithmetic"),
        engine=root.text("engine"),
        padding=Padding(
            multiple=padding.number("multiple", 1, MAX_MULTIPLE),
            placement="centre" if padding.choice("placement", ("top-left", "centre")) == "centre" else "top-left",
            fill="edge" if padding.choice("fill", ("zeros", "edge")) == "edge" else "zeros",
        ),
        y_channels=latent.number("y_channels", 1, MAX_CHANNELS),
        z_channels=latent.number("z_channels", 1, MAX_CHANNELS),
        tables_path=tables.text("path"),
        tables_sha256=tables.text("sha256", _SHA256),
        graphs={graph.spec.name: graph for graph in graphs},
        steps=tuple(_step(entry) for entry in root.objects("steps", MAX_STEPS)),
        sizes=_sizes(root.object("sizes")) if "sizes" in value else DEFAULT_SIZES,
        certificate=_certificate(root.object("certificate")) if "certificate" in value else None,
        details={key: entry for key, entry in value.items() if key not in _MODELLED},
    )
    if len(manifest.graphs) < len(graphs):
        problems.append("graphs: a name occurs twice")
    if problems:
        raise BundleError(f"manifest.json: {listed(problems)}")
    return manifest


def json_from_manifest(manifest: Manifest) -> str:
    """Return the text of ``manifest.json``; ``manifest_from_json`` reads the same manifest back."""
    value = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": manifest.name,
        "architecture": manifest.architecture,
        "variant": manifest.variant,
        "model_id": manifest.model_id.hex(),
        "arithmetic": manifest.arithmetic,
        "engine": manifest.engine,
        "padding": {
            "multiple": manifest.padding.multiple,
            "placement": manifest.padding.placement,
            "fill": manifest.padding.fill,
        },
        "latent": {"y_channels": manifest.y_channels, "z_channels": manifest.z_channels},
        "tables": {"path": manifest.tables_path, "sha256": manifest.tables_sha256},
        "graphs": [
            {
                "name": graph.spec.name,
                "path": graph.path,
                "sha256": graph.sha256,
                "exact": graph.spec.exact,
                "precision": graph.precision,
                **_json_from_symmetric(graph.symmetric),
                **_json_from_tiling(graph.tiling),
                "inputs": _json_from_tensors(graph.spec.inputs),
                "outputs": _json_from_tensors(graph.spec.outputs),
            }
            for graph in manifest.graphs.values()
        ],
        "steps": [
            {"graph": step.graph, "channels": list(step.channels), "positions": step.positions}
            for step in manifest.steps
        ],
        **_json_from_sizes(manifest.sizes),
        **_json_from_certificate(manifest.certificate),
        **manifest.details,
    }
    return json.dumps(value, indent=1) + "\n"


class _Object:
    """One JSON object being read: notes every problem and goes on with a stand-in."""

    def __init__(self, value: dict[str, Any], where: str, problems: list[str]) -> None:
        self.value = value
        self.where = where
        self.problems = problems

    def get(self, key: str, kind: type[_T], default: _T) -> _T:
        found = self.value.get(key)
        if type(found) is kind:
            return found
        self.problem(key, "is missing" if key not in self.value else f"is {found!r:.40}; expected {kind.__name__}")
        return default

    def problem(self, key: str, text: str) -> None:
        self.problems.append(f"{self.where}{key} {text}")

    def object(self, key: str) -> _Object:
        return _Object(self.get(key, dict, {}), f"{self.where}{key}.", self.problems)

    def objects(self, key: str, most: int) -> list[_Object]:
        entries = self.get(key, list, [])
        if not 1 <= len(entries) <= most:
            self.problem(key, f"has {len(entries)} entries; expected 1 to {most}" if entries else "is empty")
            return []
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                self.problem(f"{key}[{index}]", f"is {entry!r:.40}; expected dict")
        return [
            _Object(entry, f"{self.where}{key}[{index}].", self.problems)
            for index, entry in enumerate(entries)
            if isinstance(entry, dict)
        ]

    def text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        found = self.get(key, str, "")
        if len(found) > MAX_TEXT or not found.isprintable():  # it stands in messages, and in names of files
            self.problem(key, f"is {found!r:.40}; expected at most {MAX_TEXT} printable characters")
        elif pattern and isinstance(self.value.get(key), str) and not pattern.fullmatch(found):
            self.problem(key, f"is {found!r:.40}; expected {pattern.pattern}")
        return found

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        found = self.text(key)
        if found not in choices:
            self.problem(key, f"is {found!r:.40}; expected one of {', '.join(choices)}")
        return found

    def number(self, key: str, least: int, most: int) -> int:
        found = self.get(key, int, least)
        if not least <= found <= most:
            self.problem(key, f"is {found!r:.40}; expected {least} to {most}")
        return min(max(found, least), most)


def _graph(entry: _Object) -> GraphFile:
    spec = GraphSpec(
        name=entry.text("name"),
        inputs=_tensors(entry.object("inputs")),
        outputs=_tensors(entry.object("outputs")),
        exact=entry.get("exact", bool, True),
    )
    plain, precision = _form(entry), entry.text("precision")
    symmetric = _form(entry.object("symmetric")) if "symmetric" in entry.value else None
    tiling = _tiling(entry.object("tiling")) if "tiling" in entry.value else None
    return GraphFile(spec, plain.path, plain.sha256, precision, symmetric, tiling)


def _form(entry: _Object) -> GraphForm:
    return GraphForm(entry.text("path"), entry.text("sha256", _SHA256))


def _certificate(entry: _Object) -> CertificateFile:
    return CertificateFile(entry.text("path"), entry.text("sha256", _SHA256))


def _tiling(entry: _Object) -> Tiling:
    tiling = Tiling(entry.number("multiple", 1, MAX_MULTIPLE), entry.number("halo", 0, MAX_SIDE))
    if tiling.halo % tiling.multiple:
        entry.problem("halo", f"is {tiling.halo}; expected a multiple of {tiling.multiple}")
    return tiling


def _tensors(entry: _Object) -> dict[str, TensorSpec]:
    tensors: dict[str, TensorSpec] = {}
    if len(entry.value) > MAX_TENSORS:
        entry.problems.append(f"{entry.where[:-1]} has {len(entry.value)} entries; expected at most {MAX_TENSORS}")
        return tensors
    for name in entry.value:
        if len(name) > MAX_TEXT or not name.isprintable():
            entry.problem(f"{name!r:.40}", f"is a name; expected at most {MAX_TEXT} printable characters")
            continue
        tensor = entry.object(name)
        shape = tensor.get("shape", list, [])
        if len(shape) > MAX_RANK:
            tensor.problem("shape", f"has {len(shape)} dimensions; expected at most {MAX_RANK}")
            continue
        for dim in shape:
            if not _is_dim(dim):
                tensor.problem("shape", f"holds {dim!r:.40}; expected 1 to {MAX_DIM}, height/N or width/N")
        dims: tuple[Dim, ...] = tuple(dim for dim in shape if _is_dim(dim))
        tensors[name] = TensorSpec(tensor.choice("dtype", DTYPES), dims)
    return tensors


def _is_dim(dim: object) -> bool:
    if isinstance(dim, str):
        try:
            parse_dim(dim)
        except BundleError:
            return False
        return True
    return type(dim) is int and 1 <= dim <= MAX_DIM


def _step(entry: _Object) -> StepSpec:
    channels = entry.get("channels", list, [0, 1])
    numbers = len(channels) == 2 and all(type(value) is int for value in channels)
    if not numbers or not 0 <= channels[0] < channels[1] <= MAX_CHANNELS:
        entry.problem("channels", f"is {channels!r:.40}; expected [first, end], 0 <= first < end <= {MAX_CHANNELS}")
        channels = [0, 1]
    found = entry.choice("positions", get_args(Positions))
    positions: Positions = "anchor" if found == "anchor" else "nonanchor" if found == "nonanchor" else "all"
    return StepSpec(entry.text("graph"), (channels[0], channels[1]), positions)


def _sizes(entry: _Object) -> SizeRange:
    before, sizes = len(entry.problems), {}
    for key in ("min", "opt", "max"):
        found = entry.get(key, list, [64, 64])
        if len(found) != 2 or not all(type(side) is int and side <= MAX_SIDE for side in found):
            entry.problem(key, f"is {found!r:.40}; expected [height, width], at most {MAX_SIDE}")
            found = [64, 64]
        sizes[key] = (found[0], found[1])
    result = SizeRange(**sizes)
    if len(entry.problems) == before and (problem := result.problem()):
        entry.problems.append(f"{entry.where}{problem}")
    return result


def _json_from_sizes(sizes: SizeRange) -> dict[str, Any]:
    """Return the entry, none for the default: bundles that do not choose sizes stay as they were."""
    if sizes == DEFAULT_SIZES:
        return {}
    return {"sizes": {"min": list(sizes.min), "opt": list(sizes.opt), "max": list(sizes.max)}}


def _json_from_symmetric(form: GraphForm | None) -> dict[str, Any]:
    return {} if form is None else {"symmetric": {"path": form.path, "sha256": form.sha256}}


def _json_from_certificate(file: CertificateFile | None) -> dict[str, Any]:
    return {} if file is None else {"certificate": {"path": file.path, "sha256": file.sha256}}


def _json_from_tiling(tiling: Tiling | None) -> dict[str, Any]:
    return {} if tiling is None else {"tiling": {"multiple": tiling.multiple, "halo": tiling.halo}}


def _json_from_tensors(tensors: dict[str, TensorSpec]) -> dict[str, Any]:
    return {name: {"dtype": spec.dtype, "shape": list(spec.shape)} for name, spec in tensors.items()}
