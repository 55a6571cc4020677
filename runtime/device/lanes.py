"""Lanes: each thread's own stream, memory and staging, so that threads never wait for one another on the host.

Everything that one thread does for a picture is on one stream, in order, which is all the synchronisation that it
needs. The host waits in one place only: where it wants to look at an array.
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from mlic.runtime.arrays import Array, UInt8Array
from mlic.runtime.device.array import DeviceArray
from mlic.runtime.device.device import Device
from mlic.runtime.device.lifetime import Stream, when_dropped
from mlic.runtime.device.pool import Memory, Pool, Size

STAGING_BYTES = 8 << 20  # each way and lane; larger arrays go in pieces
_ALIGNMENT = 256  # of pieces in staging memory


class Lanes:
    """Gives each thread a lane. That of a thread which has ended goes to the next one that comes."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._memory = Memory(device)
        self._local = threading.local()
        self._idle: list[Lane] = []

    def current(self) -> Lane:
        """Return the calling thread's lane.

        Raises:
            BackendError: the device has no stream for it.
        """
        lease: _Lease | None = getattr(self._local, "lease", None)
        if lease is None:
            self.device.use()
            try:
                lane = self._idle.pop()
            except IndexError:
                lane = Lane(self, self._memory)
            lease = self._local.lease = _Lease(lane, self._idle)
        return lease.lane


class _Lease:
    """A thread's hold on a lane, which ends with the thread: its locals are dropped then."""

    def __init__(self, lane: Lane, idle: list[Lane]) -> None:
        self.lane = lane
        self._idle = idle

    def __del__(self) -> None:
        self._idle.append(self.lane)


class Lane:
    """A stream and what belongs to it. Only the thread that holds the lane calls its methods.

    Attributes:
        device: where it is.
        stream: the device's name for its stream.
    """

    def __init__(self, lanes: Lanes, memory: Memory) -> None:
        self.device = device = lanes.device
        self._stream = Stream(device)
        self.stream = self._stream.handle
        self._lanes = weakref.ref(lanes)  # weakly: they hold this lane, and memory should not have to wait for cycles
        self._memory = memory
        self._pool = Pool(memory, self._stream)
        self._staging: dict[str, UInt8Array] = {}  # "in" and "out", once they are needed
        self._staged = 0  # bytes of "in" that copies under way may still read
        self._workspace: list[int] = []  # address and size; a list, so that _close sees what it holds at the end
        when_dropped(self, _close, device, self._stream, self._pool, self._staging, self._workspace)

    def empty(self, size: Size, slot: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> LaneArray:
        """Return an array whose elements are still to be written.

        Args:
            size: height and width of the padded picture that it belongs to.
            slot: its name, so that it lies where the one before did; an empty string where that does not matter.
            shape: of the array.
            dtype: of its elements.

        Raises:
            OutOfDeviceMemoryError: the device has no memory left.
        """
        lanes = self._lanes()
        assert lanes is not None  # whoever works on a lane has it from them
        address = self._pool.take(size, slot, math.prod(shape) * dtype.itemsize)
        array = LaneArray(lanes, self, address, shape, dtype)
        when_dropped(array, self._pool.give_back, size, slot, array.nbytes, address)
        return array

    def upload(self, array: Array, size: Size, slot: str) -> LaneArray:
        """Return a copy of an array on the device; ``array`` may change as soon as this returns.

        Args:
            array: on the host.
            size: as for ``empty``.
            slot: as for ``empty``.
        """
        result = self.empty(size, slot, array.shape, array.dtype)
        source = _bytes_of(np.ascontiguousarray(array))
        staging = self._staging_memory("in")
        for start in range(0, source.size, STAGING_BYTES):
            piece = source[start : start + STAGING_BYTES]
            if self._staged + piece.size > STAGING_BYTES:
                self.synchronise()
            room = staging[self._staged : self._staged + piece.size]
            room[:] = piece
            self.device.copy_in(result.address + start, room, self.stream)
            self._staged += -(-piece.size // _ALIGNMENT) * _ALIGNMENT
        return result

    def download(self, array: LaneArray) -> Array:
        """Return a copy of an array on the host; waits for the work that gives it."""
        self.follow(array.lane)
        result = np.empty(array.shape, array.dtype)
        target = _bytes_of(result)
        staging = self._staging_memory("out")
        for start in range(0, target.size, STAGING_BYTES):
            piece = target[start : start + STAGING_BYTES]
            self.device.copy_out(staging[: piece.size], array.address + start, self.stream)
            self.synchronise()
            piece[:] = staging[: piece.size]
        return result

    def follow(self, other: Lane) -> bool:
        """Let work from now on wait for what is on another lane now.

        Returns:
            Whether it is another lane. What was read from its arrays must then have happened before they are let go:
            their memory may be written again by work that this lane does not know of.
        """
        if other is self:
            return False
        with other.undisturbed():
            self.device.follow(self.stream, other.stream)
        return True

    def undisturbed(self) -> contextlib.AbstractContextManager[Any]:
        """Return what to hold while no other thread may touch this lane's stream: while work is being captured."""
        return self._pool.lock

    def reserve(self, num_bytes: int) -> tuple[int, int]:
        """Return address and size of scratch memory that all graphs of the lane share, as they run one at a time.

        It grows to the largest size asked for; its address changes then.
        """
        if not self._workspace or self._workspace[1] < num_bytes:
            self.synchronise()
            if self._workspace:
                address, _ = self._workspace
                self._workspace.clear()
                self.device.free(address)
            self._workspace += [self._memory.allocate(max(num_bytes, 1)), num_bytes]
        return self._workspace[0], self._workspace[1]

    def synchronise(self) -> None:
        """Wait for everything on the lane."""
        self._stream.wait()
        self._staged = 0

    @property
    def waits(self) -> Callable[[], None]:
        """What waits for everything on the lane, also when the lane is no more."""
        return self._stream.wait

    def _staging_memory(self, way: str) -> UInt8Array:
        if way not in self._staging:
            self._staging[way] = self.device.allocate_pinned(STAGING_BYTES)
        return self._staging[way]


class LaneArray(DeviceArray):
    """An array in a lane's memory, which goes back to the lane when the array is collected.

    Attributes:
        lane: whose stream writes it.
        address: of the first element.
    """

    def __init__(self, lanes: Lanes, lane: Lane, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(shape, dtype)
        self.lane = lane
        self.address = address
        self._lanes = lanes

    def fetch(self) -> Array:
        """Return a copy on the host; any thread may ask, and waits on its own lane."""
        return self._lanes.current().download(self)

    def wait(self) -> None:
        """Wait until the elements are written."""
        lane = self._lanes.current()
        lane.follow(self.lane)
        lane.synchronise()


def _bytes_of(array: Array) -> UInt8Array:
    """Return the memory of a contiguous array: uint8 [nbytes]."""
    return array.reshape(-1).view(np.uint8)


def _close(device: Device, stream: Stream, pool: Pool, staging: dict[str, UInt8Array], workspace: list[int]) -> None:
    """Give back what a lane held."""
    stream.close()
    pool.close()
    if workspace:
        device.free(workspace[0])
    for memory in staging.values():
        device.free_pinned(memory)
