"""Learned image codecs without PyTorch: pictures to ``.mlic`` files and back.

```python
from mlic.runtime import Codec

codec = Codec.load()
data = codec.encode(pixels)  # uint8 [H, W, 3]
pixels = codec.decode(data)
```
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mlic.runtime.errors import BackendError as BackendError
from mlic.runtime.errors import BitstreamError as BitstreamError
from mlic.runtime.errors import BundleError as BundleError
from mlic.runtime.errors import CorruptStreamError as CorruptStreamError
from mlic.runtime.errors import EngineMismatchError as EngineMismatchError
from mlic.runtime.errors import ImageError as ImageError
from mlic.runtime.errors import ImageWarning as ImageWarning
from mlic.runtime.errors import MlicError as MlicError
from mlic.runtime.errors import ShapeError as ShapeError
from mlic.runtime.errors import TruncatedStreamError as TruncatedStreamError
from mlic.runtime.errors import UnsupportedStreamError as UnsupportedStreamError

if TYPE_CHECKING:
    from mlic.runtime.codec import Codec as Codec
    from mlic.runtime.container import read_metadata as read_metadata
    from mlic.runtime.metadata import Metadata as Metadata
    from mlic.runtime.metadata import Source as Source

__all__ = [
    "BackendError",
    "BitstreamError",
    "BundleError",
    "Codec",
    "CorruptStreamError",
    "EngineMismatchError",
    "ImageError",
    "ImageWarning",
    "Metadata",
    "MlicError",
    "ShapeError",
    "Source",
    "TruncatedStreamError",
    "UnsupportedStreamError",
    "read_metadata",
]

if not TYPE_CHECKING:  # a checker would believe that there is any name
    _HOMES = {"Codec": "codec", "read_metadata": "container", "Metadata": "metadata", "Source": "metadata"}

    def __getattr__(name: str) -> object:
        # numpy and the rest take a tenth of a second, which a shell that completes `mlic-run enc` should not wait for.
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value
