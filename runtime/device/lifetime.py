"""The ends of things on a device: they come when objects are collected, in whatever thread and order."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any

from mlic.runtime.device.device import Device
from mlic.runtime.errors import BackendError


def when_dropped(thing: object, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function once an object is collected, but not when the process ends: the driver cleans up by itself.

    A failure is not reported: whatever failed on the device was, or nobody looks at it.
    """
    weakref.finalize(thing, _quietly, function, *arguments).atexit = False


def _quietly(function: Callable[..., Any], *arguments: Any) -> None:
    with contextlib.suppress(BackendError):
        function(*arguments)


class Stream:
    """A stream that can be asked to wait after its end, which does nothing then.

    Attributes:
        handle: the device's name for it.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.handle = device.open_stream()
        self._is_open = True

    def wait(self) -> None:
        """Wait for everything on it."""
        if self._is_open:
            self._device.synchronise(self.handle)

    def close(self) -> None:
        """Wait for everything on it and give it back."""
        self.wait()
        self._is_open = False
        self._device.close_stream(self.handle)
