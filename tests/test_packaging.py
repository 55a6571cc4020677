"""What gets installed, and what importing it loads."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

from mlic.runtime.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("calibration", "export", "runtime", "tools")


def test_listed_packages_are_the_packages_on_disk():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {
        "mlic." + str(path.parent.relative_to(ROOT)).replace("/", "."): str(path.parent.relative_to(ROOT))
        for source in SOURCES
        for path in (ROOT / source).rglob("__init__.py")
    }
    assert config["package-dir"] == on_disk
    assert set(config["packages"]) == set(on_disk)


def test_version_comes_from_one_place():
    assert version("mlic-deploy") == VERSION
    cmake = (ROOT / "runtime/native/CMakeLists.txt").read_text()
    assert 'file(STRINGS "${CMAKE_CURRENT_SOURCE_DIR}/../version.py" version_line REGEX "^VERSION = ")' in cmake
    assert 'project(mlic VERSION "${mlic_version}"' in cmake
    # What else is in the repository names the version that is being made, and none that it was.
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == VERSION
    written = f"{VERSION} (unreleased)" if "(unreleased)" in changelog else VERSION
    assert f"\n## {written}" in changelog
    header = (ROOT / "runtime/native/include/mlic.h").read_text()
    assert f'The version of the library, such as "{VERSION}".' in header
    assert f'"mlic": "{VERSION}"' in (ROOT / "docs/bundle-format.md").read_text()


def test_importing_the_runtime_works_where_torch_onnx_and_typer_cannot_be_imported():
    script = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "typer", "rich", "scipy"):
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Refuse())
import mlic.runtime, mlic.runtime.image_files, mlic.runtime.backends.onnxruntime
import numpy as np
codec = mlic.runtime.Codec.load(threads=1)
pixels = np.full((64, 64, 3), 128, np.uint8)
assert codec.decode(codec.encode(pixels)).shape == pixels.shape
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_imports_point_from_tools_to_calibration_to_export_to_runtime():
    allowed = {
        "runtime": {"runtime"},
        "export": {"export", "runtime"},
        "calibration": {"calibration", "export", "runtime"},
        "tools": {"tools", "export", "calibration", "runtime"},
    }
    for source in SOURCES:
        for path in (ROOT / source).rglob("*.py"):
            for line in path.read_text().splitlines():
                words = line.split()
                if words[:1] in (["from"], ["import"]) and words[1].startswith("mlic."):
                    assert words[1].split(".")[1] in allowed[source], f"{path.relative_to(ROOT)}: {line}"


def test_typed_packages_say_so():
    assert all((ROOT / source / "py.typed").is_file() for source in SOURCES)


def test_files_that_code_reads_are_packed():
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for source in SOURCES:
        for path in (ROOT / source).rglob("*.*"):
            if path.suffix in {".html", ".mjs"}:
                package = "mlic." + str(path.parent.relative_to(ROOT)).replace("/", ".")
                assert any(path.match(pattern) for pattern in packed[package]), path
