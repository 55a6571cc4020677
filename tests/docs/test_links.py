"""Links between documents lead somewhere."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import DOCS, LINKED, ROOT

_FENCES = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[[^\[\]]*\]\(([^()\s]+)\)")


def links_of(text: str) -> list[str]:
    """Return where the links and pictures of a Markdown text lead; code holds none."""
    plain = _FENCES.sub("", text)
    # Code may be a link's text, so it gives way to something without brackets.
    return _LINK.findall(_CODE.sub("code", plain))


def anchor(title: str, seen: dict[str, int]) -> str:
    """Return the name that GitHub gives a heading; ``seen`` counts those of the page."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower().strip()
    name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
    count = seen.get(name, 0)
    seen[name] = count + 1
    return f"{name}-{count}" if count else name


@cache
def anchors_of(page: Path) -> set[str]:
    seen: dict[str, int] = {}
    titles = re.findall(r"^#+ (.*)$", _FENCES.sub("", page.read_text()), re.MULTILINE)
    return {anchor(title, seen) for title in titles}


def problems(page: Path, links: list[str]) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for link in links:
        if re.match(r"[a-z]+:", link):  # to other sites, which tests do not visit
            continue
        path, _, name = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        if not target.exists() or (name and name not in anchors_of(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path):
    assert problems(page, links_of(page.read_text())) == []


def test_every_page_is_in_the_index_and_in_the_readme():
    pages = {page.resolve() for page in DOCS.glob("*.md")} - {DOCS / "README.md"}
    for index in (DOCS / "README.md", ROOT / "README.md"):
        linked = {(index.parent / link.partition("#")[0]).resolve() for link in links_of(index.read_text())}
        assert pages <= linked


def test_links_are_found():
    text = "[a](b.md) ![c](d.svg)\n```text\n[no](no)\n```\n`[no](no)` [`code`](e.md#f) [g](https://h.org/i)"
    assert links_of(text) == ["b.md", "d.svg", "e.md#f", "https://h.org/i"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("`python -m mlic.tools.ray_batch`", "python--m-mlictoolsray_batch"),
        ("Which `--engine`", "which---engine"),
        ("C++ beside Python", "c-beside-python"),
        ("The file: `.mlic`, version 1", "the-file-mlic-version-1"),
        ("See [here](there.md)", "see-here"),
    ],
)
def test_anchors_are_githubs(title: str, name: str):
    assert anchor(title, {}) == name


def test_second_heading_of_a_name_has_a_number():
    seen: dict[str, int] = {}
    assert [anchor("Use", seen), anchor("Use", seen)] == ["use", "use-1"]


def test_links_that_lead_nowhere_are_noticed():
    page = ROOT / "README.md"
    assert problems(page, ["docs/nothing.md", "docs/gpu.md#nothing", "#nothing", "docs/gpu.md#measure"]) == [
        "docs/nothing.md",
        "docs/gpu.md#nothing",
        "#nothing",
    ]
