"""What building and running ``runtime/native`` takes: ONNX Runtime's headers, and the library in its wheel.

``python -m mlic.tools.engines.native`` fetches the headers, unless they are there, and prints the library's path. No
wheel holds headers; Debian's ``libonnxruntime-dev`` does, which is unpacked and not installed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from mlic.tools.engines.debian import SetupError, download, make_once, run

FOLDER = Path("build/native/headers")  # in the current folder, as all that the Makefile makes; an ONNXRUNTIME_ROOT
SUITE = "trixie"  # the first release of Debian that has ONNX Runtime
PACKAGE = "libonnxruntime-dev"
HEADER = "usr/include/onnxruntime/onnxruntime_c_api.h"


def main() -> None:
    """Fetch the headers, unless they are there, and print the path of the library."""
    try:
        fetch_headers(FOLDER)
        print(library())
    except SetupError as error:
        sys.exit(f"native: {error}")


def library(packages: Path | None = None) -> Path:
    """Return ONNX Runtime's library.

    Args:
        packages: a ``site-packages`` folder; default: where this Python finds ``onnxruntime``.

    Raises:
        SetupError: it is not installed there, or older than 1.20, whose wheels had no such file.
    """
    if packages is None:
        found = find_spec("onnxruntime")
        packages = Path(found.origin).parents[1] if found and found.origin else Path()
    libraries = sorted((packages / "onnxruntime/capi").glob("libonnxruntime.so.*"))
    if not libraries:
        raise SetupError("ONNX Runtime is not installed; pip install 'mlic-deploy[cpu]'")
    return libraries[0]


def has_headers(folder: Path = FOLDER) -> bool:
    """Whether the headers are there."""
    return (folder / HEADER).is_file()


def fetch_headers(folder: Path) -> None:
    """Fetch the headers, unless they are there.

    Args:
        folder: what CMake takes as ``ONNXRUNTIME_ROOT``.

    Raises:
        SetupError: this is no Debian, a mirror is not reached, or the package has no such header.
    """
    if missing := [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]:
        raise SetupError(f"needs {', '.join(missing)}: the headers are in a package of Debian's")
    folder.parent.mkdir(parents=True, exist_ok=True)
    make_once(folder, f"{PACKAGE} of {SUITE}", _unpack)


def _unpack(place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        (package,) = download(Path(folder), SUITE, [PACKAGE])
        run(["dpkg-deb", "-x", str(package), str(place)])
    if not has_headers(place):
        raise SetupError(f"{PACKAGE} of {SUITE} has no {HEADER}")


if __name__ == "__main__":
    main()
