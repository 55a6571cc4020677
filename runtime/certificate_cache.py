"""Which engine has proved itself on which bundle, from one process to the next.

One small file for each pair, in ``$XDG_CACHE_HOME/mlic/certificates`` or ``~/.cache/mlic/certificates``. Its name says
all that the result depends on. It only saves time: what cannot be read or written, or has other contents, is not there,
and the folder can be deleted. ``MLIC_CERTIFICATE_CACHE=off`` leaves it alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from functools import cache
from pathlib import Path

from mlic.runtime.atomic import write_atomically
from mlic.runtime.bundle_files import open_regular
from mlic.runtime.certificate import Certificate, chain_names
from mlic.runtime.manifest import Manifest

VARIABLE = "MLIC_CERTIFICATE_CACHE"

_VERSION = 1
_ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # by which oneDNN, in OpenVINO, takes other instructions
_CPU_FIELDS = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features", "isa", "cpu")


def key_of(manifest: Manifest, certificate: Certificate, fingerprint: str) -> str:
    """Return what a result depends on, as 64 hexadecimal digits.

    Args:
        manifest: of the bundle.
        certificate: of the bundle.
        fingerprint: of the engine: name, version, and settings that may change results.
    """
    graphs = [[name, manifest.graphs[name].sha256] for name in chain_names(manifest)]
    variables = [os.environ.get(name) for name in _ISA_VARIABLES]
    parts = [_VERSION, manifest.model_id.hex(), graphs, certificate.sha256, fingerprint, variables, _machine()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def is_known(key: str) -> bool:
    """Tell whether an engine has passed before."""
    folder = _folder()
    if folder is None:
        return False
    try:
        with open_regular(folder / key) as file:
            return file.read(1024) == _contents(key)
    except (OSError, ValueError):
        return False


def remember(key: str) -> None:
    """Store that an engine passed, if that is possible."""
    folder = _folder()
    if folder is not None:
        with contextlib.suppress(OSError, ValueError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / key, _contents(key))


def _contents(key: str) -> bytes:
    return f"mlic certificate {_VERSION} passed {key}\n".encode()


def _folder() -> Path | None:
    if os.environ.get(VARIABLE) == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # noqa: PTH117 - the specification: relative ones are invalid, to be ignored
        try:
            base = str(Path.home() / ".cache")
        except RuntimeError:  # nobody's
            return None
    return Path(base) / "mlic" / "certificates"


@cache
def _machine() -> list[str]:
    """Return the architecture, and models and instruction sets of the processors."""
    found = {platform.processor()}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in _CPU_FIELDS:
                found.add(f"{name.strip()}:{value.strip()}")
    return [platform.machine(), *sorted(found)]
