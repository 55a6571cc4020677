"""From latents to the symbols in a file and back: ``h_s``, the steps and ``finish`` around the entropy coder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mlic.runtime.arrays import Float32Array
from mlic.runtime.backends.base import Backend, Graph
from mlic.runtime.backtrack import decode_walk, straight_walk
from mlic.runtime.bundle import Bundle
from mlic.runtime.coder import Models, Substreams, SymbolDecoder, SymbolEncoder
from mlic.runtime.container import Bitstream
from mlic.runtime.errors import UnsupportedStreamError
from mlic.runtime.image import Frame
from mlic.runtime.proof import Proof
from mlic.runtime.syndrome import Change
from mlic.runtime.walk import State, Step, walk

Progress = Callable[[str], None]


def silent(_: str) -> None:
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


class Chain:
    """The entropy path of a model on an engine; may be used from several threads at once.

    Args:
        bundle: the model.
        backend: what runs its ``h_s``, steps and ``finish``.
        graphs: of the bundle.

    Attributes:
        bundle: the model.
        steps: in coding order.
        models: of its tables, shared by all coders.
        proof: that the engine may be trusted with the model's files.
    """

    def __init__(self, bundle: Bundle, backend: Backend, graphs: Mapping[str, Graph]) -> None:
        self.bundle = bundle
        self.models = Models(bundle.entropy, bundle.manifest.arithmetic)
        arithmetic = self.models.indexing.arithmetic
        self.steps = [Step(step, graphs[step.graph], arithmetic) for step in bundle.manifest.steps]
        self.proof = Proof(bundle, backend, graphs)
        self._decode_walk = decode_walk if self.models.indexing.repairs else straight_walk
        self._backend = backend
        self._h_s = graphs["h_s"]
        self._finish = graphs["finish"]
        self._z_spec = graphs["h_a"].spec.outputs["z_symbols"]

    @property
    def num_stages(self) -> int:
        """How often ``encode`` reports progress; ``decode`` does so as often, unless it has to go back."""
        return 2 * len(self.steps) + 3

    def begin(self, z_symbols: Float32Array, progress: Progress = silent) -> State:
        """Return the state in which the walk begins.

        Args:
            z_symbols: float32 [1, N, h/4, w/4], whole numbers.
            progress: called with the name of each graph of the walk, and ``coder``.

        Raises:
            EngineMismatchError: the engine does not compute what the bundle's certificate says.
            BackendError: the graph failed.
        """
        self.proof.require()
        chain = [self._h_s.spec, *(step.graph.spec for step in self.steps), self._finish.spec]
        state = State(chain, {"z_symbols": z_symbols}, progress)
        state.run(self._h_s)
        return state

    def finish(self, state: State) -> Float32Array:
        """Return y_hat, float32 [1, M, h, w], of a state that has been through all steps; may lie on a device.

        Raises:
            BackendError: the graph failed.
        """
        return state.run(self._finish)["y_hat"]

    def encode(self, y: Float32Array, z_symbols: Float32Array, progress: Progress = silent) -> Substreams:
        """Return the contents of a file.

        Args:
            y: float32 [1, M, h, w].
            z_symbols: float32 [1, N, h/4, w/4], whole numbers.
            progress: called with the name of each stage before it begins.

        Raises:
            EngineMismatchError: the engine does not compute what the bundle's certificate says.
            BackendError: a graph failed or gave values that cannot be coded.
        """
        coder = SymbolEncoder(self.models)
        progress("coder")
        walk(self.steps, coder, self.begin(coder.code_z(z_symbols), progress), y)
        progress("container")
        return coder.finish()

    def decode(self, stream: Bitstream, progress: Progress = silent) -> DecodedLatent:
        """Return the latent that a file holds.

        Args:
            stream: without a grid.
            progress: called with the name of each stage before it begins.

        Raises:
            BitstreamError: the file is damaged or of another model.
            EngineMismatchError: this engine's table indexes differ from the encoder's beyond repair, or it does not
                compute what the bundle's certificate says.
            BackendError: a graph failed.
        """
        assert stream.grid is None
        self.check(stream)
        frame = Frame.around(stream.height, stream.width, self.bundle.manifest.padding)
        padded = (frame.padded_height, frame.padded_width)
        step_sizes = [math.prod(step.graph.spec.outputs[step.spec.means].concrete(*padded)) for step in self.steps]
        progress("coder")
        coder = SymbolDecoder(self.models, stream, step_sizes, self._backend.granted)
        state = self.begin(coder.code_z(self._z_spec.concrete(*padded)), progress)
        state, coder = self._decode_walk(self.steps, coder, state)
        return DecodedLatent(frame, self.finish(state), coder.changes)

    def check(self, stream: Bitstream) -> None:
        """Compare a file with the model.

        Raises:
            UnsupportedStreamError: it is of another model, or needs another arithmetic.
        """
        manifest = self.bundle.manifest
        if stream.model_id != manifest.model_id:
            theirs = ours = ""
            if stream.arithmetic != manifest.arithmetic:  # perhaps two bundles of one checkpoint
                theirs, ours = f", arithmetic {stream.arithmetic}", f", arithmetic {manifest.arithmetic}"
            raise UnsupportedStreamError(
                f"the file is of model {stream.model_id.hex()}{theirs}; "
                f"bundle {manifest.name} is model {manifest.model_id.hex()}{ours}; name the bundle that wrote it",
                offset=8,
            )
        if stream.arithmetic != manifest.arithmetic:
            raise UnsupportedStreamError(
                f"the file needs arithmetic {stream.arithmetic}; bundle {manifest.name} has {manifest.arithmetic}",
                offset=5,
            )
