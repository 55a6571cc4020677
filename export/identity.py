"""model_id: what encoder and decoder must have in common."""

import hashlib
import json
from dataclasses import asdict

from mlic.export.checkpoints import Checkpoint
from mlic.runtime.arrays import Array
from mlic.runtime.manifest import StepSpec


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
    for name, array in sorted((parameters | tables).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.digest()[:8]
