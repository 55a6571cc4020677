"""The limits that ``docs/security.md`` lists are those of the code."""

from __future__ import annotations

import importlib
import re

from tests.docs.pages import DOCS


def limits() -> list[tuple[str, int, int]]:
    """Return what each row of the table limits, to what, and the constant that the row names."""
    section = (DOCS / "security.md").read_text().partition("## Limits")[2].partition("\n## ")[0]
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 4 or not (named := re.fullmatch(r"`([A-Z_]+)`, `(\w+/\w+)\.py`", cells[2])):
            continue
        number = re.search(r"\d+(\^\d+)?", cells[1])
        assert number, line
        base, _, power = number[0].partition("^")
        constant = getattr(importlib.import_module(f"mlic.{named[2].replace('/', '.')}"), named[1])
        found.append((cells[0], int(base) ** int(power or 1), constant))
    return found


def test_limits_of_the_page_are_the_constants_that_it_names():
    assert len(limits()) >= 11
    assert [(what, stated) for what, stated, _ in limits()] == [(what, value) for what, _, value in limits()]
