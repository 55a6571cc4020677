"""The Pillow plug-in for tests that want it; the others of the process see Pillow as it is without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

import mlic.runtime.pillow

_OPENER = Image.OPEN.pop("MLIC")
Image.ID.remove("MLIC")


@contextmanager
def registered(monkeypatch: pytest.MonkeyPatch, *engine: str | int) -> Iterator[None]:
    """Register the plug-in for the block, with nothing open.

    Args:
        monkeypatch: of the test.
        engine: name and threads; default: the plug-in's own.
    """
    plugin = mlic.runtime.pillow
    monkeypatch.setitem(Image.OPEN, "MLIC", _OPENER)
    monkeypatch.setattr(plugin, "_codecs", plugin._Codecs({}, plugin._Engine(*engine)))
    Image.ID.append("MLIC")
    yield
    Image.ID.remove("MLIC")
