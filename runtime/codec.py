"""Pictures to ``.mlic`` files and back: the data flow, top to bottom."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlic.runtime import container
from mlic.runtime.arrays import Array, Float32Array, UInt8Array
from mlic.runtime.backends import Backend, LazyGraph, open_backend
from mlic.runtime.backtrack import decode_walk
from mlic.runtime.bundle import Bundle
from mlic.runtime.coder import Models, SymbolDecoder, SymbolEncoder
from mlic.runtime.container import MAX_PIXELS, Bitstream
from mlic.runtime.errors import BundleError, ShapeError, UnsupportedStreamError
from mlic.runtime.image import Frame, frame_within, pixels_from_x_hat, x_from_pixels
from mlic.runtime.overlap import overlapped
from mlic.runtime.pictures import pixels_from
from mlic.runtime.shipped import bundle_for, shipped_bundle
from mlic.runtime.syndrome import Change
from mlic.runtime.tracing import SymbolReplayer, SymbolTracer
from mlic.runtime.walk import State, Step, walk

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    """Report no progress."""


class DecodedLatent(NamedTuple):
    """A file on its way to pixels.

    Attributes:
        frame: where the picture lies in the padded one.
        y_hat: float32 [1, M, h, w].
        changes: indexes that had to be corrected.
    """

    frame: Frame
    y_hat: Float32Array
    changes: tuple[Change, ...]


class Codec:
    """A model on an engine.

    One object may encode and decode in several threads at once: everything that changes during a call belongs
    to the call, graphs are opened under a lock, and engines run one graph in several threads. Graphs are
    opened when first needed, or by ``open``, and stay open as long as the object lives; in a forked child they are
    opened again.

    Attributes:
        bundle: the model.
        backend: the engine.
        max_pixels: largest picture that is encoded or decoded; padded it may have four times as many.
    """

    def __init__(self, bundle: Bundle, backend: Backend, max_pixels: int = MAX_PIXELS) -> None:
        self.bundle = bundle
        self.backend = backend
        self.max_pixels = max_pixels
        manifest = bundle.manifest
        self._models = Models(bundle.entropy)
        self._graphs = {
            name: LazyGraph(backend, bundle.path_of(graph), graph) for name, graph in manifest.graphs.items()
        }
        self._steps = [Step(step, self._graphs[step.graph]) for step in manifest.steps]

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str] | None = None,
        backend: str | Backend = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        quality: str | None = None,
    ) -> Codec:
        """Open a bundle on an engine.

        Args:
            bundle: the folder; default: the model of ``quality`` that ships with the package.
            backend: an engine's name, as ``open_backend`` takes it, or an opened engine.
            threads: for each graph; default: as many as the process may use. Ignored for an opened engine.
            max_pixels: refuse larger pictures, in both directions.
            quality: ``low``, ``medium`` (the default) or ``high``, by the size of the files; only without
                ``bundle``, which has a quality of its own.

        Raises:
            BundleError: the bundle is missing, incomplete or inconsistent, or there is no such quality.
            BackendError: the engine is unknown or not installed.
        """
        if bundle is not None and quality is not None:
            raise BundleError(f"quality {quality} chooses among the models that ship; bundle {bundle} has its own")
        opened = Bundle.open(shipped_bundle(quality) if bundle is None else bundle)
        engine = open_backend(backend, threads) if isinstance(backend, str) else backend
        return cls(opened, engine, max_pixels)

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
            UnsupportedStreamError: it is no ``.mlic`` file, of a newer version, too large, or of none of the models
                that ship.
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
            BackendError: the engine refuses a graph.
        """
        needed = {"h_s", *(step.spec.graph for step in self._steps)}
        needed |= {"g_a", "h_a"} if encode else set()
        needed |= {"finish", "g_s"} if decode else set()
        for name, graph in self._graphs.items():
            if name in needed:
                graph.open()

    @property
    def num_stages_per_call(self) -> int:
        """How often ``encode`` and ``decode`` each report progress."""
        return 2 * len(self._steps) + 6

    def encode(
        self, image: UInt8Array | Image, icc_profile: bytes | None = None, progress: Progress = _silent
    ) -> bytes:
        """Compress a picture.

        Encoding the same picture twice on one machine gives the same bytes.

        Args:
            image: uint8 [H, W, 3], uint8 [H, W] for grey, or a Pillow image (turned upright, made opaque
                RGB).
            icc_profile: colour profile to store; default: a Pillow image's own, if it has one.
            progress: called with the name of each stage before it begins: a graph's name, ``image`` (pixels
                to planes), ``coder`` (table indexes and symbols) or ``container`` (bytes of the file).

        Returns:
            The contents of a ``.mlic`` file.

        Raises:
            ShapeError: the array has another dtype or shape, or is larger than ``max_pixels``.
            ImageError: the Pillow image cannot be converted, or the profile is too large.
            BackendError: a graph failed or gave values that cannot be coded.
        """
        pixels, profile = pixels_from(image, self.max_pixels)
        analysed = self._analyse(pixels, progress)
        return self._write(pixels, analysed, profile if icc_profile is None else icc_profile, progress)

    def encode_many(self, images: Iterable[UInt8Array | Image]) -> Iterator[bytes]:
        """Compress pictures one after another, the analysis of one beside the entropy coding of the one before.

        Args:
            images: as ``encode`` takes them; one is taken ahead of what has been yielded.

        Yields:
            What ``encode`` returns for each, in order.

        Raises:
            MlicError: as ``encode``, when the pictures before have been yielded.
        """

        def analyse(image: UInt8Array | Image) -> tuple[UInt8Array, tuple[Float32Array, Float32Array], bytes | None]:
            pixels, profile = pixels_from(image, self.max_pixels)
            return pixels, self._analyse(pixels), profile

        return overlapped(images, analyse, lambda found: self._write(*found))

    def _write(
        self,
        pixels: UInt8Array,
        analysed: tuple[Float32Array, Float32Array],
        icc_profile: bytes | None,
        progress: Progress = _silent,
    ) -> bytes:
        """Return the file of a picture whose y and symbols of z are known."""
        y, z_symbols = analysed
        coder = SymbolEncoder(self._models)
        progress("coder")
        walk(self._steps, coder, self._state(coder.code_z(z_symbols), progress), y)
        progress("container")
        height, width = pixels.shape[:2]
        manifest = self.bundle.manifest
        return container.write(
            Bitstream(
                manifest.model_id,
                width,
                height,
                manifest.arithmetic,
                *coder.finish(),
                icc_profile=icc_profile,
            )
        )

    def decode(self, data: bytes, progress: Progress = _silent) -> UInt8Array:
        """Decompress a picture.

        Args:
            data: the contents of a ``.mlic`` file.
            progress: called with the name of each stage before it begins; see ``encode``.

        Returns:
            uint8 [H, W, 3].

        Raises:
            TruncatedStreamError: the file ends early.
            CorruptStreamError: the file is damaged.
            UnsupportedStreamError: it is no ``.mlic`` file, is of another model or a newer version, or larger
                than ``max_pixels``.
            EngineMismatchError: this engine's scale indexes differ from the encoder's beyond repair.
            BackendError: a graph failed.
        """
        return self._synthesise(self._decode_latent(data, progress), progress)

    def decode_many(self, files: Iterable[bytes]) -> Iterator[UInt8Array]:
        """Decompress files one after another, the synthesis of one beside the entropy decoding of the next.

        Args:
            files: contents of ``.mlic`` files; one is taken ahead of what has been yielded.

        Yields:
            What ``decode`` returns for each, in order.

        Raises:
            MlicError: as ``decode``, when the pictures before have been yielded.
        """
        return overlapped(files, self._decode_latent, self._synthesise)

    def decode_latent(self, data: bytes) -> Float32Array:
        """Decompress only as far as the latent; for tests and for comparing engines.

        Returns:
            float32 [1, M, padded height / 16, padded width / 16], equal to ``trace(...)["y_hat"]`` on the
            same engine.

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
            MlicError: as ``decode``; ``EngineMismatchError`` if there are too many.
        """
        decoded = self._decode_latent(data)
        return decoded._replace(y_hat=np.asarray(decoded.y_hat))

    def trace(self, image: UInt8Array | Image) -> dict[str, Any]:
        """Run the encoder and keep everything on the way.

        Returns:
            ``y`` float32 [1, M, h, w]; ``z_symbols`` int32 [1, N, h/4, w/4]; ``scales`` and ``means``
            (float32), ``indexes`` (uint8) and ``symbols`` (int32), lists of one array a step in coding order;
            ``y_hat`` float32 [1, M, h, w].

        Raises:
            MlicError: as ``encode``.
        """
        pixels, _ = pixels_from(image, self.max_pixels)
        coder = SymbolEncoder(self._models)
        tracer = SymbolTracer(coder, self.bundle.entropy)
        y, z_symbols = self._analyse(pixels)
        state = walk(self._steps, tracer, self._state(coder.code_z(z_symbols)), y)
        return {
            "y": y,
            "z_symbols": z_symbols.astype(np.int32),
            "scales": tracer.scales,
            "means": tracer.means,
            "indexes": tracer.indexes,
            "symbols": tracer.symbols,
            "y_hat": np.asarray(state.run(self._graphs["finish"])["y_hat"]),
        }

    def replay(self, z_symbols: Array, symbols: Sequence[Array]) -> list[Float32Array]:
        """Run the chain with symbols that are known, as a decoder would, and return the scales.

        On two engines, this gives what they would compare: see ``trace`` for the symbols.

        Args:
            z_symbols: whole numbers [1, N, h/4, w/4].
            symbols: whole numbers, one array a step.

        Returns:
            float32, one array a step, of the shape of its symbols.

        Raises:
            BackendError: a graph failed, or an array does not fit.
        """
        coder = SymbolReplayer(symbols)
        walk(self._steps, coder, self._state(z_symbols.astype(np.float32)))
        return coder.scales

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
            "backend": self.backend.granted,
            "steps": len(self._steps),
            "open_graphs": [name for name, graph in self._graphs.items() if graph.is_open],
        }

    def _analyse(self, pixels: UInt8Array, progress: Progress = _silent) -> tuple[Float32Array, Float32Array]:
        """Return y, and z's symbols as the graph gives them."""
        padding = self.bundle.manifest.padding
        frame = frame_within(pixels.shape[0], pixels.shape[1], padding, self.max_pixels, ShapeError)
        progress("image")
        x = x_from_pixels(pixels, frame, padding)
        progress("g_a")
        y = self._graphs["g_a"].run({"x": x})["y"]
        progress("h_a")
        z_symbols = self._graphs["h_a"].run({"y": y})["z_symbols"]
        return np.asarray(y), np.asarray(z_symbols)  # an engine on a device leaves them there until now

    def _state(self, z_symbols: Float32Array, progress: Progress = _silent) -> State:
        """Return the state in which the walk begins."""
        h_s, finish = self._graphs["h_s"], self._graphs["finish"]
        chain = [h_s.spec, *(step.graph.spec for step in self._steps), finish.spec]
        state = State(chain, {"z_symbols": z_symbols}, progress)
        state.run(h_s)
        return state

    def _decode_latent(self, data: bytes, progress: Progress = _silent) -> DecodedLatent:
        progress("container")
        stream = container.read(data, self.max_pixels)
        manifest = self.bundle.manifest
        if stream.model_id != manifest.model_id:
            raise UnsupportedStreamError(
                f"the file is of model {stream.model_id.hex()}; "
                f"bundle {manifest.name} is model {manifest.model_id.hex()}",
                offset=8,
            )
        if stream.arithmetic != manifest.arithmetic:
            raise UnsupportedStreamError(
                f"the file needs arithmetic {stream.arithmetic}; bundle {manifest.name} has {manifest.arithmetic}",
                offset=5,
            )
        frame = frame_within(stream.height, stream.width, manifest.padding, self.max_pixels, UnsupportedStreamError)
        padded = (frame.padded_height, frame.padded_width)
        step_sizes = [math.prod(step.graph.spec.outputs[step.spec.scales].concrete(*padded)) for step in self._steps]
        progress("coder")
        coder = SymbolDecoder(self._models, stream, step_sizes, self.backend.granted)
        z_shape = self._graphs["h_a"].spec.outputs["z_symbols"].concrete(*padded)
        state = self._state(coder.code_z(z_shape), progress)
        state, coder = decode_walk(self._steps, coder, state)
        return DecodedLatent(frame, state.run(self._graphs["finish"])["y_hat"], coder.changes)

    def _synthesise(self, decoded: DecodedLatent, progress: Progress = _silent) -> UInt8Array:
        progress("g_s")
        x_hat = np.asarray(self._graphs["g_s"].run({"y_hat": decoded.y_hat})["x_hat"])
        progress("image")
        return pixels_from_x_hat(x_hat, decoded.frame)
