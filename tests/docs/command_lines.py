"""Whether commands in documents exist: names, options, values, extras and targets, without running anything."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import tomllib
from functools import cache
from typing import Any

import typer

from tests.commands import MODULES
from tests.docs.pages import ROOT

PROGRAMS = ("cmake", "ls", ".")  # not ours: only their names are looked at
FOREIGN_PACKAGES = ("torch==2.13.0",)
PACKAGE = "mlic-deploy"
OPERATORS = {"|", "||", "&&", ";", "&"}
REDIRECTIONS = {">", ">>", "<", "2>"}


def command_of(module: str) -> Any:
    """Return the click command of a module with a typer app or a ``main``, or of a package's program."""
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    app = getattr(found, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command()(found.main)
    return typer.main.get_command(app)


def check_command_line(line: str) -> None:
    """Raise an AssertionError if something in a line for a shell does not exist."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += "[]{}=+:,…@%^!"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in OPERATORS:
            if words:
                _check(words, line)
            words = []
        else:
            words.append(word)


def _check(words: list[str], line: str) -> None:
    while words and re.match(r"[A-Z_]+=", words[0]):  # variables of the environment
        words = words[1:]
    for place, word in enumerate(words):
        if word in REDIRECTIONS:
            words = words[:place]
            break
    program, *arguments = words
    if program in MODULES:
        check_arguments(command_of(MODULES[program]), arguments, line)
    elif program == "python" and arguments[:1] == ["-m"]:
        _check_module(arguments[1], arguments[2:], line)
    elif program == "pip":
        _check_pip(arguments, line)
    elif program == "make":
        unknown = [target for target in arguments if "=" not in target and target not in make_targets()]
        assert not unknown, f"{line}: no target {unknown[0]} in the Makefile"
    else:
        assert program in PROGRAMS, f"{line}: {program} is not known to tests/docs/command_lines.py"


def _check_module(module: str, arguments: list[str], line: str) -> None:
    if module == "venv":
        return
    if module == "pip":
        _check_pip(arguments, line)
        return
    assert module.split(".", maxsplit=1)[0] in ("mlic", "tests"), f"{line}: module {module}"
    assert importlib.util.find_spec(module), f"{line}: no module {module}"
    if module.startswith("mlic."):
        check_arguments(command_of(module), arguments, line)


def check_arguments(command: Any, arguments: list[str], line: str) -> None:
    """Let a command take its arguments apart, without doing what it is for."""
    if "--help" in arguments:
        return
    if hasattr(command, "commands"):
        if arguments and arguments[0].startswith("-"):
            options = [name for option in command.params for name in option.opts]
            assert arguments[0] in options, f"{line}: no option {arguments[0]}"
            return
        assert arguments, f"{line}: no command"
        assert arguments[0] in command.commands, f"{line}: no command {arguments[0]}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    try:
        command.make_context(command.name, list(arguments))
    except Exception as error:  # click's usage errors, whichever copy of click typer has
        raise AssertionError(f"{line}: {getattr(error, 'message', error)}") from error


def _check_pip(arguments: list[str], line: str) -> None:
    assert arguments[:1] == ["install"], line
    for package in arguments[1:]:
        if package.startswith("-") or package in FOREIGN_PACKAGES:
            continue
        match = re.fullmatch(rf"(?:\.|{PACKAGE})(?:\[([\w,-]+)\])?", package)
        assert match, f"{line}: package {package}"
        unknown = {extra for extra in (match[1] or "").split(",") if extra} - extras()
        assert not unknown, f"{line}: no extra {unknown}"


@cache
def extras() -> set[str]:
    """Return the names of the extras of the package."""
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


@cache
def make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
