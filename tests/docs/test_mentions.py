"""Commands, options, keys and classes that documents mention within their text are there."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlic.runtime import errors
from mlic.runtime.shipped import shipped_bundle
from tests.commands import MODULES
from tests.docs.command_lines import command_of
from tests.docs.console import steps_of
from tests.docs.pages import DOCS, LINKED, PAGES, ROOT, blocks_of

_FENCES = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_MENTION = re.compile(r"`((?:mlic-(?:run|export|calibrate)|python -m mlic\.)[^`]*)`")


def problem(line: str) -> str:
    """Return what a command line names that does not exist; its values may be placeholders."""
    words = line.split()
    if words[0] == "python":
        if words[2].endswith("…"):
            return ""
        command, words = command_of(words[2]), words[2:]
    else:
        command = command_of(MODULES[words[0]])
    groups = [command]
    if hasattr(command, "commands"):
        named = [word for word in words[1:] if re.fullmatch(r"[a-z_]+", word)][:1]
        if named and named[0] not in command.commands:
            return f"{line}: no command {named[0]}"
        groups += [command.commands[name] for name in named]
    known = {"--help"} | {
        name for group in groups for option in group.params for name in (*option.opts, *option.secondary_opts)
    }
    unknown = [word for word in words if re.fullmatch(r"--?[a-z][\w-]*", word) and word not in known]
    return f"{line}: no option {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_within_the_text_exist(page: Path):
    text = re.sub(r"\s+", " ", _FENCES.sub("", page.read_text()))
    lines = _MENTION.findall(text)
    if page not in PAGES:  # whose blocks test_pages.py takes apart
        lines += [step.command for block in blocks_of(page) if block.language == "console" for step in steps_of(block)]
    found = [problem(line) for line in lines if line.startswith(("mlic-", "python -m mlic."))]
    assert [text for text in found if text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path):
    text = re.sub(r"\s+", " ", _FENCES.sub("", page.read_text()))
    named = re.findall(r"`((?:calibration|docs|export|runtime|tests|tools)/[\w./-]+)`", text)
    named += [name for block in blocks_of(page) for name in re.findall(r"(?:tests/|\.ci/)[\w/.]*\w", block.not_run)]
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "line", ["mlic-run recode", "mlic-run encode --speed N", "mlic-export --arc stf", "python -m mlic.tools.train --x"]
)
def test_commands_that_do_not_exist_are_noticed(line: str):
    assert problem(line)


def keys_of(example: dict[str, Any], real: dict[str, Any], path: str = "") -> list[str]:
    """Return the keys of an example that the real object has not, except where it has something else entirely."""
    found = []
    for key, value in example.items():
        if key not in real:
            found.append(f"{path}{key}")
        elif isinstance(value, dict):
            found += keys_of(value, real[key], f"{path}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            found += keys_of(value[0], real[key][0], f"{path}{key}.")
    return found


def json_blocks() -> list[str]:
    """Return the examples of the bundle's page: a manifest, what an integer bundle's has besides, a certificate."""
    blocks = [block.text for block in blocks_of(DOCS / "bundle-format.md") if block.language == "json"]
    assert len(blocks) == 3
    return blocks


def test_manifest_of_the_page_has_the_keys_of_a_real_one():
    example = json.loads(json_blocks()[0])
    real = json.loads((shipped_bundle("medium") / "manifest.json").read_text())
    assert keys_of(example, real) == []
    assert set(example) == set(real)
    for key in ("format", "format_version", "name", "architecture", "model_id", "arithmetic", "padding", "latent"):
        assert example[key] == real[key]
    graphs = {graph["name"]: graph for graph in real["graphs"]}
    for graph in example["graphs"]:
        assert {**graph, "sha256": ""} == {
            key: "" if key == "sha256" else value for key, value in graphs[graph["name"]].items() if key in graph
        }
    assert [step for step in example["steps"] if step not in real["steps"]] == []


def test_certificate_of_the_page_is_a_real_one(integer_folder: Path):
    entry, example = (json.loads(text.replace('"…"', '""')) for text in json_blocks()[1:])
    manifest = json.loads((integer_folder / "manifest.json").read_text())
    real = json.loads((integer_folder / "certificate.json").read_text())
    assert keys_of(entry, manifest) == []
    assert {*entry["certificate"]} == {*manifest["certificate"]}
    assert entry["certificate"]["path"] == manifest["certificate"]["path"]
    assert entry["arithmetic"] == manifest["arithmetic"]
    assert set(example) == set(real)
    assert (example["format"], example["format_version"]) == (real["format"], real["format_version"])
    ((case,), first) = example["cases"], real["cases"][0]
    assert {**case, "sha256": {}} == {**first, "sha256": {}}
    assert set(case["sha256"]) <= set(first["sha256"])


def test_arrays_of_the_tables_are_those_of_the_page():
    section = (DOCS / "bundle-format.md").read_text().partition("## tables.npz")[2].partition("\n## ")[0]
    named = {name for line in section.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    with np.load(shipped_bundle("medium") / "tables.npz") as tables:
        assert set(tables) <= named
        dtypes = {name: tables[name].dtype.name for name in tables}
    for line in section.splitlines():
        if stated := re.match(r"\| `(\w+)` \| (\w+\d+)", line):
            assert dtypes[stated[1]] == stated[2]


def test_errors_of_the_page_are_those_of_the_runtime():
    (block,) = [b for b in blocks_of(DOCS / "python.md") if b.language == "text" and b.text.startswith("MlicError")]
    parents: list[tuple[int, str]] = []
    for line in block.text.splitlines():
        found = re.match(r"([│├└─ ]*)(\w+)", line)
        assert found
        depth, name = len(found[1]), found[2]
        parents = [parent for parent in parents if parent[0] < depth]
        if parents:
            assert getattr(errors, parents[-1][1]) in getattr(errors, name).__bases__
        parents.append((depth, name))
    classes = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.MlicError)}
    assert classes - set(re.findall(r"\w+", block.text)) == {"GraphRefusedError"}  # a BackendError with details
