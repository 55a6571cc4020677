"""ONNX Runtime on arm64, emulated: ``python -m mlic.tools.engines.aarch64`` sets it up.

``qemu-aarch64`` runs the programs of another processor, one process at a time, without a virtual machine and without
any change to this one. Beside it lie Debian's arm64 Python, the arm64 wheel of the ONNX Runtime that is installed here,
and links to this package's runtime. Everything comes from the mirrors that apt and pip use already, and goes into one
folder.

constriction has no wheel for this platform; ``constriction_twin.py`` takes its place.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlic.runtime

FOLDER = Path("build/engines/aarch64")  # in the current folder, as all that the Makefile makes
READY = ".ready"  # last file of a set-up, which may have been interrupted
RECIPE = ".recipe"  # last file of each part, and what it was made of

PYTHON_SUITE, PYTHON = "bookworm", "3.11"  # the release and its Python
PYTHON_PACKAGES = (
    f"python{PYTHON}-minimal",
    f"libpython{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libbz2-1.0",
    "libffi8",
    "liblzma5",
    "libssl3",
)
QEMU_SUITE = "trixie"  # QEMU 10; the 7.2 of bookworm crashes on `import onnxruntime`
QEMU_PACKAGE = "qemu-user"  # linked statically: it needs no library of its release
QEMU = "usr/bin/qemu-aarch64"
# Wheels name the oldest C library that they run with; Debian 12 has 2.36. pip knows only the names it is given.
PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)))
SUITES = ("stable", "testing", "oldstable", "bullseye", "bookworm", "trixie", "forky", "sid")  # of Debian's archive


class SetupError(Exception):
    """The emulated machine cannot be set up; the text is one line."""


def command(cpu: str = "cortex-a72", folder: Path = FOLDER) -> tuple[list[str], dict[str, str]]:
    """Return what runs a Python script on arm64.

    Args:
        cpu: the processor, as ``qemu-aarch64 -cpu help`` lists them. Engines choose their kernels by it: ``cortex-a72``
            has NEON alone, ``max`` all that QEMU emulates, SVE and SME among them.
        folder: where it was set up.

    Returns:
        The command line up to the script, and its environment, which may also be added to this process's.
    """
    place = folder.absolute()
    root = place / "root"
    python = root / f"usr/bin/python{PYTHON}"
    # -s, -P: neither packages of this machine's user nor files beside the script stand in for those named here
    line = [str(place / "qemu" / QEMU), "-cpu", cpu, "-L", str(root), str(python), "-s", "-P"]
    path = f"{place / 'site'}:{place / 'packages'}"
    return line, {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": path, "LANG": "C.UTF-8"}


def is_available(folder: Path = FOLDER) -> bool:
    """Whether the emulated machine is set up and its links lead somewhere."""
    return (folder / READY).is_file() and (folder / "packages/mlic/runtime/__init__.py").is_file()


def main() -> None:
    """Set up the emulated machine, as far as it is not."""
    begin = time.perf_counter()
    try:
        set_up(FOLDER)
    except SetupError as error:
        sys.exit(f"aarch64: {error}")
    print(f"aarch64: ready in {FOLDER} after {time.perf_counter() - begin:.0f} s")


def set_up(folder: Path) -> None:
    """Make what is missing of the emulated machine, and try it.

    Args:
        folder: all of it goes there.

    Raises:
        SetupError: this is no Debian, a mirror or index is not reached, or the machine does not run.
    """
    if missing := [tool for tool in ("apt-get", "dpkg-deb", "tar") if not shutil.which(tool)]:
        raise SetupError(f"needs {', '.join(missing)}: it is made of Debian's packages")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / READY).unlink(missing_ok=True)
    wheels = requirements()
    _make(folder / "qemu", f"{QEMU_PACKAGE} of {QEMU_SUITE}", _make_qemu)
    _make(folder / "root", f"Python {PYTHON} of {PYTHON_SUITE}\n{' '.join(PYTHON_PACKAGES)}", _make_root)
    _make(folder / "site", ", ".join(wheels), lambda place: _make_site(place, wheels))
    _link(folder / "packages/mlic/runtime", Path(mlic.runtime.__file__).parent)
    _link(folder / "packages/constriction.py", Path(__file__).with_name("constriction_twin.py"))
    prefix, variables = command(folder=folder)
    script = (
        "import mlic.runtime, onnxruntime, platform; print(platform.machine(), 'onnxruntime', onnxruntime.__version__)"
    )
    print(f"  runs: {_run([*prefix, '-c', script], variables=variables).strip()}")
    (folder / READY).touch()


def requirements() -> list[str]:
    """Return the wheels, ONNX Runtime's in the version that is installed here, so that only the processor differs."""
    try:
        engine = f"onnxruntime=={version('onnxruntime')}"
    except PackageNotFoundError:
        engine = "onnxruntime"
    return [engine, "numpy", "pillow"]


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


def _make(place: Path, recipe: str, make: Callable[[Path], None]) -> None:
    """Make one part of the machine, unless it is there and was made by the same recipe, whose first line is printed."""
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


def _make_qemu(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        (package,) = _download(Path(folder), QEMU_SUITE, [QEMU_PACKAGE])
        # Alone: the package holds emulators of thirty other processors
        archive = Path(folder) / "package.tar"
        archive.write_bytes(_run_for_bytes(["dpkg-deb", "--fsys-tarfile", str(package)]))
        _run(["tar", "-x", "-f", str(archive), "-C", str(place), f"./{QEMU}"])


def _make_root(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        for package in _download(Path(folder), PYTHON_SUITE, PYTHON_PACKAGES, "arm64"):
            _run(["dpkg-deb", "-x", str(package), str(place)])


def _make_site(place: Path, wheels: Sequence[str]) -> None:
    choice = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    choice += [word for platform in PLATFORMS for word in ("--platform", platform)]
    options = ["--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check", "--target", str(place)]
    _run([sys.executable, "-m", "pip", "install", *options, *choice, *wheels])


def _download(folder: Path, suite: str, packages: Sequence[str], architecture: str | None = None) -> list[Path]:
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
    _run([*apt, "update"], folder=folder)
    _run([*apt, "download", *packages], folder=folder)
    return sorted(folder.glob("*.deb"))


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target.resolve())


def _run(line: Sequence[str], folder: Path | None = None, variables: dict[str, str] | None = None) -> str:
    return _run_for_bytes(line, folder, variables).decode(errors="replace")


def _run_for_bytes(line: Sequence[str], folder: Path | None = None, variables: dict[str, str] | None = None) -> bytes:
    """Run a command and return its output.

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


if __name__ == "__main__":
    main()
