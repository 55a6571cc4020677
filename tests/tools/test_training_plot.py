"""Learning curves from the logs of runs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlic.runtime.errors import MlicError
from mlic.tools.training_plot import app, read_log, steps_before


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, count in (("trunk", 3), ("branch", 2)):
        (tmp_path / name).mkdir()
        rows = [
            {"step": 100 * (i + 1), "train": {}, "held_out": {"loss": 2.0 - i, "bpp": 0.5, "psnr": 30.0}}
            for i in range(count)
        ]
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_figure_names_every_run(runs: Path):
    arguments = [str(runs / "trunk"), str(runs / "branch" / "log.jsonl"), "-o", str(runs / "t.svg")]
    result = CliRunner().invoke(app, [*arguments, "--after", "branch:trunk"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    text = (runs / "t.svg").read_text()
    assert all(name in text for name in ("trunk", "branch", "held-out loss", "PSNR (dB)"))


def test_steps_are_counted_on_from_the_parent(runs: Path):
    logs = {name: read_log(runs / name) for name in ("trunk", "branch")}
    assert steps_before("branch", logs, {"branch": "trunk"}) == 300
    assert steps_before("trunk", logs, {"branch": "trunk"}) == 0
    with pytest.raises(MlicError, match="none of the runs"):
        steps_before("branch", logs, {"branch": "root"})
    with pytest.raises(MlicError, match="its own parent"):
        steps_before("branch", logs, {"branch": "trunk", "trunk": "branch"})


def test_run_without_validation_is_one_line(runs: Path):
    (runs / "trunk" / "log.jsonl").write_text("")
    result = CliRunner().invoke(app, [str(runs / "trunk"), "-o", str(runs / "t.svg")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
