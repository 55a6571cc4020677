"""Whether an ONNX file keeps data in other files, which engines would open."""

from __future__ import annotations

import re

# An initialiser outside the file has an entry whose key, field 1 of 8 bytes, is `location`. Both numbers may be written
# in more bytes than they need. ONNX Runtime before 1.24 opens any path that it is given there.
_LOCATION = b"location"
_EXTERNAL = re.compile(
    rb"(?:\x0a|\x8a[\x80-\xff]{0,8}[\x00-\x7f])(?:\x08|\x88[\x80-\xff]{0,8}[\x00-\x7f])" + _LOCATION, re.DOTALL
)
_OVERLAP = 32  # bytes that the end of a block shares with the next, more than the expression matches


class ExternalData:
    """Looks for such an entry in a file that comes block by block.

    Attributes:
        found: whether there was one.
    """

    def __init__(self) -> None:
        self.found = False
        self._tail = b""

    def add(self, block: bytes) -> None:
        """Look at the next block, of any size."""
        window = self._tail + block
        self.found = self.found or has_entry(window)
        self._tail = window[-_OVERLAP:]


def has_entry(data: bytes) -> bool:
    """Tell whether bytes hold such an entry."""
    return _LOCATION in data and _EXTERNAL.search(data) is not None
