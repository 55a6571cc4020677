"""A device made of numpy that is as late as a real one may be: what is put on a stream happens when somebody waits for
the stream, and not before.

So whatever looks at a result too early, writes over memory that a copy still reads, uses memory that was given back, or
takes another stream's results without waiting for them, gets wrong numbers or an AssertionError.
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlic.runtime.device.device import OutOfDeviceMemoryError
from mlic.runtime.errors import BackendError

POISON = 0xFF  # bytes of memory that nobody has written: NaN as floats


@dataclass
class Work:
    """Something on a stream.

    Attributes:
        run: does it.
        addresses: of the device memory that it touches.
    """

    run: Callable[[], None]
    addresses: tuple[int, ...] = ()


@dataclass
class _Stream:
    waiting: list[Work] = field(default_factory=list)
    finished: int = 0
    recording: list[Work] | None = None
    recorder: int = 0  # the thread

    @property
    def total(self) -> int:
        return self.finished + len(self.waiting)


class FakeDevice:
    """See ``Device``.

    Args:
        capacity: bytes of device memory.

    Attributes:
        counts: how often each method was called.
        bytes_in: that were copied to the device.
        bytes_out: that were copied from it.
    """

    name = "Fake GPU"

    def __init__(self, capacity: int = 1 << 40) -> None:
        self.counts: Counter[str] = Counter()
        self.bytes_in = self.bytes_out = 0
        self._capacity = capacity
        self._blocks: dict[int, np.ndarray] = {}
        self._starts: list[int] = []
        self._next = 1 << 20
        self._pinned: dict[int, np.ndarray] = {}
        self._streams: dict[int, _Stream] = {}
        self._recordings: dict[int, list[Work]] = {}
        self._number = 0
        self._lock = threading.RLock()
        self._used = threading.local()

    @property
    def allocated(self) -> int:
        """Bytes of device memory in use."""
        return sum(block.size for block in self._blocks.values())

    @property
    def held(self) -> dict[str, int]:
        """How many things of each kind were not given back."""
        kinds = {"memory": self._blocks, "pinned": self._pinned, "streams": self._streams, "work": self._recordings}
        return {kind: len(things) for kind, things in kinds.items()}  # type: ignore[arg-type]

    def use(self) -> None:
        self.counts["use"] += 1
        self._used.yes = True

    def allocate(self, num_bytes: int) -> int:
        with self._lock:
            self._enter("allocate")
            for stream in self._streams.values():
                if stream.recording is not None and stream.recorder == threading.get_ident():
                    raise BackendError("cudaMalloc: not while this thread records")
            if self.allocated + num_bytes > self._capacity:
                raise OutOfDeviceMemoryError(f"cudaMalloc: {num_bytes} bytes")
            address = self._next
            self._next += -(-num_bytes // 256) * 256 + 256  # a gap, so that reaching beyond the end is noticed
            self._blocks[address] = np.full(num_bytes, POISON, np.uint8)
            self._starts.append(address)
            return address

    def free(self, address: int) -> None:
        with self._lock:
            self.counts["free"] += 1
            assert address in self._blocks, "given back twice, or never allocated"
            for stream in self._streams.values():
                for work in stream.waiting:
                    assert address not in work.addresses, "given back while work on it is under way"
            del self._blocks[address]
            self._starts.remove(address)

    def view(self, address: int, num_bytes: int) -> np.ndarray:
        """Return device memory; for what runs on the device."""
        start = self._starts[max(bisect.bisect_right(self._starts, address) - 1, 0)] if self._starts else -1
        block = self._blocks.get(start)
        offset = address - start
        assert block is not None, "used after it was given back"
        assert 0 <= offset <= block.size - num_bytes, "used after it was given back, or beyond its end"
        return block[offset : offset + num_bytes]

    def allocate_pinned(self, num_bytes: int) -> np.ndarray:
        with self._lock:
            self._enter("allocate_pinned")
            memory = np.zeros(num_bytes, np.uint8)
            self._pinned[memory.ctypes.data] = memory
            return memory

    def free_pinned(self, memory: np.ndarray) -> None:
        with self._lock:
            del self._pinned[memory.ctypes.data]

    def open_stream(self) -> int:
        with self._lock:
            self._enter("open_stream")
            self._number += 1
            self._streams[self._number] = _Stream()
            return self._number

    def close_stream(self, stream: int) -> None:
        with self._lock:
            assert not self._streams.pop(stream).waiting, "closed with work on it"

    def copy_in(self, address: int, source: np.ndarray, stream: int) -> None:
        with self._lock:
            self._enter("copy_in")
            self._require_pinned(source)
            self.view(address, source.size)
            self.bytes_in += source.size
            then = None if self.is_recording(stream) else source.tobytes()  # a recording copies what is there by then

            def run() -> None:
                assert then in (None, source.tobytes()), "pinned memory was written to before it was copied"
                self.view(address, source.size)[:] = source

            self.put(stream, Work(run, (self._start(address),)))

    def copy_out(self, target: np.ndarray, address: int, stream: int) -> None:
        with self._lock:
            self._enter("copy_out")
            self._require_pinned(target)
            self.view(address, target.size)
            self.bytes_out += target.size
            target[:] = POISON

            def run() -> None:
                target[:] = self.view(address, target.size)

            self.put(stream, Work(run, (self._start(address),)))

    def synchronise(self, stream: int) -> None:
        with self._lock:
            self.counts["synchronise"] += 1
            if self._streams[stream].recording is not None:
                raise BackendError("cudaStreamSynchronize: the stream is recording")
            self._run(stream, self._streams[stream].total)

    def follow(self, stream: int, other: int) -> None:
        with self._lock:
            self._enter("follow")
            assert self._streams[other].recording is None, "another thread's recording would hold this"
            mark = self._streams[other].total
            self.put(stream, Work(lambda: self._run(other, mark)))

    def begin_capture(self, stream: int) -> None:
        with self._lock:
            self._enter("begin_capture")
            assert self._streams[stream].recording is None
            self._streams[stream].recording = []
            self._streams[stream].recorder = threading.get_ident()

    def end_capture(self, stream: int) -> Any:
        with self._lock:
            self._enter("end_capture")
            recording, self._streams[stream].recording = self._streams[stream].recording, None
            assert recording is not None
            self._number += 1
            self._recordings[self._number] = recording
            return self._number

    def launch(self, captured: Any, stream: int) -> None:
        with self._lock:
            self._enter("launch")
            for work in self._recordings[captured]:
                self.put(stream, work)

    def drop(self, captured: Any) -> None:
        with self._lock:
            del self._recordings[captured]

    def put(self, stream: int, work: Work) -> None:
        """Put work on a stream, or into its recording."""
        with self._lock:
            into = self._streams[stream]
            (into.waiting if into.recording is None else into.recording).append(work)

    def is_recording(self, stream: int) -> bool:
        """Tell whether what is put on a stream is recorded."""
        return self._streams[stream].recording is not None

    def _run(self, stream: int, until: int) -> None:
        """Do what is on a stream, up to the work of a number counted from its beginning."""
        of = self._streams.get(stream)
        while of is not None and of.finished < until:
            work = of.waiting.pop(0)
            of.finished += 1
            work.run()

    def _enter(self, method: str) -> None:
        self.counts[method] += 1
        assert getattr(self._used, "yes", False), f"{method}: this thread has chosen no device"

    def _start(self, address: int) -> int:
        return self._starts[bisect.bisect_right(self._starts, address) - 1]

    def _require_pinned(self, memory: np.ndarray) -> None:
        place = memory.ctypes.data
        assert any(start <= place < start + block.size for start, block in self._pinned.items()), "not pinned memory"
