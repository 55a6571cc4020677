"""Fixtures of the tests of device memory: a device made of numpy, and lanes on it."""

import pytest

from mlic.runtime.device.lanes import Lanes
from tests.fake_device import FakeDevice


@pytest.fixture
def device():
    made = FakeDevice()
    made.use()
    return made


@pytest.fixture
def lanes(device):
    return Lanes(device)
