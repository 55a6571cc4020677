"""A bundle's manifest changed, and the one line with which it is refused."""

import json

import pytest

from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import MAX_LISTED, BundleError


def edit(folder, change):
    """Change the manifest, given as the parsed JSON."""
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def refused(folder, message):
    """Expect an error whose text matches, on one line that stays short however much is wrong."""
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.open(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 * (MAX_LISTED + 2)
