"""``docs/command-line.md`` has every option of every command, with its default, and no other."""

from __future__ import annotations

import enum
import re
from typing import Any

import pytest

from tests.commands import MODULES
from tests.docs.command_lines import command_of
from tests.docs.pages import DOCS, ROOT

PAGE = (DOCS / "command-line.md").read_text()
COMPLETION = {"--install-completion", "--show-completion"}  # of typer, described once
DEVELOPERS = {"demo", "fuzz.__main__", "engines.install", "engines.native", "engines.aarch64"}
WORKERS = {"engines.codec_job", "engines.ort_worker"}  # other programs start these


def commands() -> dict[str, Any]:
    """Return all commands that users call, by what they type."""
    found: dict[str, Any] = {}
    names = MODULES | {f"python -m mlic.tools.{tool}": f"mlic.tools.{tool}" for tool in sorted(documented_tools())}
    for name, module in names.items():
        command = command_of(module)
        parts = getattr(command, "commands", None)
        found |= {f"{name} {part}": value for part, value in parts.items()} if parts else {name: command}
    return found


def documented_tools() -> set[str]:
    """Return the modules in ``tools`` that are run by ``python -m``."""
    found = set()
    for path in (ROOT / "tools").rglob("*.py"):
        text = path.read_text()
        if 'if __name__ == "__main__":' in text:
            found.add(".".join(path.relative_to(ROOT / "tools").with_suffix("").parts))
    return found - DEVELOPERS - WORKERS - {module.removeprefix("mlic.tools.") for module in MODULES.values()}


def sections() -> dict[str, str]:
    """Return what the page says of each command."""
    parts = re.split(r"^##+ (.*)$", PAGE, flags=re.MULTILINE)[1:]
    return {title[1:-1]: text for title, text in zip(parts[::2], parts[1::2], strict=True) if title.startswith("`")}


def rows(text: str) -> dict[frozenset[str], str]:
    """Return the default of each option in a section's tables, by its names."""
    found: dict[frozenset[str], str] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0].startswith("`-"):
            names = frozenset(re.findall(r"`(-[\w-]+)", cells[0]))
            assert names not in found, line
            found[names] = cells[1].strip("`")
            assert cells[2], line
    return found


def options(command: Any) -> dict[frozenset[str], str]:
    """Return the default of each option of a command, as the page writes it."""
    found = {}
    for option in command.params:
        if option.param_type_name != "option" or COMPLETION & set(option.opts):
            continue
        default = option.default.value if isinstance(option.default, enum.Enum) else option.default
        if option.required:
            text = "required"
        elif option.is_flag:
            text = "on" if default else ""
        elif isinstance(default, tuple):
            text = " ".join(map(str, default))
        else:
            text = "" if default is None else str(default)
        found[frozenset([*option.opts, *option.secondary_opts])] = text
    return found


def test_page_has_every_command_and_no_other():
    assert set(sections()) == set(commands())
    for tool in DEVELOPERS:
        assert f"`mlic.tools.{tool.removesuffix('.__main__')}`" in PAGE


@pytest.mark.parametrize("name", commands())
def test_options_and_defaults_of_a_command_are_those_of_the_page(name: str):
    assert rows(sections()[name]) == options(commands()[name])


@pytest.mark.parametrize("name", commands())
def test_arguments_of_a_command_are_in_the_page(name: str):
    expected = [argument for argument in commands()[name].params if argument.param_type_name == "argument"]
    named = re.findall(r"^\| ((?:\[|[A-Z]).*?) \| (required|`.*?`|) \|", sections()[name], re.MULTILINE)
    assert [row[1] == "required" for row in named] == [argument.required for argument in expected]
    for (shown, _), argument in zip(named, expected, strict=True):
        wanted = re.sub(r"\W+$", "", (argument.metavar or argument.name.upper()).replace("...", "").replace("…", ""))
        assert shown.rstrip(" …]").startswith(wanted.rstrip("]"))


def test_options_that_other_pages_name_exist():
    known = {name for command in commands().values() for names in options(command) for name in names}
    known |= {"--help", "--version", "--engine", "--emulated", *COMPLETION}
    foreign = {"--system-site-packages"}
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)  # blocks are parsed whole
        for name in re.findall(r"`(--[a-z][\w-]*)", text):
            assert name in known | foreign, f"{page.name}: no command has {name}"
