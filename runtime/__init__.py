"""Learned image codecs without PyTorch: pictures to ``.mlic`` files and back.

```python
from mlic.runtime import Codec

codec = Codec.load()
data = codec.encode(pixels)  # uint8 [H, W, 3]
pixels = codec.decode(data)
```
"""

from mlic.runtime.codec import Codec as Codec
from mlic.runtime.container import read_metadata as read_metadata
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
