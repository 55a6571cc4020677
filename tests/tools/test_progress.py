"""Progress: on a terminal, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.commands import environment, on_terminal

STAGES = """
from mlic.tools.progress import progress_bar
with progress_bar(3, {quiet}) as begin:
    for name in ("g_a", "h_a", "step_00"):
        begin(name)
"""
TRAINING = """
from mlic.tools.progress import training_bar
with training_bar({quiet}) as show:
    show(0.1, {{"step": 41}})
    show(0.5, {{"step": 42, "loss": 1.234567, "bpp": 0.5, "psnr": 28.125}})
"""


def shown(code: str, cwd: Path, quiet: bool = False) -> str:
    status, seen, _ = on_terminal([sys.executable, "-c", code.format(quiet=quiet)], None, cwd)
    assert status == 0
    return seen


def test_terminal_sees_the_last_stage_and_how_many_there_are(tmp_path: Path):
    seen = shown(STAGES, tmp_path)
    assert "step_00" in seen
    assert "2/3" in seen  # the third has begun


def test_terminal_sees_loss_rate_and_quality_of_training(tmp_path: Path):
    seen = shown(TRAINING, tmp_path)
    assert "step 42" in seen
    assert "loss 1.235  0.500 bpp  28.12 dB" in seen


def test_quiet_terminal_and_pipe_see_nothing(tmp_path: Path):
    for code in (STAGES, TRAINING):
        assert shown(code, tmp_path, quiet=True) == ""
        result = subprocess.run(
            [sys.executable, "-c", code.format(quiet=False)],
            capture_output=True,
            env=environment({"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}),
            check=True,
        )
        assert (result.stdout, result.stderr) == (b"", b"")
