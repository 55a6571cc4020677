"""Arrays that lie on a device and travel among numpy arrays."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from mlic.runtime.arrays import Array


class DeviceArray(ABC):
    """What a graph on a device gives back: never written to again, copied to the host when somebody looks at it.

    ``numpy.asarray`` and everything that calls it take one. The copy is made once and kept.

    Attributes:
        shape: of the array.
        dtype: of its elements.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self._host: Array | None = None
        self._lock = threading.Lock()  # two threads may look at once

    @property
    def nbytes(self) -> int:
        """Size of the elements in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @abstractmethod
    def fetch(self) -> Array:
        """Return a copy on the host."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until the elements are written; for measuring."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the copy on the host; see ``numpy.ndarray.__array__``.

        Raises:
            BackendError: the work that gives the array failed, or the copy did.
        """
        with self._lock:
            if self._host is None:
                self._host = self.fetch()
        host = self._host if dtype is None else self._host.astype(dtype, copy=False)
        return host.copy() if copy and host is self._host else host
