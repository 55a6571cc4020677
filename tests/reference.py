"""Reference data made with the official code: where it lies, filled weights, and comparisons with it.

``tests/golden/`` holds what fits into the repository. The full data, if there is any, lies in the folder that
the environment variable MLIC_REFERENCE names, or in ``../shared/reference`` beside the repository.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]
Golden = Mapping[str, Array]

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = REPOSITORY / "tests" / "golden"


def find_reference(name: str) -> Path | None:
    """Return the path of a reference file, or None."""
    folders = [GOLDEN, REPOSITORY.parent / "shared" / "reference"]
    if "MLIC_REFERENCE" in os.environ:
        folders.insert(1, Path(os.environ["MLIC_REFERENCE"]))
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def load_golden(name: str) -> dict[str, Array]:
    """Return the arrays of a reference file; skip the test where there is none."""
    path = find_reference(name)
    if path is None:
        pytest.skip(f"no {name} in tests/golden or MLIC_REFERENCE")
    with np.load(path) as arrays:
        return dict(arrays)


def state_list(model: str) -> list[dict[str, Any]]:
    """Return the entries (key, shape, dtype, is_buffer) of the official state dict."""
    path = find_reference(f"{model}_state.json")
    if path is None:
        pytest.skip(f"no {model}_state.json in tests/golden or MLIC_REFERENCE")
    result: list[dict[str, Any]] = json.loads(path.read_text())
    return result


def filled(model: str, seed: int = 1) -> dict[str, Tensor]:
    """Return the deterministic parameters that the references were made with; no buffers."""
    return {key: torch.from_numpy(value) for key, value in _fill_module().fill(state_list(model), seed).items()}


def digest(parameters: Mapping[str, Tensor]) -> bytes:
    """Return what goldens record as ``fill_sha256``."""
    return bytes.fromhex(_fill_module().digest({key: value.numpy() for key, value in parameters.items()}))


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Return the deterministic test picture, float32 [1, 3, height, width] in 0..1."""
    return torch.from_numpy(_fill_module().image(height, width, seed))


def state_of(module: nn.Module) -> set[tuple[str, tuple[int, ...], str, bool]]:
    """Return (key, shape, dtype, is_buffer) of each entry of a module's state dict."""
    parameters = {name for name, _ in module.named_parameters()}
    return {
        (key, tuple(value.shape), str(value.dtype).removeprefix("torch."), key not in parameters)
        for key, value in module.state_dict().items()
    }


def official_state(model: str) -> set[tuple[str, tuple[int, ...], str, bool]]:
    """Return the same of the official module."""
    return {(e["key"], tuple(e["shape"]), e["dtype"], e["is_buffer"]) for e in state_list(model)}


def largest_difference(found: Tensor, expected: Array) -> float:
    """Return the largest absolute difference; shapes must be equal."""
    assert tuple(found.shape) == expected.shape
    return float(np.abs(found.detach().numpy() - expected).max(initial=0.0))


def indexes_of(scales: Tensor) -> Array:
    """Return, for each scale, how many of the first 63 scales of the table lie below it."""
    table = torch.exp(torch.linspace(np.log(0.11), np.log(256.0), 64)).numpy()
    result: Array = np.searchsorted(table[:-1], np.maximum(scales.numpy(), np.float32(0.11)), side="left")
    return result


def bits(likelihoods: Tensor) -> float:
    """Return the sum of the information of all values."""
    return float(-torch.log2(likelihoods.double()).sum())


@contextmanager
def recorded_probes(model: nn.Module, golden: Golden, summed: str = "") -> Iterator[dict[str, Tensor]]:
    """Record the first output of each module for which ``golden`` has a probe; up to 192 values each.

    The last module of a sequence that the official code adds to its input in place is recorded after the sum;
    names that end in ``summed`` are such modules.
    """
    found: dict[str, Tensor] = {}

    def hook_for(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name not in found:
                values = (output + inputs[0] if is_summed(name) else output).detach().reshape(-1)
                count = golden[name].size
                found[name] = values[torch.arange(count) * values.numel() // count].clone()

        return hook

    def is_summed(name: str) -> bool:
        return bool(summed) and name.endswith(summed)

    handles = []
    for name in golden:
        if name.startswith("probe/"):
            path = name.removeprefix("probe/")
            module = model.get_submodule(path.rpartition(".")[0] if is_summed(name) else path)
            handles.append(module.register_forward_hook(hook_for(name)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@cache
def _fill_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mlic_reference_fill", GOLDEN / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
