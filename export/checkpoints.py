"""Official checkpoints as found in the wild, read into our models."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlic.export.architectures import ARCHITECTURES, Architecture, recognise
from mlic.export.errors import CheckpointError
from mlic.runtime.bundle_files import sha256_of
from mlic.runtime.entropy_model import MAX_ROWS

# Spellings of the bottleneck's parameters: CompressAI 1.2.9 and later, and very old files.
_BOTTLENECK = re.compile(r"(entropy_bottleneck\.)_?(matrices|biases|factors)\.(\d)")
_SINGULAR = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}
_TABLES = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")
_SCALE_TABLE = "gaussian_conditional.scale_table"
_FOREIGN = re.compile(r"GLOBAL (\S+)")  # how torch names a class that it does not load
_SHOWN = 3  # keys listed in an error
SCALE_LIMIT = 4096.0  # the released models end at 256; a row has twelve entries for each unit


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
        raise CheckpointError(f"{path.name}: its keys are {_some(state)}; expected a checkpoint of {known}")
    if architecture not in ("auto", found.name):
        wanted = ARCHITECTURES[architecture].title
        raise CheckpointError(f"{path.name}: found a checkpoint of {found.title}; expected {wanted}")
    state = {key: value for key, value in state.items() if not key.startswith(found.legacy)} if found.legacy else state
    model = _build(path, found, state)
    return Checkpoint(found, model.eval(), path.name, sha256_of(path))


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder; expected a checkpoint file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its readers raise
        foreign = _FOREIGN.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if foreign:
            raise CheckpointError(
                f"{path.name}: holds Python objects other than tensors ({foreign[1]}), which are never loaded; "
                "expected a state_dict alone"
            ) from error
        raise CheckpointError(f"{path.name}: {_what_is(path)}; expected a file of torch.save") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path.name}: holds a {type(content).__name__}; expected a state dict")
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        keys = f"its keys are {_some(content)}" if content else "it is empty"
        raise CheckpointError(f"{path.name}: holds no tensors, {keys}; expected a state dict, alone or as state_dict")
    return tensors


def _what_is(path: Path) -> str:
    """Say what kind of unreadable file this is."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        return "is empty"
    if start.startswith(b"PK"):
        return "is an archive of something else" if zipfile.is_zipfile(path) else "is a damaged or cut archive"
    for magic, kind in (
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"MLIC", "a .mlic file"),
        (b"\x80", "a pickle that is cut or of something else"),
    ):
        if start.startswith(magic):
            return f"is {kind}"
    return f"starts with bytes {start.hex(' ')}"


def _official_name(key: str) -> str:
    return _BOTTLENECK.sub(lambda m: f"{m[1]}{_SINGULAR[m[2]]}{m[3]}", key)


def _build(path: Path, architecture: Architecture, state: dict[str, Tensor]) -> nn.Module:
    where = f"{path.name}: looks like {architecture.title}, but"
    try:
        # Without memory, whatever widths the shapes claim; a width of zero makes torch warn.
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sketch = architecture.build(state)
    except KeyError as error:
        raise CheckpointError(f"{where} {error.args[0]} is missing") from error
    except (IndexError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise CheckpointError(f"{where} with impossible widths: {' '.join(str(error).split())}") from error
    if problems := _problems(state, sketch):
        raise CheckpointError(f"{where} {'; '.join(problems)}")
    model = architecture.build(state)
    for key, value in state.items():
        if key.endswith(_TABLES):
            # Tables may be empty or filled; their buffers take the file's shape.
            holder, _, leaf = key.rpartition(".")
            setattr(model.get_submodule(holder), leaf, torch.empty_like(value))
    model.load_state_dict(state, strict=False)
    return model


def _problems(state: dict[str, Tensor], sketch: nn.Module) -> list[str]:
    """Return what is wrong with the keys and shapes of ``state``, or, if nothing is, with its values."""
    own = sketch.state_dict()
    parameters = dict(sketch.named_parameters())
    problems = []
    missing = sorted(key for key in parameters if key not in state)
    unknown = sorted(key for key in state if key not in own)
    shapes = [
        f"{key} is {list(state[key].shape)}, expected {list(own[key].shape)}"
        for key in own
        if key in state and not key.endswith(_TABLES) and state[key].shape != own[key].shape
    ]
    types = [
        key
        for key, value in state.items()
        if value.layout != torch.strided or (key in parameters and not value.is_floating_point())
    ]
    empty = [key for key, value in parameters.items() if value.numel() == 0]
    if missing:
        problems.append(f"{len(missing)} of {len(parameters)} parameters missing ({_some(missing)})")
    if unknown:
        problems.append(f"{len(unknown)} unknown keys ({_some(unknown)})")
    if shapes and not missing:  # widths are read off keys, so one that is missing makes others look wrong
        more = f" and {len(shapes) - _SHOWN} more" if len(shapes) > _SHOWN else ""
        problems.append("; ".join(shapes[:_SHOWN]) + more)
    if types:
        found = state[types[0]]
        problems.append(f"{found.layout} tensor of {found.dtype} in {_some(types)}; expected dense floats")
    if empty:
        problems.append(f"no values in {_some(empty)}")
    if not problems:
        bad = [key for key in parameters if not torch.isfinite(state[key]).all()]
        if bad:
            problems.append(f"values that are not finite in {_some(bad)}")
        scales = state.get(_SCALE_TABLE, torch.empty(0))
        if not _is_scale_table(scales):
            problems.append(f"{_SCALE_TABLE} is {list(scales.shape)}; expected up to 256 rising scales, all positive")
    return problems


def _is_scale_table(scales: Tensor) -> bool:
    """Tell whether rows of frequencies can be made for these scales; an empty table stands for the usual one."""
    if scales.ndim != 1 or len(scales) > MAX_ROWS:
        return False
    rising = bool((scales[1:] > scales[:-1]).all())
    return rising and bool((scales > 0).all()) and bool((scales <= SCALE_LIMIT).all())


def _some(keys: Any) -> str:
    keys = list(keys)
    return ", ".join(str(key) for key in keys[:_SHOWN]) + ("…" if len(keys) > _SHOWN else "")
