"""model_id: what encoder and decoder must have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlic.runtime.arithmetic import INTEGER
from mlic.runtime.arrays import Array
from mlic.runtime.manifest import StepSpec

if TYPE_CHECKING:  # calibration knows no PyTorch
    from mlic.export.checkpoints import Checkpoint


def model_id(checkpoint: Checkpoint, tables: dict[str, Array], steps: tuple[StepSpec, ...], arithmetic: str) -> bytes:
    """Return 8 bytes that differ between models which cannot read each other's files.

    They cover the parameters of the entropy path by their checkpoint names, the tables and the step table; neither
    the transforms nor how the graphs were made from the parameters.
    """
    digest = hashlib.sha256()
    header = {"architecture": checkpoint.architecture.name, "arithmetic": arithmetic}
    digest.update(json.dumps([header, *(asdict(step) for step in steps)], sort_keys=True).encode())
    parameters = {
        name: value.detach().numpy()
        for name, value in checkpoint.model.named_parameters()
        if not name.startswith(checkpoint.architecture.transforms)
    }
    _add_arrays(digest, parameters | tables)
    return digest.digest()[:8]


def integer_model_id(graphs: Mapping[str, str], tables: Mapping[str, Array], steps: Sequence[StepSpec]) -> bytes:
    """Return the 8 bytes of an integer bundle, which differ wherever a single integer of its entropy path may.

    They cover the ONNX files of the entropy path byte by byte, the tables and the step table; not the transforms.

    Args:
        graphs: SHA-256 of the ONNX files of ``h_s``, the steps and ``finish``, before they are compressed, lower-case
            hex, by graph.
        tables: arrays of ``tables.npz``, by name.
        steps: in coding order.
    """
    digest = hashlib.sha256()
    header = {"arithmetic": INTEGER.name, "graphs": dict(graphs)}
    digest.update(json.dumps([header, *(asdict(step) for step in steps)], sort_keys=True).encode())
    _add_arrays(digest, tables)
    return digest.digest()[:8]


def _add_arrays(digest: hashlib._Hash, arrays: Mapping[str, Array]) -> None:
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
