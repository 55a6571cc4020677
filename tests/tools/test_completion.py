"""Completion in the shells: commands, options and values, and in no time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlic.runtime.choices import BACKENDS, QUALITIES
from mlic.tools.compare.cli import AGAINST
from mlic.tools.run_options import bundle_completion
from tests.commands import MODULES, environment, run

SHELLS = {"bash": "complete -o default -F", "zsh": "#compdef", "fish": "complete --command"}


def completions(line: str) -> list[str]:
    """Return what bash offers at the end of a line."""
    words = line.split(" ")
    variables = {
        f"_{words[0].upper().replace('-', '_')}_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = run(words[0], variables=variables)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    return done.stdout.decode().split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("mlic-run ", ["encode", "decode", "info", "verify", "compare", "bench"]),
        ("mlic-run en", ["encode"]),
        ("mlic-run encode --qua", ["--quality"]),
        ("mlic-run encode --quality ", list(QUALITIES)),
        ("mlic-run encode photo.png --quality m", ["medium"]),
        ("mlic-run decode --backend ", list(BACKENDS)),
        ("mlic-run bench --backend t", ["tensorrt"]),
        ("mlic-run decode --format j", ["jpg", "jpeg"]),
        ("mlic-run verify --engines onnxruntime,o", ["onnxruntime,openvino"]),
        ("mlic-run verify --target tensorrt-", ["tensorrt-rtx"]),
        ("mlic-run compare --against ", list(AGAINST)),
        ("mlic-run compare --against jpeg,", [f"jpeg,{name}" for name in AGAINST[1:]]),
        ("mlic-run encode pho", []),  # bash goes on with names of files
        ("mlic-run encode --model ", []),
        ("mlic-run encode --model bun", []),
        ("mlic-run encode --model int", ["integer"]),
        ("mlic-run verify i", ["integer"]),
        ("mlic-run compare photos --model i", ["integer"]),
        ("mlic-run bench --model bundle --quality m", ["medium"]),
        ("mlic-export --engine b", ["bf16"]),
        ("mlic-export --tar", ["--target"]),
        ("mlic-calibrate --ranges m", ["mse", "min-max"]),
    ],
)
def test_values_commands_and_options_are_completed(line: str, expected: list[str]):
    assert completions(line) == expected


def test_a_file_goes_before_the_integer_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert bundle_completion("in") == ["integer"]
    (tmp_path / "int8").mkdir()
    assert bundle_completion("int") == []  # the shell goes on with names of files
    assert bundle_completion("inte") == ["integer"]


@pytest.mark.parametrize("command", MODULES)
@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_its_script(shell: str, command: str):
    done = run(command, variables={f"_{command.upper().replace('-', '_')}_COMPLETE": f"source_{shell}"})
    assert (done.returncode, done.stderr) == (0, b"")
    script = done.stdout.decode()
    assert SHELLS[shell] in script
    assert command in script


def test_bash_completes_with_the_script(tmp_path: Path):
    command = tmp_path / "mlic-run"
    command.write_text(f"#!{sys.executable}\nimport sys\nfrom mlic.tools.run_cli import main\nmain()\n")
    command.chmod(0o755)
    script = tmp_path / "completion.sh"
    script.write_bytes(run("mlic-run", variables={"_MLIC_RUN_COMPLETE": "source_bash"}).stdout)
    line = """
source completion.sh
COMP_WORDS=(mlic-run encode --quality h) COMP_CWORD=3
_mlic_run_completion mlic-run
echo "${COMPREPLY[@]}"
complete -p mlic-run
"""
    path = {"PATH": f"{tmp_path}:{environment()['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", line], cwd=tmp_path, env=environment(path), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "high"
    assert "-o default" in done.stdout  # names of files where there is nothing to offer


@pytest.mark.parametrize("command", MODULES)
@pytest.mark.parametrize("words", ["", "-", "encode --model bundle --quality m", "encode --model integer --quality m"])
def test_help_and_completion_load_neither_numpy_nor_an_engine(command: str, words: str):
    script = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "PIL", "constriction", "onnxruntime", "openvino", "torch", "onnx"):
            raise ImportError(f"{{name}} must not be imported")

sys.meta_path.insert(0, Refuse())
from {MODULES[command]} import main
sys.argv = [{command!r}, "--help"]
main()
"""
    wanted = {}
    if words:
        variable = f"_{command.upper().replace('-', '_')}_COMPLETE"
        wanted = {variable: "complete_bash", "COMP_WORDS": f"{command} {words}", "COMP_CWORD": str(len(words.split()))}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(wanted), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if words in ("", "-"):
        assert "--help" in done.stdout
    elif command == "mlic-run":
        assert done.stdout.split() == ["medium"]
