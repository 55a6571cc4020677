"""``.mlic`` files in Pillow: importing this module teaches ``Image.open`` and ``Image.save`` the format.

```python
import mlic.runtime.pillow
from PIL import Image

Image.open("photo.jpg").save("photo.mlic", quality="medium")
Image.open("photo.mlic").show()
```

Pillow finds no plug-ins by itself, so a program has to import it. Opening reads the file, compares its checksum and
fills in size, mode (``RGB``, or ``L`` if the picture was grey) and ``info`` (``icc_profile``, ``exif``, ``xmp``); the
model runs when pixels are asked for. The models that ship are found by the file; ``register`` makes another known.

``save`` takes ``quality`` (``low``, ``medium``, the default, or ``high``) or ``model`` (a bundle's folder or a
``Codec``), ``backend`` and ``threads`` (as ``Codec.load``), and, as Pillow's own writers do, ``exif``, ``xmp`` and
``icc_profile`` (the image's own unless given). EXIF and XMP are stored only if given; if they say that the picture is
turned, it is stored upright.

Codecs are opened once and kept. A process that was forked opens its own, since an engine's threads do not survive a
fork; it has to end as ``multiprocessing`` ends its workers, by ``os._exit``: ONNX Runtime waits at a regular exit for
threads that only its parent has.
"""

from __future__ import annotations

import os
import threading
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from mlic.runtime import container
from mlic.runtime.backends import Backend
from mlic.runtime.bundle import read_manifest
from mlic.runtime.choices import MAX_PIXELS, QUALITIES
from mlic.runtime.codec import Codec
from mlic.runtime.container import MAGIC, MAX_SIDE
from mlic.runtime.errors import MlicError, UnsupportedStreamError
from mlic.runtime.image_files import picture_with
from mlic.runtime.image_metadata import info_from
from mlic.runtime.metadata import Metadata
from mlic.runtime.shipped import bundle_for, bundle_path, shipped_bundle

FORMAT = "MLIC"
MIME_TYPE = "image/x-mlic"
EXTENSION = ".mlic"

Model = str | os.PathLike[str] | Codec


class _Engine(NamedTuple):
    """On what a model runs, as ``Codec.load`` takes it."""

    backend: str | Backend = "auto"
    threads: int | None = None


class _Codecs:
    """Codecs that are open, and what files they are for. One object serves all threads of a process."""

    def __init__(self, models: dict[bytes, tuple[Model, _Engine]], engine: _Engine) -> None:
        self.models = models  # by model_id
        self.engine = engine  # of the models that ship
        self._opened: dict[tuple[Path, _Engine], Codec] = {}
        self._lock = threading.Lock()

    def get(self, model: Model, engine: _Engine) -> Codec:
        """Return a codec, opened if it is not yet; one that came opened stays what it is."""
        if isinstance(model, Codec):
            return model
        key = (bundle_path(model).resolve(), engine)
        with self._lock:
            if key not in self._opened:
                # Pillow has a limit of its own, which ``Image.open`` and ``_save`` see to.
                self._opened[key] = Codec.load(key[0], *engine, max_pixels=MAX_SIDE * MAX_SIDE)
            return self._opened[key]

    def reading(self, model_id: bytes) -> Codec:
        """Return the codec for a file's ``model_id``: one that was registered, or one of those that ship."""
        model, engine = self.models.get(model_id) or (bundle_for(model_id), self.engine)
        return self.get(model, engine)


_codecs = _Codecs({}, _Engine())


def register(model: Model | None = None, backend: str | Backend = "auto", threads: int | None = None) -> None:
    """Say with what ``Image.open`` decodes files: with a bundle of one's own, or on which engine.

    Args:
        model: for the files that it wrote: a bundle's folder, or an opened codec, which is used as it is and must not
            cross a fork; default: the models that ship, which need no registering except to choose an engine.
        backend: as in ``Codec.load``; not for an opened codec.
        threads: as in ``Codec.load``; not for an opened codec.

    Raises:
        BundleError: the folder is no bundle.
    """
    engine = _Engine(backend, threads)
    if model is None:
        _codecs.engine = engine
        return
    manifest = model.bundle.manifest if isinstance(model, Codec) else read_manifest(bundle_path(model))
    _codecs.models[manifest.model_id] = (model, engine)


class MlicImageFile(ImageFile.ImageFile):
    """A ``.mlic`` file that ``Image.open`` has opened."""

    format = FORMAT
    format_description = "MLIC learned image codec"

    def _open(self) -> None:
        assert self.fp is not None
        self._data = self.fp.read()
        try:
            # Of too many pixels, Pillow warns or complains in its own way.
            stream = container.read(self._data, MAX_SIDE * MAX_SIDE, MAX_SIDE * MAX_SIDE)
        except MlicError as error:
            # Not SyntaxError, which would let Pillow go on to other formats and forget the reason.
            raise UnidentifiedImageError(f"cannot read this .mlic file: {error}") from error
        self._model_id = stream.model_id
        self._size = (stream.width, stream.height)
        self._mode = "L" if stream.metadata.is_grey else "RGB"
        self.info.update(**info_from(stream.metadata))
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]

    def load(self) -> Any:
        """Decode the picture, unless it has been.

        Raises:
            OSError: it cannot be decoded; its cause is the ``MlicError`` that says why.
        """
        if self.tile and self._data:
            try:
                pixels = _codecs.reading(self._model_id).decode(self._data)
            except UnsupportedStreamError as error:
                raise OSError(f"{error}; mlic.runtime.pillow.register(model=...) names it") from error
            except MlicError as error:
                raise OSError(str(error)) from error
            if self.fp is not None and self._exclusive_fp:
                self.fp.close()
            self.fp = BytesIO((pixels[..., 0] if self.mode == "L" else pixels).tobytes())
            self._data = b""
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Stay where ``load`` has put the pixels; Pillow would otherwise map the file into memory."""


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Write an image as Pillow asks its writers to.

    Raises:
        ValueError: an option has no meaning here.
        OSError: it cannot be encoded; its cause is the ``MlicError`` that says why.
    """
    options = image.encoderinfo
    quality, model = options.get("quality"), options.get("model")
    if quality is not None and (model is not None or quality not in QUALITIES):
        raise ValueError(f"quality {quality!r}; expected one of {', '.join(QUALITIES)}, and no model beside it")
    exif, xmp = options.get("exif"), options.get("xmp")
    if isinstance(exif, Image.Exif):
        exif = exif.tobytes() if len(exif) else None
    metadata = Metadata(
        options.get("icc_profile", image.info.get("icc_profile")) or None,
        exif or None,
        (xmp.encode() if isinstance(xmp, str) else xmp) or None,
    )
    engine = _Engine(
        options.get("backend", _codecs.engine.backend),
        options.get("threads", _codecs.engine.threads),
    )
    # Pillow limits what is opened, not what is saved; ours is the limit of what a machine can be expected to hold.
    limit = max(MAX_PIXELS, 2 * (Image.MAX_IMAGE_PIXELS or MAX_SIDE * MAX_SIDE))
    try:
        picture = picture_with(image, metadata, limit)
        codec = _codecs.get(shipped_bundle(quality) if model is None else model, engine)
        file.write(codec.encode(picture.pixels, picture.metadata))
    except MlicError as error:
        raise OSError(str(error)) from error


_left_behind: list[_Codecs] = []


def _begin_anew() -> None:
    """Leave aside, in a process that was just forked, the codecs of its parent, whose threads it does not have."""
    global _codecs  # noqa: PLW0603 - a lock of the parent may be held for ever
    _left_behind.append(_codecs)  # closing an engine would wait for its threads
    _codecs = _Codecs(_codecs.models, _codecs.engine)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
Image.register_open(FORMAT, MlicImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, EXTENSION)
Image.register_mime(FORMAT, MIME_TYPE)
