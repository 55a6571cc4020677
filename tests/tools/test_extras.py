"""Commands whose extra is not installed, and what they tell to install."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlic.tools.extras import TORCH
from tests.commands import environment

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "add_tiling": "export",
    "bench.precision": "report",
    "bench.repair_rate": "report",
    "bench.roofline": "calibrate",
    "bench.scaling": "report",
    "change_rate": "export",
    "checkpoint_parts": "export",
    "linear_start": "export",
    "ray_batch": "ray",
    "train": "export",
    "training_plot": "report",
}


@pytest.mark.parametrize("module", MODULES)
def test_module_without_its_extra_is_one_line(module: str):
    script = f"""
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "matplotlib", "jinja2", "ray", "pyarrow", "scipy"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import mlic.tools.extras

mlic.tools.extras.find_spec = lambda name: None
sys.argv = ["x", "--help"]
runpy.run_module("mlic.tools.{module}", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    torch = f"{TORCH} && " if MODULES[module] == "export" else ""
    name = module.rpartition(".")[2]
    assert re.fullmatch(
        rf"{name}: cannot import \w+: {torch}pip install 'mlic-deploy\[{MODULES[module]},cpu\]'\n", done.stderr
    ), done.stderr
    assert (done.returncode, done.stdout) == (1, "")


def test_every_extra_that_is_named_exists_and_is_quoted_for_the_shell():
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = set()
    files = [path for folder in ("calibration", "export", "runtime", "tools") for path in (ROOT / folder).rglob("*.py")]
    for path in files:
        for before, names, after in re.findall(r"(.)mlic-deploy\[([a-z,-]+)\](.)", path.read_text()):
            assert (before, after) == ("'", "'"), path
            named |= set(names.split(","))
        for names in re.findall(r"(?:install_command|required)\(([^)]*)\)", path.read_text()):
            named |= set(re.findall(r"['\"]([a-z-]+)['\"]", names)) & extras
    assert named <= extras
    assert extras - named == {"test"}


def test_torch_is_named_as_everywhere_else():
    assert TORCH in (ROOT / "README.md").read_text()
    assert TORCH.removeprefix("pip ") in (ROOT / "Makefile").read_text().replace("--quiet ", "")
