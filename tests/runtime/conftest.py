"""Fixtures of the runtime's tests: the tables of the miniature bundle, and that bundle in int8."""

from pathlib import Path

import pytest
from hypothesis import settings

from mlic.runtime.codec import Codec
from mlic.runtime.entropy_model import EntropyModel, FrequencyTables
from tests.int8_bundle import build_int8_bundle

settings.register_profile("mlic", deadline=None, max_examples=60)
settings.load_profile("mlic")


@pytest.fixture(scope="session")
def entropy(codec: Codec) -> EntropyModel:
    return codec.bundle.entropy


@pytest.fixture(scope="session")
def int8_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_int8_bundle(tmp_path_factory.mktemp("bundle") / "int8")


@pytest.fixture(scope="session")
def tables(entropy: EntropyModel) -> FrequencyTables:
    return entropy.y
