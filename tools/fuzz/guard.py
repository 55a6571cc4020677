"""One input under limits of time and memory."""

from __future__ import annotations

import resource
import signal
import time
import traceback
from collections.abc import Callable
from types import FrameType

from mlic.runtime.errors import MlicError

SECONDS = 10.0  # for one input; honest ones take milliseconds
GROWTH_BYTES = 1 << 29  # of the peak of resident memory, by one input
ADDRESS_BYTES = 1 << 33  # of address space, for the whole process


class TooSlowError(BaseException):
    """Ends an input; no ``except Exception`` on the way may take it for a damaged file."""


class Guard:
    """Runs inputs and tells which ones are findings.

    Attributes:
        accepted: inputs that were read without an error.
        refused: inputs that ended in an error of ours, as they may.
        slowest: seconds of the slowest input.
    """

    def __init__(self, run: Callable[[bytes], object]) -> None:
        self._run = run
        self.accepted = self.refused = 0
        self.slowest = 0.0
        self._peak = peak_bytes()
        limit = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = ADDRESS_BYTES if limit == resource.RLIM_INFINITY else min(limit, ADDRESS_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (most, limit))
        signal.signal(signal.SIGALRM, _too_slow)

    def finding(self, data: bytes) -> str | None:
        """Run one input; return what is wrong with what it did, or None."""
        start = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            self._run(data)
        except MlicError as error:
            self.refused += 1
            problem = "an error of several lines" if "\n" in str(error) else None
        except (Exception, TooSlowError):
            problem = traceback.format_exc()
        else:
            self.accepted += 1
            problem = None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.slowest = max(self.slowest, time.perf_counter() - start)
        before, self._peak = self._peak, peak_bytes()
        if problem is None and self._peak - before > GROWTH_BYTES:
            problem = f"resident memory grew from {before} to {self._peak} bytes"
        return problem


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {SECONDS} s")
