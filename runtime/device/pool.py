"""Device memory that is used again: allocating waits for the device, so it should happen once per size of picture.

Memory is kept by picture size and, within one, by *slot*: the name of the array that it holds. An array of a graph
therefore lies at the same address for picture after picture, unless the one before is still held, which is what lets
captured work be launched again. Memory comes back when the object that stands for it is collected, in whatever thread
that happens; to be used again it need not be idle, as everything that touches it is on one stream, in order.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque

from mlic.runtime.device.device import Device, OutOfDeviceMemoryError
from mlic.runtime.device.lifetime import Stream

MAX_SIZES = 4  # picture sizes whose memory is kept; a gallery shows few, and one in turn with thumbnails two

Size = tuple[int, int]
_Key = tuple[str, int]  # slot, bytes


class Memory:
    """Allocates for all pools of a device, and takes from those that have memory to spare when none is left."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, pool: Pool) -> None:
        """Register a pool."""
        with self._lock:
            self._pools.add(pool)

    def allocate(self, num_bytes: int) -> int:
        """Return the address of new memory.

        Raises:
            OutOfDeviceMemoryError: there is not as much, even without what pools kept for later.
        """
        try:
            return self.device.allocate(num_bytes)
        except OutOfDeviceMemoryError:
            with self._lock:
                pools = list(self._pools)
            for pool in pools:
                pool.trim()
            return self.device.allocate(num_bytes)


class Pool:
    """The memory of one stream.

    ``take`` and ``close`` belong to the thread that works on the stream; ``give_back`` and ``trim`` to any.

    Attributes:
        lock: held while the stream is in a state that no other thread may meddle with.
    """

    def __init__(self, memory: Memory, stream: Stream) -> None:
        self.lock = threading.RLock()
        self._memory = memory
        self._stream = stream
        self._idle: dict[Size, dict[_Key, list[int]]] = {}  # the size used last comes last
        # What was given back. Collection may strike anywhere, also in a thread that holds the lock: this needs none.
        self._returned: deque[tuple[Size, _Key, int]] = deque()
        self._closed = False
        memory.add(self)

    def take(self, size: Size, slot: str, num_bytes: int) -> int:
        """Return the address of memory for one array.

        Args:
            size: height and width of the padded picture that it belongs to.
            slot: name of the array, or an empty string for any.
            num_bytes: of the array.

        Raises:
            OutOfDeviceMemoryError: the device has no more.
        """
        with self.lock:
            if size not in self._idle and len(self._idle) >= MAX_SIZES:
                self._release([next(iter(self._idle))])
            self._idle[size] = self._idle.pop(size, {})
            self._sort_returned()
            idle = self._idle[size].get((slot, num_bytes))
            return idle.pop() if idle else self._memory.allocate(max(num_bytes, 1))

    def give_back(self, size: Size, slot: str, num_bytes: int, address: int) -> None:
        """Take memory back from an array that nobody holds any more; work on it may still be on the stream."""
        self._returned.append((size, (slot, num_bytes), address))
        if self._closed:  # collected together with the lane, and after it
            self.close()

    def trim(self) -> None:
        """Free what is kept for later, unless the pool is in use at this moment."""
        if self.lock.acquire(blocking=False):  # two threads that trim each other's pools must not wait for each other
            try:
                self._release(list(self._idle))
            finally:
                self.lock.release()

    def close(self) -> None:
        """Free everything; whoever still holds an array of this pool is being collected, too."""
        self._closed = True
        with self.lock:
            self._release(list(self._idle))

    def _release(self, sizes: list[Size]) -> None:
        """Forget sizes and free their idle memory, and what was returned of those forgotten before."""
        self._sort_returned()
        addresses = [address for size in sizes for idle in self._idle.pop(size, {}).values() for address in idle]
        self._free(addresses)

    def _sort_returned(self) -> None:
        """Put what was given back where it is found again; free what belongs to a size that was forgotten."""
        strays = []
        while self._returned:
            size, key, address = self._returned.popleft()
            if size in self._idle:
                self._idle[size].setdefault(key, []).append(address)
            else:
                strays.append(address)
        self._free(strays)

    def _free(self, addresses: list[int]) -> None:
        if addresses:
            self._stream.wait()  # work on them may be under way
        for address in addresses:
            self._memory.device.free(address)
