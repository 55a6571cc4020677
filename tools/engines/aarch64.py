"""ONNX Runtime on arm64, emulated: ``python -m mlic.tools.engines.aarch64`` sets it up.

``qemu-aarch64`` runs the programs of another processor, one process at a time, without a virtual machine and without
any change to this one. Beside it lie Debian's arm64 Python, the arm64 wheel of the ONNX Runtime that is installed here,
and links to this package's runtime. Everything comes from the mirrors that apt and pip use already, and goes into one
folder.

constriction has no wheel for this platform; ``constriction_twin.py`` takes its place.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlic.runtime
from mlic.tools.engines.debian import SetupError, download, make_once, run, run_for_bytes

FOLDER = Path("build/engines/aarch64")  # in the current folder, as all that the Makefile makes
READY = ".ready"  # last file of a set-up, which may have been interrupted

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
    make_once(folder / "qemu", f"{QEMU_PACKAGE} of {QEMU_SUITE}", _make_qemu)
    make_once(folder / "root", f"Python {PYTHON} of {PYTHON_SUITE}\n{' '.join(PYTHON_PACKAGES)}", _make_root)
    make_once(folder / "site", ", ".join(wheels), lambda place: _make_site(place, wheels))
    _link(folder / "packages/mlic/runtime", Path(mlic.runtime.__file__).parent)
    _link(folder / "packages/constriction.py", Path(__file__).with_name("constriction_twin.py"))
    prefix, variables = command(folder=folder)
    script = (
        "import mlic.runtime, onnxruntime, platform; print(platform.machine(), 'onnxruntime', onnxruntime.__version__)"
    )
    print(f"  runs: {run([*prefix, '-c', script], variables=variables).strip()}")
    (folder / READY).touch()


def requirements() -> list[str]:
    """Return the wheels, ONNX Runtime's in the version that is installed here, so that only the processor differs."""
    try:
        engine = f"onnxruntime=={version('onnxruntime')}"
    except PackageNotFoundError:
        engine = "onnxruntime"
    return [engine, "numpy", "pillow"]


def _make_qemu(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        (package,) = download(Path(folder), QEMU_SUITE, [QEMU_PACKAGE])
        # Alone: the package holds emulators of thirty other processors
        archive = Path(folder) / "package.tar"
        archive.write_bytes(run_for_bytes(["dpkg-deb", "--fsys-tarfile", str(package)]))
        run(["tar", "-x", "-f", str(archive), "-C", str(place), f"./{QEMU}"])


def _make_root(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        for package in download(Path(folder), PYTHON_SUITE, PYTHON_PACKAGES, "arm64"):
            run(["dpkg-deb", "-x", str(package), str(place)])


def _make_site(place: Path, wheels: Sequence[str]) -> None:
    choice = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    choice += [word for platform in PLATFORMS for word in ("--platform", platform)]
    options = ["--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check", "--target", str(place)]
    run([sys.executable, "-m", "pip", "install", *options, *choice, *wheels])


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target.resolve())


if __name__ == "__main__":
    main()
