"""Packages come from the mirror that this machine uses, and what fails is said in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlic.tools.engines import debian
from mlic.tools.engines.debian import SetupError, find_mirror

LINES = """
# deb http://commented.example/debian bookworm main
deb-src http://sources.example/debian bookworm main
deb http://security.example/debian bookworm-security main
deb http://other.example/packages stable tools
deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.example/debian bookworm main contrib
"""

PARAGRAPHS = """Types: deb
URIs: http://other.example/packages
Suites: stable
Components: tools

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

# the archive
Types: deb deb-src
URIs: http://mirror.example/debian http://second.example/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://security.example/debian
Suites: trixie-security
Components: main
"""

EXPECTED = "deb [signed-by=/keys/debian.gpg] http://mirror.example/debian"


@pytest.mark.parametrize("text", [LINES, PARAGRAPHS])
def test_mirror_is_the_one_that_apt_uses_for_releases(text: str):
    assert find_mirror(["", text]) == EXPECTED


def test_mirror_without_options_has_none():
    assert find_mirror(["deb [arch=amd64] http://a.example/debian trixie main"]) == "deb http://a.example/debian"
    assert find_mirror([PARAGRAPHS.replace("Signed-By", "X-Key")]) == "deb http://mirror.example/debian"


def test_machine_without_a_mirror_of_debian_is_told_so():
    with pytest.raises(SetupError, match="no mirror of Debian"):
        find_mirror([LINES.replace(" bookworm main contrib", " jammy main")])


def test_command_that_fails_says_why_in_one_line(tmp_path: Path):
    script = "import sys; sys.exit('W: a warning\\nE: not to be reached\\nE: and more')"
    with pytest.raises(SetupError) as caught:
        debian.run([sys.executable, "-c", script], folder=tmp_path)
    assert str(caught.value) == f"{Path(sys.executable).name} failed: E: not to be reached"
