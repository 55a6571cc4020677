"""What the runtime asks of a GPU. ``cuda.py`` does it with CUDA; tests do it with numpy.

Addresses and streams are whole numbers, captured work is an object of the device's own. Copies and launches are put on
a stream and happen in its order, later; nothing has happened for certain before ``synchronise`` returns.
"""

from __future__ import annotations

from typing import Any, Protocol

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.errors import BackendError


class OutOfDeviceMemoryError(BackendError):
    """The device has no memory left; there may be some to give back."""


class Device(Protocol):
    """One GPU. All methods may be called from several threads at once and raise BackendError where a call fails."""

    @property
    def name(self) -> str:
        """What the vendor calls it."""

    def use(self) -> None:
        """Make this device the calling thread's."""

    def allocate(self, num_bytes: int) -> int:
        """Return the address of new device memory, a multiple of 256.

        Raises:
            OutOfDeviceMemoryError: there is not as much.
        """

    def free(self, address: int) -> None:
        """Give memory back. No stream may still use it."""

    def allocate_pinned(self, num_bytes: int) -> UInt8Array:
        """Return host memory that stays where it is, so that copies need not wait: uint8 [num_bytes]."""

    def free_pinned(self, memory: UInt8Array) -> None:
        """Give such memory back."""

    def open_stream(self) -> int:
        """Return a new stream, which waits for no other."""

    def close_stream(self, stream: int) -> None:
        """Give a stream back."""

    def copy_in(self, address: int, source: UInt8Array, stream: int) -> None:
        """Put a copy from pinned memory to the device on a stream; ``source`` must stay as it is until it happened."""

    def copy_out(self, target: UInt8Array, address: int, stream: int) -> None:
        """Put a copy from the device to pinned memory on a stream."""

    def synchronise(self, stream: int) -> None:
        """Wait until everything on a stream has happened."""

    def follow(self, stream: int, other: int) -> None:
        """Let what is put on ``stream`` from now on wait for everything that is on ``other`` now."""

    def begin_capture(self, stream: int) -> None:
        """Record what this thread puts on a stream from now on, instead of doing it."""

    def end_capture(self, stream: int) -> Any:
        """Return what was recorded since ``begin_capture``, ready to be launched; the stream works again."""

    def launch(self, captured: Any, stream: int) -> None:
        """Put recorded work on a stream."""

    def drop(self, captured: Any) -> None:
        """Give recorded work back, once it is no longer under way."""
