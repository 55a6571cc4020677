"""Pictures to ``.mlic`` files and back: the data flow, top to bottom."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mlic.runtime import container
from mlic.runtime.arrays import Array, Float32Array, UInt8Array
from mlic.runtime.backends import Backend, LazyGraph, open_backend
from mlic.runtime.backends.base import chain_engine, granted_to
from mlic.runtime.bundle import Bundle
from mlic.runtime.chain import DecodedLatent, Progress, silent
from mlic.runtime.choices import MAX_PIXELS
from mlic.runtime.container import MAX_LATENT_PIXELS, Bitstream
from mlic.runtime.errors import BundleError, ShapeError, UnsupportedStreamError
from mlic.runtime.image import frame_within
from mlic.runtime.metadata import Metadata, check_metadata
from mlic.runtime.overlap import overlapped
from mlic.runtime.pictures import pixels_from
from mlic.runtime.pipeline import Analysed, Pipeline, Region
from mlic.runtime.shipped import bundle_for, bundle_path, shipped_bundle
from mlic.runtime.tracing import replay, trace
from mlic.runtime.transforms import TILE_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image


class Codec:
    """A model on an engine.

    One object may encode and decode in several threads at once: everything that changes during a call belongs
    to the call, graphs are opened under a lock, and engines run one graph in several threads. Graphs are
    opened when first needed, or by ``open``, and stay open as long as the object lives; in a forked child they are
    opened again.

    Pictures larger than a tile go through the transforms in tiles, so that memory follows the tile; pictures larger
    than a latent may be are cut into cells, which are coded one after another (``grid.py``).

    Args:
        bundle: the model.
        backend: the engine.
        max_pixels: refuse larger pictures, in both directions.
        tile_pixels: what one run of a transform may compute, where the bundle says how to cut pictures into tiles.
        latent_pixels: cut larger pictures into cells when encoding. Decoding refuses larger latents only where they
            exceed ``MAX_LATENT_PIXELS``, too.

    Attributes:
        bundle: the model.
        backend: the engine.
        chain_backend: the engine of the entropy path; another one perhaps if the bundle is integer (``chain_engine``).
        max_pixels: as given; padded, a picture may have four times as many.

    Raises:
        BackendError: no engine is installed that could run an integer bundle's entropy path.
        ShapeError: ``tile_pixels`` or ``latent_pixels`` is too small for any picture.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        max_pixels: int = MAX_PIXELS,
        tile_pixels: int = TILE_PIXELS,
        latent_pixels: int = MAX_LATENT_PIXELS,
    ) -> None:
        self.bundle = bundle
        self.backend = backend
        self.max_pixels = max_pixels
        self.chain_backend = backend if bundle.certificate is None else chain_engine(backend)
        self._graphs = {
            name: LazyGraph(self.backend_of(name), bundle.path_of(file), file)
            for name, file in bundle.manifest.graphs.items()
        }
        self._pipeline = Pipeline(bundle, self.chain_backend, self._graphs, tile_pixels, latent_pixels)

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        backend: str | Backend = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        quality: str | None = None,
        tile_pixels: int = TILE_PIXELS,
        latent_pixels: int = MAX_LATENT_PIXELS,
    ) -> Codec:
        """Open a bundle on an engine.

        Args:
            bundle: the folder, or the text ``integer`` for the integer bundle that ships (``./integer`` is a folder);
                default: the model of ``quality`` that ships with the package.
            backend: an engine's name, as ``open_backend`` takes it, or an opened engine.
            threads: for each graph; default: as many as the process may use. Ignored for an opened engine.
            max_pixels: refuse larger pictures, in both directions.
            quality: ``low``, ``medium`` (the default) or ``high``, by the size of the files; only without
                ``bundle``, which has a quality of its own.
            tile_pixels: as the class takes it.
            latent_pixels: as the class takes it.

        Raises:
            BundleError: the bundle is missing, incomplete or inconsistent, or there is no such quality.
            BackendError: the engine is unknown or not installed.
            ShapeError: ``tile_pixels`` or ``latent_pixels`` is too small for any picture.
        """
        if bundle is not None and quality is not None:
            raise BundleError(f"quality {quality} chooses among the models that ship; bundle {bundle} has its own")
        opened = Bundle.open(shipped_bundle(quality) if bundle is None else bundle_path(bundle))
        engine = open_backend(backend, threads) if isinstance(backend, str) else backend
        return cls(opened, engine, max_pixels, tile_pixels, latent_pixels)

    @classmethod
    def load_for(
        cls,
        data: bytes,
        backend: str | Backend = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Codec:
        """Open the model that ships with the package and wrote a file, whatever its quality.

        Args:
            data: the contents of a ``.mlic`` file.
            backend: as in ``load``.
            threads: as in ``load``.
            max_pixels: as in ``load``.

        Raises:
            TruncatedStreamError: the file ends early.
            CorruptStreamError: the file is damaged.
            UnsupportedStreamError: it is no ``.mlic`` file, newer, too large, or of none of the models that ship.
            BundleError: the bundle is missing, incomplete or inconsistent.
            BackendError: the engine is unknown or not installed.
        """
        return cls.load(bundle_for(container.read(data, max_pixels).model_id), backend, threads, max_pixels)

    def open(self, encode: bool = True, decode: bool = True) -> None:
        """Open graphs now, so that the first picture need not wait for it.

        One after another: side by side it takes 0.5 s instead of 0.8 s for full-size MLIC++ on two cores, but leaves
        170 MB of memory in pieces that nothing uses again.

        Args:
            encode: open what encoding needs.
            decode: open what decoding needs.

        Raises:
            EngineMismatchError: the engine fails an integer bundle's certificate.
            BackendError: the engine refuses a graph.
        """
        needed = {"h_s", *(step.graph for step in self.bundle.manifest.steps)}
        needed |= {"g_a", "h_a"} if encode else set()
        needed |= {"finish", "g_s"} if decode else set()
        for name, graph in self._graphs.items():
            if name in needed:
                graph.open()
        self._pipeline.chain.proof.require()

    def prove(self) -> None:
        """Run an integer bundle's certificate, even if the engine is known to pass; nothing for other bundles.

        Raises:
            MlicError: as ``proof.Proof.run``.
        """
        self._pipeline.chain.proof.run()

    def backend_of(self, graph: str) -> Backend:
        """Return the engine that runs a graph, by its name."""
        return self.chain_backend if self.bundle.manifest.graphs[graph].spec.exact else self.backend

    def num_encode_stages(self, height: int, width: int) -> int:
        """Return how often ``encode`` reports progress for a picture of this size, in pixels."""
        return self._pipeline.num_encode_stages(height, width) + (height * width > self._pipeline.latent_pixels)

    def num_decode_stages(self, stream: Bitstream, region: Region | None = None) -> int:
        """Return how often ``decode`` reports progress for a file, if no index has to be corrected.

        Raises:
            ShapeError: the region does not lie in the picture.
        """
        return self._pipeline.num_decode_stages(stream, region) + 1

    def encode(self, image: UInt8Array | Image, metadata: Metadata | None = None, progress: Progress = silent) -> bytes:
        """Compress a picture.

        Encoding the same picture twice on one machine gives the same bytes.

        Args:
            image: uint8 [H, W, 3], uint8 [H, W] for grey, or a Pillow image (turned upright, made opaque RGB).
            metadata: to store; default: a Pillow image's own. Orientations in it become 1, since ``image`` is upright
                or is turned so, and what the image shows about its source is added (``[H, W]`` is grey).
            progress: called with the name of each stage before it begins: a graph's name, ``image`` (pixels to planes),
                ``coder`` (table indexes and symbols) or ``container`` (bytes of the file); ``num_encode_stages`` times
                in all. What it raises ends the call.

        Returns:
            The contents of a ``.mlic`` file.

        Raises:
            ShapeError: the array has another dtype or shape, or is larger than ``max_pixels``.
            ImageError: the Pillow image cannot be converted, or a part of the metadata is too large.
            EngineMismatchError: the engine does not compute what an integer bundle's certificate says.
            BackendError: a graph failed or gave values that cannot be coded.

        Warns:
            ImageWarning: something of a Pillow image, or damaged EXIF, was given up.
        """
        pixels, stored = self._take(image, metadata)
        return self._write(pixels, None, stored, progress)

    def encode_many(self, images: Iterable[UInt8Array | Image]) -> Iterator[bytes]:
        """Compress pictures one after another, the analysis of one beside the entropy coding of the one before.

        Args:
            images: as ``encode`` takes them; one is taken ahead of what has been yielded.

        Yields:
            What ``encode`` returns for each, in order.

        Raises:
            MlicError: as ``encode``, when the pictures before have been yielded.
        """

        def analyse(image: UInt8Array | Image) -> tuple[UInt8Array, Analysed | None, Metadata]:
            pixels, metadata = self._take(image)
            one_latent = self._pipeline.is_one_latent(pixels)  # the analysis of many would be much to hold
            return pixels, self._pipeline.analyse(pixels) if one_latent else None, metadata

        return overlapped(images, analyse, lambda found: self._write(*found))

    def _write(
        self,
        pixels: UInt8Array,
        analysed: Analysed | None,
        metadata: Metadata,
        progress: Progress = silent,
    ) -> bytes:
        """Return the file of a picture that may have been analysed."""
        stream = self._pipeline.encode(pixels, progress, analysed)
        if stream.grid is not None:
            progress("container")
        return container.write(replace(stream, metadata=metadata))

    def decode(self, data: bytes, progress: Progress = silent, region: Region | None = None) -> UInt8Array:
        """Decompress a picture or a part of it.

        Args:
            data: the contents of a ``.mlic`` file.
            progress: called with the name of each stage before it begins; see ``encode`` and ``num_decode_stages``.
            region: x, y, width and height of the part in pixels; default: all of it. The latent is decoded whole, but
                only those tiles are synthesised that the part needs, and of a grid only those cells decoded; the
                pixels are the same as in the whole picture.

        Returns:
            uint8 [H, W, 3]; three equal planes if the picture was grey.

        Raises:
            ShapeError: the region does not lie in the picture.
            TruncatedStreamError: the file ends early.
            CorruptStreamError: the file is damaged.
            UnsupportedStreamError: it is no ``.mlic`` file, of another model, a newer version, or too large.
            EngineMismatchError: this engine's table indexes differ beyond repair, or it fails the certificate.
            BackendError: a graph failed.
        """
        progress("container")
        return self._pipeline.decode(self._read(data), region, progress)

    def decode_image(self, data: bytes, progress: Progress = silent, region: Region | None = None) -> Image:
        """Decompress a picture or a part of it to a Pillow image.

        Args:
            data: the contents of a ``.mlic`` file.
            progress: as in ``decode``.
            region: as in ``decode``.

        Returns:
            An image of mode ``L`` if the picture was grey, else ``RGB``; ``icc_profile``, ``exif`` and ``xmp`` in its
            ``info``, where the file has them.

        Raises:
            MlicError: as ``decode``.
        """
        from mlic.runtime.image_files import image_from  # noqa: PLC0415 - loads Pillow

        progress("container")
        stream = self._read(data)
        return image_from(self._pipeline.decode(stream, region, progress), stream.metadata)

    def decode_many(self, files: Iterable[bytes]) -> Iterator[UInt8Array]:
        """Decompress files one after another, the synthesis of one beside the entropy decoding of the next.

        Args:
            files: contents of ``.mlic`` files; one is taken ahead of what has been yielded.

        Yields:
            What ``decode`` returns for each, in order.

        Raises:
            MlicError: as ``decode``, when the pictures before have been yielded.
        """

        def decode_latent(data: bytes) -> tuple[Bitstream, DecodedLatent | None]:
            stream = self._read(data)
            return stream, self._pipeline.decode_latent(stream) if stream.grid is None else None

        return overlapped(files, decode_latent, lambda found: self._pipeline.decode(found[0], decoded=found[1]))

    def decode_latent(self, data: bytes) -> Float32Array:
        """Decompress only as far as the latent; for tests and for comparing engines.

        Returns:
            float32 [1, M, padded height / 16, padded width / 16]; ``trace(...)["y_hat"]`` on the same engine.

        Raises:
            MlicError: as ``decode``.
        """
        return self.inspect(data).y_hat

    def inspect(self, data: bytes) -> DecodedLatent:
        """Decompress as far as the latent, and say where this engine differs from the one that wrote the file.

        Decoding corrects indexes that differ, so they are no fault; many in a million say that the engines are near
        the limit of what can be corrected.

        Args:
            data: the contents of a ``.mlic`` file.

        Raises:
            MlicError: as ``decode``; ``EngineMismatchError`` if there are too many, ``UnsupportedStreamError`` also
                if the file holds several latents.
        """
        decoded = self._pipeline.decode_latent(self._read(data))
        return decoded._replace(y_hat=np.asarray(decoded.y_hat))

    def trace(self, image: UInt8Array | Image) -> dict[str, Any]:
        """Run the encoder and keep everything on the way.

        Returns:
            ``y`` float32 [1, M, h, w]; ``z_symbols`` int32 [1, N, h/4, w/4]; ``scales`` (not of integer bundles) and
            ``means`` (float32), ``indexes`` (uint8) and ``symbols`` (int32), lists of one array a step in coding order;
            ``y_hat`` float32 [1, M, h, w].

        Raises:
            MlicError: as ``encode``; ``ShapeError`` also if the picture is more than one latent.
        """
        pixels, _ = self._take(image)
        if not self._pipeline.is_one_latent(pixels):
            raise ShapeError(
                f"picture has {pixels.shape[1]} x {pixels.shape[0]} pixels; "
                f"expected at most {self._pipeline.latent_pixels}, one latent"
            )
        return trace(self._pipeline.chain, *self._pipeline.analyse(pixels))

    def replay(self, z_symbols: Array, symbols: Sequence[Array]) -> list[Array]:
        """Run the chain with symbols that are known, as a decoder would, and return the scales.

        On two engines, this gives what they would compare: see ``trace`` for the symbols.

        Args:
            z_symbols: whole numbers [1, N, h/4, w/4].
            symbols: whole numbers, one array a step.

        Returns:
            float32, one array a step, of the shape of its symbols; uint8, the indexes, of an integer bundle.

        Raises:
            BackendError: a graph failed, or an array does not fit.
        """
        return replay(self._pipeline.chain, z_symbols, symbols)

    @property
    def info(self) -> dict[str, Any]:
        """The model and the engine, ready for JSON."""
        manifest = self.bundle.manifest
        return {
            "name": manifest.name,
            "architecture": manifest.architecture,
            "variant": manifest.variant,
            "model_id": manifest.model_id.hex(),
            "arithmetic": manifest.arithmetic,
            "engine": manifest.engine,
            "backend": granted_to(self.backend, self.chain_backend),
            "steps": len(manifest.steps),
            "open_graphs": [name for name, graph in self._graphs.items() if graph.is_open],
        }

    def _take(self, image: UInt8Array | Image, metadata: Metadata | None = None) -> tuple[UInt8Array, Metadata]:
        pixels, stored = pixels_from(image, self.max_pixels, metadata)
        height, width = pixels.shape[:2]
        frame_within(height, width, self.bundle.manifest.padding, self.max_pixels, ShapeError)
        check_metadata(stored)  # what is wrong with it is said before the work begins
        return pixels, stored

    def _read(self, data: bytes) -> Bitstream:
        stream = container.read(data, self.max_pixels, max(MAX_LATENT_PIXELS, self._pipeline.latent_pixels))
        frame_within(stream.height, stream.width, self.bundle.manifest.padding, self.max_pixels, UnsupportedStreamError)
        return stream
