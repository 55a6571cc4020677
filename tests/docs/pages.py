"""The documents for users, their fenced blocks and what the comments before those say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), ROOT / "runtime/native/README.md"]
LINKED = [*PAGES, ROOT / "MODEL_CARD.md", ROOT / "CHANGELOG.md", ROOT / "tests/photos/SOURCES.md"]

_FENCE = re.compile(r"^```(.*)$")
_MARK = re.compile(r"^<!-- (not run|status): (.+) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: where it stands.
        line: of its first line, from 1.
        language: what stands behind the fence.
        text: its lines, each with its end.
        not_run: the reason that the comment before it gives why it cannot be run here; empty if it can.
        status: exit status that its last command ends with.
    """

    page: Path
    line: int
    language: str
    text: str
    not_run: str = ""
    status: int = 0

    @property
    def place(self) -> str:
        """The page and the line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page in order.

    Comments ``<!-- not run: reason -->`` and ``<!-- status: 1 -->`` right before a block are about it.
    """
    found: list[Block] = []
    marks: dict[str, str] = {}
    inside: list[str] | None = None
    language, first = "", 0
    for number, line in enumerate((page.read_text() if text is None else text).splitlines(), 1):
        fence = _FENCE.match(line.strip())
        if inside is not None:
            if fence:
                status = int(marks.get("status", "0"))
                found.append(Block(page, first, language, "".join(inside), marks.get("not run", ""), status))
                inside, marks = None, {}
            else:
                inside.append(line + "\n")
        elif fence:
            inside, language, first = [], fence[1], number + 1
        elif mark := _MARK.match(line):
            marks[mark[1]] = mark[2]
        elif line.strip():
            assert not marks, f"{page}:{number}: a comment about a block stands before something else"
    assert inside is None, f"{page}: a block does not end"
    return found
