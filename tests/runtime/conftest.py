"""Fixtures of the runtime's tests: the tables of the miniature bundle."""

import pytest
from hypothesis import settings

from mlic.runtime.codec import Codec
from mlic.runtime.entropy_model import EntropyModel, FrequencyTables

settings.register_profile("mlic", deadline=None, max_examples=60)
settings.load_profile("mlic")


@pytest.fixture(scope="session")
def entropy(codec: Codec) -> EntropyModel:
    return codec.bundle.entropy


@pytest.fixture(scope="session")
def tables(entropy: EntropyModel) -> FrequencyTables:
    return entropy.y
