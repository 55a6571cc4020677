"""Official checkpoints as found in the wild, read into our models."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlic.export.architectures import ARCHITECTURES, Architecture, recognise
from mlic.export.errors import CheckpointError

# Spellings of the bottleneck's parameters: CompressAI 1.2.9 and later, and very old files.
_BOTTLENECK = re.compile(r"(entropy_bottleneck\.)_?(matrices|biases|factors)\.(\d)")
_SINGULAR = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}
_TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")
_SHOWN = 3  # keys listed in an error


@dataclass(frozen=True)
class Checkpoint:
    """A model with the values of a checkpoint.

    Attributes:
        architecture: its row in the table.
        model: in eval mode.
        name: file name without folder.
        sha256: of the file, lower-case hex.
    """

    architecture: Architecture
    model: nn.Module
    name: str
    sha256: str


def load_checkpoint(path: Path, architecture: str = "auto") -> Checkpoint:
    """Read a checkpoint of any known architecture.

    Args:
        path: a ``torch.save`` file: a state dict, or a dictionary with one under ``state_dict``.
        architecture: a name of ``ARCHITECTURES``, or ``auto`` to recognise it by its keys.

    Returns:
        The model with all values in place, tables included if the file has them.

    Raises:
        CheckpointError: not readable, not a checkpoint, of another architecture, or incomplete; one line that says
            what was found and what was expected.
    """
    state = _state_dict(path)
    if not any(key in state for row in ARCHITECTURES.values() for key in row.signature):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    state = {_official_name(key): value for key, value in state.items()}
    found = recognise(state)
    if found is None:
        known = ", ".join(row.title for row in ARCHITECTURES.values())
        raise CheckpointError(f"{path.name}: no {known} checkpoint; its keys are {_some(state)}")
    if architecture not in ("auto", found.name):
        wanted = ARCHITECTURES[architecture].title
        raise CheckpointError(f"{path.name}: found a checkpoint of {found.title}; expected {wanted}")
    state = {key: value for key, value in state.items() if not key.startswith(found.legacy)} if found.legacy else state
    model = _build(path, found, state)
    return Checkpoint(found, model.eval(), path.name, _sha256(path))


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder; expected a checkpoint file") from None
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path.name}: holds Python objects other than tensors, which are never loaded; "
                "save its state_dict alone"
            ) from error
        raise CheckpointError(f"{path.name}: {_what_is(path)}; expected a file of torch.save") from error
    except Exception as error:  # torch.load raises whatever its readers raise
        raise CheckpointError(f"{path.name}: {_what_is(path)}; expected a file of torch.save") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path.name}: holds a {type(content).__name__}; expected a state dict")
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path.name}: holds no tensors; its keys are {_some(content)}")
    return tensors


def _what_is(path: Path) -> str:
    """Say what kind of unreadable file this is."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        return "is empty"
    if start.startswith(b"PK"):
        return "is a damaged or cut archive"
    for magic, kind in (
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"MLIC", "a .mlic file"),
    ):
        if start.startswith(magic):
            return f"is {kind}"
    return f"starts with bytes {start.hex(' ')}"


def _official_name(key: str) -> str:
    return _BOTTLENECK.sub(lambda m: f"{m[1]}{_SINGULAR[m[2]]}{m[3]}", key)


def _build(path: Path, architecture: Architecture, state: dict[str, Tensor]) -> nn.Module:
    try:
        with torch.device("meta"):
            architecture.build(state)  # cheap: fails here if the widths make no sense
        model = architecture.build(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise CheckpointError(f"{path.name}: {architecture.title} with impossible widths: {error}") from error
    own = model.state_dict()
    parameters = dict(model.named_parameters())
    problems = []
    missing = sorted(key for key in parameters if key not in state)
    unknown = sorted(key for key in state if key not in own)
    shapes = [
        f"{key} is {list(state[key].shape)}, expected {list(own[key].shape)}"
        for key in own
        if key in state and not key.endswith(_TABLES) and state[key].shape != own[key].shape
    ]
    if missing:
        problems.append(f"{len(missing)} of {len(parameters)} parameters missing ({_some(missing)})")
    if unknown:
        problems.append(f"{len(unknown)} unknown keys ({_some(unknown)})")
    if shapes:
        problems.append("; ".join(shapes[:_SHOWN]))
    if not problems:
        bad = [key for key in parameters if not torch.isfinite(state[key]).all()]
        if bad:
            problems.append(f"values that are not finite in {_some(bad)}")
    if problems:
        raise CheckpointError(f"{path.name}: looks like {architecture.title}, but {'; '.join(problems)}")
    for key, value in state.items():
        if key.endswith(_TABLES):
            # Tables may be empty or filled; their buffers take the file's shape.
            holder, _, leaf = key.rpartition(".")
            setattr(model.get_submodule(holder), leaf, torch.empty_like(value))
    model.load_state_dict(state, strict=False)
    return model


def _some(keys: Any) -> str:
    keys = list(keys)
    return ", ".join(str(key) for key in keys[:_SHOWN]) + ("…" if len(keys) > _SHOWN else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
