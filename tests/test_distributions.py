"""What users install: the wheel and the source distribution, in environments with nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime.version import VERSION
from tests.test_packaging import ROOT, SOURCES

pytestmark = pytest.mark.xdist_group("distributions")  # built and installed once

PHOTO = ROOT / "tests/photos/kodim03.png"
NAME = f"mlic_deploy-{VERSION}"
NOT_IN_WHEEL = ("runtime/native/", "tools/checkpoints/")  # built by CMake; joined to what the wheel has
JUNK = (
    "runtime/__pycache__/codec.cpython-311.pyc",
    "tests/native/.DS_Store",
    "runtime/models/mlicpp-n64-m192-low/engines/g_a.plan",
    "build/lib/mlic/runtime/gone.py",
    "docs/__pycache__/conf.pyc",
)
NO_NETWORK = re.compile("NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|name resolution")


@dataclass(frozen=True)
class Built:
    """What was built from a copy of the repository, and what is in the repository."""

    tracked: frozenset[str]
    sdist: Path
    wheel: Path
    wheel_of_tree: Path


def outside() -> dict[str, str]:
    """Return an environment in which Python finds no module of this repository."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {"OMP_NUM_THREADS": "1"}


def do(*line: object, cwd: Path) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(list(map(str, line)), cwd=cwd, env=outside(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def contents(wheel: Path) -> dict[str, int]:
    """Return the files of a wheel and their CRCs."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist() if not entry.is_dir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    tracked = frozenset(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("no git checkout, which would say what belongs to it")
    folder = tmp_path_factory.mktemp("distributions")
    # A copy: an earlier build's leftovers would be packed, and hide what is missing from MANIFEST.in.
    tree = folder / "tree"
    for name in tracked:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    build = (sys.executable, "-m", "build", "--no-isolation")
    do(*build, "--wheel", "--outdir", folder / "of_tree", tree, cwd=folder)
    shutil.rmtree(tree / "build")
    shutil.rmtree(tree / "mlic_deploy.egg-info")
    for name in JUNK:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"junk")
    do(*build, "--outdir", folder / "dist", tree, cwd=folder)
    wheel = f"{NAME}-py3-none-any.whl"
    return Built(tracked, folder / f"dist/{NAME}.tar.gz", folder / "dist" / wheel, folder / "of_tree" / wheel)


def test_source_distribution_is_the_repository(built: Built):
    with tarfile.open(built.sdist) as archive:
        names = {member.name.removeprefix(f"{NAME}/") for member in archive if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"}
    assert {name for name in names if not name.startswith("mlic_deploy.egg-info/")} - made == built.tracked
    assert {
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        "runtime/native/CMakeLists.txt",
        "runtime/native/src/c_api.cpp",
    } < names


def test_wheel_is_the_four_packages_and_its_metadata(built: Built):
    packed = {
        f"mlic/{name}"
        for name in built.tracked
        if name.startswith(tuple(f"{source}/" for source in SOURCES)) and not name.startswith(NOT_IN_WHEEL)
    }
    info = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert set(contents(built.wheel)) == packed | {f"{NAME}.dist-info/{name}" for name in info}
    suffixes = {Path(name).suffix for name in packed}
    assert suffixes == {".py", ".typed", ".json", ".npz", ".gz", ".html", ".mjs"}
    for quality in ("low", "medium", "high"):
        assert f"mlic/runtime/models/mlicpp-n64-m192-{quality}/manifest.json" in packed


def test_wheel_of_the_source_distribution_is_that_of_the_repository(built: Built):
    assert contents(built.wheel) == contents(built.wheel_of_tree)


def test_metadata_is_valid_and_its_description_leads_nowhere_that_is_not_there(built: Built):
    do(sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel, cwd=ROOT)
    with zipfile.ZipFile(built.wheel) as archive:
        description = archive.read(f"{NAME}.dist-info/METADATA").decode().partition("\n\n")[2]
    readme = (ROOT / "README.md").read_text()
    relative = re.compile(r"\]\((?!https?:|#)")
    assert relative.search(readme)
    assert not relative.search(description)
    assert description.count("\n## ") == readme.count("\n## ") > 3
    assert "bundle format `docs/bundle-format.md` · " in description


def environment(folder: Path, *what: object) -> Path:
    """Return the ``bin`` of a new environment with nothing but ``what``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    line = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "bin/python",
        "install",
        "--quiet",
        "--retries",
        "1",
        *what,
    ]
    done = subprocess.run(list(map(str, line)), cwd=folder, env=outside(), capture_output=True, text=True, check=False)
    if done.returncode and NO_NETWORK.search(done.stdout + done.stderr):
        pytest.skip("no network, and pip has not cached what is to be installed")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("wheel"), f"{built.wheel}[cpu]")


def test_installed_wheel_encodes_decodes_and_verifies(installed: Path, tmp_path: Path):
    mlic = installed / "mlic-run"
    assert do(mlic, "--version", cwd=tmp_path) == f"mlic {VERSION}\n"
    do(mlic, "encode", PHOTO, "photo.mlic", cwd=tmp_path)
    do(mlic, "decode", "photo.mlic", "photo.png", cwd=tmp_path)
    with Image.open(PHOTO) as before, Image.open(tmp_path / "photo.png") as after:
        difference = np.asarray(before.convert("RGB"), float) - np.asarray(after, float)
    assert np.mean(difference**2) < 65  # 30 dB
    assert do(mlic, "verify", cwd=tmp_path).count("twice the same bytes") == 4


def test_installed_wheel_is_imported_from_its_environment(installed: Path, tmp_path: Path):
    script = """
import sys
from pathlib import Path

import mlic.calibration, mlic.runtime, mlic.runtime.pillow, mlic.tools
from PIL import Image

for package in (mlic.calibration, mlic.runtime, mlic.tools):
    assert Path(package.__file__).is_relative_to(sys.prefix), package
data = mlic.runtime.Codec.load(quality="low", threads=1).encode(Image.new("RGB", (70, 40)))
print(mlic.runtime.Codec.load_for(data, threads=1).decode(data).shape)
"""
    assert do(installed / "python", "-c", script, cwd=tmp_path) == "(40, 70, 3)\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("mlic-export", "a.pth", "-o", "b"), "pip install torch==2.13.0 && pip install 'mlic-deploy[export,cpu]'"),
        (("mlic-calibrate", "b", "photos", "-o", "c"), "pip install 'mlic-deploy[calibrate,cpu]'"),
        (("mlic-run", "compare", PHOTO), "pip install 'mlic-deploy[report,cpu]'"),
        (("mlic-run", "encode", PHOTO, "a.mlic", "--backend", "openvino"), "pip install 'mlic-deploy[openvino]'"),
    ],
)
def test_commands_name_the_extra_that_is_not_installed(
    line: tuple[object, ...], said: str, installed: Path, tmp_path: Path
):
    done = subprocess.run(
        [str(installed / str(line[0])), *map(str, line[1:])],
        cwd=tmp_path, env=outside(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{line[0]}")
    assert done.stderr.endswith(f"{said}\n")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_installed_source_distribution_is_the_wheel(built: Built, tmp_path: Path):
    python = environment(tmp_path, "--no-deps", built.sdist) / "python"
    site = Path(do(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    with zipfile.ZipFile(built.wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("mlic/")}
    found = {str(path.relative_to(site)): path.read_bytes() for path in (site / "mlic").rglob("*") if path.is_file()}
    assert {name: data for name, data in found.items() if "__pycache__" not in name} == packed
