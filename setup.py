"""What pyproject.toml cannot say: the long description is the README without its relative links, which lead nowhere."""

import re
from pathlib import Path

from setuptools import setup

_PICTURE = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)]+\)\n+")
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


def standalone(readme: str) -> str:
    """Return Markdown in which pictures of the repository are left out and its other files are named, not linked."""

    def named(link: re.Match[str]) -> str:
        text, target = link.groups()
        return target if target in text else f"{text} `{target}`"

    return _LINK.sub(named, _PICTURE.sub("", readme))


if __name__ == "__main__":
    setup(
        long_description=standalone(Path("README.md").read_text(encoding="utf-8")),
        long_description_content_type="text/markdown",
    )
