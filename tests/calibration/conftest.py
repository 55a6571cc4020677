from pathlib import Path

import pytest

from mlic.runtime.bundle import Bundle
from tests.calibration.graphs import build_quantizable_bundle


@pytest.fixture(scope="session")
def quantizable(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A miniature bundle with convolutions in its transforms, skip connections beside them."""
    folder: Path = tmp_path_factory.mktemp("quantizable") / "floats"
    return Bundle.open(build_quantizable_bundle(folder))
