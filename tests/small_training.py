"""A training run small enough for tests: tiny models, two crops a step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlic.export.models.mlicpp import MlicppWidths
from mlic.export.models.slices import SliceWidths
from mlic.tools.trainer import Trainer

WIDTHS = MlicppWidths(n=16, m=32, entropy_parameters=(24, 20, 16), lrp=(20, 12), channel_context=(12, 10))
SLICES = SliceWidths(
    m=64, n=8, num_slices=4, support=2, h_a=(16, 16, 16, 16), h_s=(8, 8, 16, 16), stack=(24, 16, 16, 8)
)
OPTIONS: dict[str, Any] = {
    "rate_lambda": 0.013, "learning_rate": 1e-3, "decay": 1.0, "batch": 2, "crop": 64, "minutes": 0, "steps": 6,
    "ema": 0.9, "bf16": False, "seed": 3,
}  # fmt: skip

Make = Callable[..., Trainer]


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """Return a copy of the model's state."""
    return {key: value.clone() for key, value in trainer.model.state_dict().items()}


def steps(trainer: Trainer, count: int) -> list[dict[str, float]]:
    """Take steps and return what each of them gave."""
    return [trainer.train_step() for _ in range(count)]


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare two states, bit by bit."""
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def load_state(folder: Path) -> dict[str, Tensor]:
    """Return the state that a run left for the exporter."""
    state: dict[str, Tensor] = torch.load(folder / "weights.pth")["state_dict"]
    return state
