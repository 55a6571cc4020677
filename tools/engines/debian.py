"""Packages of other releases and architectures of Debian, unpacked into folders of their own.

They come from the mirror that apt uses already, through a state of apt that belongs to one call: nothing of this
machine is installed, changed or read beyond apt's own sources and proxies.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

RECIPE = ".recipe"  # last file of what ``make_once`` makes, and what it was made of
SUITES = ("stable", "testing", "oldstable", "bullseye", "bookworm", "trixie", "forky", "sid")  # of Debian's archive


class SetupError(Exception):
    """Something cannot be set up; the text is one line."""


def find_mirror(sources: Iterable[str]) -> str:
    """Return the mirror of Debian's archive that apt uses, as a line of ``sources.list`` begins.

    Args:
        sources: contents of apt's source files, in either format.

    Returns:
        ``deb [signed-by=...] URI``, to be followed by suite and components.

    Raises:
        SetupError: none of them names a release of Debian.
    """
    for text in sources:
        for options, uri, suites in [*_one_line_sources(text), *_paragraph_sources(text)]:
            if any(suite in SUITES for suite in suites):
                return f"deb [{options}] {uri}" if options else f"deb {uri}"
    raise SetupError("apt's sources name no mirror of Debian")


def _one_line_sources(text: str) -> list[tuple[str, str, list[str]]]:
    """Return options, URI and suites of each line ``deb [options] URI suite component ...``."""
    lines = re.findall(r"^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s.*\bmain\b", text, re.MULTILINE)
    # An entry may be limited to this machine's architecture
    return [(re.sub(r"\barch=\S+", "", options).strip(), uri, [suite]) for options, uri, suite in lines]


def _paragraph_sources(text: str) -> list[tuple[str, str, list[str]]]:
    """Return options, URI and suites of each paragraph of fields."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields = {key.lower(): value.split() for key, value in re.findall(r"^([\w-]+):(.*)$", paragraph, re.MULTILINE)}
        binary = "deb" in fields.get("types", []) and "main" in fields.get("components", [])
        if binary and fields.get("uris") and fields.get("enabled") != ["no"]:
            keys = fields.get("signed-by")  # empty where the key itself stands in the lines that follow
            found.append((f"signed-by={','.join(keys)}" if keys else "", fields["uris"][0], fields.get("suites", [])))
    return found


def make_once(place: Path, recipe: str, make: Callable[[Path], None]) -> None:
    """Make a folder, unless it is there and was made by the same recipe.

    Args:
        place: the folder; removed first if it was made otherwise or not to its end.
        recipe: all that its contents depend on; the first line is printed.
        make: fills it.
    """
    stamp = place / RECIPE
    title = f"  {place.name}: {recipe.splitlines()[0]}"
    if stamp.is_file() and stamp.read_text() == recipe:
        print(f"{title}, is there")
        return
    print(f"{title} ...", end="", flush=True)
    begin = time.perf_counter()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    try:
        make(place)
    except BaseException:
        print()  # ends the line
        raise
    stamp.write_text(recipe)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    print(f" {size / 1e6:.0f} MB after {time.perf_counter() - begin:.0f} s")


def download(folder: Path, suite: str, packages: Sequence[str], architecture: str | None = None) -> list[Path]:
    """Fetch packages of a release of Debian with a state of apt that belongs to this call alone.

    Args:
        folder: empty; state and packages go there.
        suite: the release.
        packages: their names.
        architecture: default: this machine's.

    Returns:
        The files.

    Raises:
        SetupError: apt failed.
    """
    folder = folder.absolute()
    host = Path("/etc/apt")
    files = [host / "sources.list", *sorted(host.glob("sources.list.d/*.list"))]
    files += sorted(host.glob("sources.list.d/*.sources"))
    mirror = find_mirror(path.read_text() for path in files if path.is_file())
    (folder / "sources.list").write_text(f"{mirror} {suite} main\n")
    for place in ("state/lists/partial", "cache/archives/partial"):
        (folder / place).mkdir(parents=True)
    # Read after the machine's own settings: its proxies and certificates stay, its lists, pins and hooks do not.
    settings = [
        "#clear APT::Update;",
        "#clear DPkg;",
        f'Dir::Etc::sourcelist "{folder}/sources.list";',
        'Dir::Etc::sourceparts "/dev/null";',
        'Dir::Etc::preferences "/dev/null";',
        'Dir::Etc::preferencesparts "/dev/null";',
        f'Dir::State "{folder}/state";',
        'Dir::State::status "/dev/null";',
        f'Dir::Cache "{folder}/cache";',
        'APT::Update::Error-Mode "any";',  # otherwise a mirror that is not reached is a warning
        'Acquire::Languages "none";',
    ]
    if architecture:
        settings += [
            f'APT::Architecture "{architecture}";',
            "#clear APT::Architectures;",
            f'APT::Architectures {{"{architecture}";}};',
        ]
    (folder / "apt.conf").write_text("\n".join(settings) + "\n")
    apt = ["apt-get", "--quiet", "--config-file", str(folder / "apt.conf")]
    run([*apt, "update"], folder=folder)
    run([*apt, "download", *packages], folder=folder)
    return sorted(folder.glob("*.deb"))


def run(line: Sequence[str], folder: Path | None = None, variables: dict[str, str] | None = None) -> str:
    """Run a command and return its output as text; see ``run_for_bytes``."""
    return run_for_bytes(line, folder, variables).decode(errors="replace")


def run_for_bytes(line: Sequence[str], folder: Path | None = None, variables: dict[str, str] | None = None) -> bytes:
    """Run a command and return its output.

    Args:
        line: the command.
        folder: where it runs; default: here.
        variables: its whole environment; default: this process's.

    Raises:
        SetupError: it failed; the text is its own line about it.
    """
    done = subprocess.run(line, capture_output=True, cwd=folder, env=variables, check=False)  # noqa: S603 - ours, above
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        said = said or [f"status {done.returncode}"]
        blamed = next((line for line in said if line.startswith(("E:", "ERROR:"))), said[-1])
        tool = line[2] if line[1] == "-m" else Path(line[0]).name
        raise SetupError(f"{tool} failed: {blamed.strip()}")
    return done.stdout
