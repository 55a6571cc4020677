"""Fixtures that several folders share: a miniature bundle, a codec on it, pictures, and a small exported model."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mlic.export.compression import compress_bundle
from mlic.runtime.bundle import Bundle
from mlic.runtime.codec import Codec
from tests.commands import run
from tests.integer_bundle import build_integer_bundle
from tests.tiny_bundle import build_tiny_bundle

if TYPE_CHECKING:
    from tests.small_model import SmallBundle


# No test writes into the user's home, and none depends on what is there; those of the cache turn it on.
os.environ["MLIC_CERTIFICATE_CACHE"] = "off"

# A shell starts what it runs in the background with SIGINT ignored, and children inherit that; tests that interrupt
# commands need it to be as in a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def packed_folder(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature bundle with compressed graphs."""
    return compress_bundle(Bundle.open(bundle_folder), tmp_path_factory.mktemp("bundle") / "packed").folder


@pytest.fixture(scope="session")
def codec(bundle_folder: Path) -> Codec:
    return Codec.load(bundle_folder, threads=1)


@pytest.fixture(scope="session")
def integer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_integer_bundle(tmp_path_factory.mktemp("bundle") / "integer")


@pytest.fixture(scope="session")
def integer_codec(integer_folder: Path) -> Codec:
    return Codec.load(integer_folder, threads=1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a picture with slopes, edges and noise: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    base = np.stack([rows * 2, columns * 3, rows + columns], axis=-1) + rng.integers(0, 40, (height, width, 3))
    base[(rows // 9 + columns // 13) % 2 == 0] //= 2
    return (base % 256).astype(np.uint8)


@pytest.fixture(scope="session")
def make_photo():
    return photo


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> SmallBundle:
    """A small MLIC++, exported; takes half a minute, so tests with it are marked ``xdist_group("small_bundle")``."""
    from tests.small_model import export_small_bundle

    return export_small_bundle(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def exported_by_command(
    small_bundle: SmallBundle, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
    """The same model exported by the command, in another process, from another folder; and what it said."""
    folder = tmp_path_factory.mktemp("command")
    result = run(
        "mlic-export",
        os.path.relpath(small_bundle.checkpoint, folder),
        "-o",
        "bundle",
        "--threads",
        1,
        "--json",
        cwd=folder,
        variables={"PYTHONHASHSEED": "7"},
    )
    return folder / "bundle", result
