"""The driver, built with sanitizers for small pictures and without for photos, and the probe of its parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.core_probe import Probe
from tests.native.programs import Driver, build


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = Driver(build(sanitized=True), tmp_path_factory.mktemp("driver"))
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def tiny(driver: Driver, bundle_folder: Path) -> str:
    """The codec of the tiny bundle."""
    return driver.open("tiny", bundle_folder)


@pytest.fixture(scope="session")
def probe() -> Iterator[Probe]:
    probe = Probe(build(sanitized=True))
    yield probe
    probe.close()
