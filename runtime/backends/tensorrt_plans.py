"""Built engines in a bundle's folder ``engines/``: found again, or built from the ONNX files that stay beside them.

A file's name says all that its contents depend on, so nothing stale is ever read, and it carries the beginning of its
contents' SHA-256, so nothing cut or damaged is either::

    step_03.tensorrt-rtx-1.7.1.116.any.0b5a1f0c6ad3e2f4.5c9c2e7f8a1b3d60.plan
    graph   flavour and version     device, inputs           contents

*Inputs* is a hash of the SHA-256 of the graph's file, plain or compressed, the shapes of the profile and the options of
the build.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from mlic.runtime.atomic import write_atomically
from mlic.runtime.backends.base import allows_tf32, bundle_folder
from mlic.runtime.backends.tensorrt_engine import BuildOptions, build_plan, profile_from
from mlic.runtime.backends.tensorrt_flavour import Flavour
from mlic.runtime.bundle import read_manifest
from mlic.runtime.manifest import GraphFile, Manifest

FOLDER = "engines"
RECIPE = 1  # of how plans are built; another one makes all stored plans stale


def load_or_build(
    path: Path, graph: GraphFile, flavour: Flavour, device: str | None = None, options: BuildOptions | None = None
) -> bytes:
    """Return a graph's plan: the stored one if there is a sound one, else a new one, stored if the folder allows it.

    Args:
        path: of the graph's file in its bundle; ``Bundle.open`` has compared it with the manifest.
        graph: its entry in the manifest.
        flavour: what runs it.
        device: name of the GPU that will run it; None without one, which only TensorRT-RTX can build for.
        options: default: for the sizes that the bundle's manifest names.

    Returns:
        The serialized engine.

    Raises:
        BackendError: the graph is refused or cannot be built (``GraphRefusedError``), or there is no device.
        BundleError: the manifest beside the graph cannot be read, or a compressed graph not be unpacked.
    """
    bundle = bundle_folder(path, graph)
    options = options or options_from(read_manifest(bundle))
    name = plan_name(graph, flavour, device, options)
    if (plan := stored_plan(bundle, name)) is not None:
        return plan
    plan = build_plan(flavour, path, graph, options, timing_cache(bundle, flavour, device))
    store_plan(bundle, name, plan)
    return plan


def options_from(manifest: Manifest) -> BuildOptions:
    """Return the options that a bundle asks for: its sizes, padded as its pictures are."""
    return BuildOptions(manifest.sizes.padded(manifest.padding.multiple))


def plan_name(graph: GraphFile, flavour: Flavour, device: str | None, options: BuildOptions) -> str:
    """Return the name of a plan's file up to the hash of its contents.

    Raises:
        BackendError: TensorRT needs a device to build on, and there is none.
    """
    inputs = {
        "recipe": RECIPE,
        "onnx": graph.symmetric_or_plain().sha256,  # as build_plan chooses
        "profile": profile_from(graph.spec, options.sizes),
        "tf32": allows_tf32(graph),
        "workspace_bytes": options.workspace_bytes,
    }
    digest = _digest(json.dumps(inputs, sort_keys=True).encode())
    return f"{graph.spec.name}.{flavour.label}.{flavour.device_label(device)}.{digest}"


def stored_plan(bundle: Path, name: str) -> bytes | None:
    """Return the plan that was stored under a name, or None if there is none that is whole."""
    for path in _stored(bundle, name):
        with contextlib.suppress(OSError):
            plan = path.read_bytes()
            if path.name == _file_name(name, plan):
                return plan
    return None


def store_plan(bundle: Path, name: str, plan: bytes) -> bool:
    """Store a plan in place of others of its name; return False where the bundle cannot be written."""
    try:
        (bundle / FOLDER).mkdir(exist_ok=True)
        path = bundle / FOLDER / _file_name(name, plan)
        write_atomically(path, plan)
        for other in _stored(bundle, name):
            if other != path:
                other.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def timing_cache(bundle: Path, flavour: Flavour, device: str | None) -> Path | None:
    """Return where kernel timings of a device are kept, or None where they cannot be.

    TensorRT-RTX times none when it builds: it compiles on the device, when an engine is first run.
    """
    if flavour.is_rtx:
        return None
    folder = bundle / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    return folder / f"timing.{flavour.label}.{flavour.device_label(device)}.cache"


def _stored(bundle: Path, name: str) -> list[Path]:
    """Return the files of a name, whole or not, in a fixed order."""
    try:
        found = [path for path in (bundle / FOLDER).iterdir() if path.suffix == ".plan"]
    except OSError:  # no such folder
        return []
    return sorted(path for path in found if path.name.startswith(f"{name}."))


def _file_name(name: str, plan: bytes) -> str:
    return f"{name}.{_digest(plan)}.plan"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
