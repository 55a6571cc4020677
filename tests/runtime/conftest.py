"""Fixtures of the runtime's tests: a miniature bundle, a codec on it, and rows with escapes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from mlic.runtime.codec import Codec
from mlic.runtime.entropy_model import EntropyModel, FrequencyTables
from tests.tiny_bundle import build_tiny_bundle

settings.register_profile("mlic", deadline=None, max_examples=60)
settings.load_profile("mlic")


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def codec(bundle_folder: Path) -> Codec:
    return Codec.load(bundle_folder, threads=1)


@pytest.fixture(scope="session")
def entropy(codec: Codec) -> EntropyModel:
    return codec.bundle.entropy


@pytest.fixture(scope="session")
def tables(entropy: EntropyModel) -> FrequencyTables:
    return entropy.y


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
