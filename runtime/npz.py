"""``.npz`` files of others, read without trust: nothing is allocated that the file does not hold.

``numpy.load`` allocates what a member's header claims before it reads the member, and unpacks by any method that
zip files know, some of which ask for gigabytes to begin with.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO

import numpy as np

from mlic.runtime.arrays import Array

MAX_MEMBERS = 64  # a bundle's tables have 8
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that numpy writes
_PLAIN_KINDS = "biufc"


def arrays_from_npz(data: bytes, limit: int) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file; members that are no arrays are left out.

    Args:
        data: the whole file.
        limit: bytes that all members together may unpack to.

    Raises:
        ValueError: a member is an array of Python objects or of records, is larger than its member, or was packed in
            an unusual way; there are too many members, or they unpack to more than ``limit``.
        Exception: ``zipfile``, ``zlib`` and numpy raise many kinds for a damaged file.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise ValueError(f"it has {len(members)} members; expected at most {MAX_MEMBERS}")
        if sum(member.file_size for member in members) > limit:
            raise ValueError(f"it unpacks to more than {limit} bytes")
        if unusual := [member.filename for member in members if member.compress_type not in _METHODS]:
            raise ValueError(f"{unusual[0]!r:.40} is neither stored nor deflated")
        arrays = {}
        for member in members:
            with archive.open(member) as file:
                array = _array(file, member.file_size)
            if array is not None:
                arrays[member.filename.removesuffix(".npy")] = array
        return arrays


def _array(file: IO[bytes], size: int) -> Array | None:
    """Return a member's array; None if it is none."""
    magic = file.read(np.lib.format.MAGIC_LEN)
    if not magic.startswith(np.lib.format.MAGIC_PREFIX):
        return None
    version = np.lib.format.read_magic(io.BytesIO(magic))
    # Versions 2 and 3 differ in how names of fields are spelled, and records are refused.
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"array format {version}; this reader knows 1.0 to 3.0")
    shape, fortran_order, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    if dtype.kind not in _PLAIN_KINDS:
        raise ValueError(f"array of {dtype}; expected numbers")
    if any(side < 0 for side in shape):
        raise ValueError(f"shape {shape}; expected sides of 0 or more")
    count = math.prod(shape)
    needed = count * dtype.itemsize
    if needed > size:
        raise ValueError(f"its header claims {needed} bytes; the member has {size}")
    values = np.frombuffer(file.read(needed), dtype=dtype, count=count)  # ValueError if the member is cut
    return values.reshape(shape, order="F" if fortran_order else "C")
