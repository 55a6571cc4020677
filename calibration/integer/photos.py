"""The float chain run on photos, with any of its tensors put out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from mlic.calibration.integer.float_chain import FloatChain
from mlic.calibration.observe import session
from mlic.runtime.arrays import Array, UInt8Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import chain_names
from mlic.runtime.checkerboard import part_of_y
from mlic.runtime.image import Frame, x_from_pixels


class ChainRuns:
    """Encodes photos with the float chain.

    Args:
        bundle: the float one.
        chain: its entropy path.
        pictures: uint8 [H, W, 3] each.
        threads: of the engine.
    """

    def __init__(self, bundle: Bundle, chain: FloatChain, pictures: Sequence[UInt8Array], threads: int) -> None:
        self._bundle, self._chain, self._threads = bundle, chain, threads
        manifest = bundle.manifest
        g_a, h_a = (
            session(onnx.load_from_string(bundle.read_graph(manifest.graphs[name])), threads) for name in ("g_a", "h_a")
        )
        self.latents: list[tuple[Array, Array]] = []  # y and z_symbols of each picture
        for pixels in pictures:
            frame = Frame.around(pixels.shape[0], pixels.shape[1], manifest.padding)
            y = g_a.run(["y"], {"x": x_from_pixels(pixels, frame, manifest.padding)})[0]
            self.latents.append((y, h_a.run(["z_symbols"], {"y": y})[0]))

    def all_names(self) -> list[str]:
        """Return the names of all tensors of the chain that depend on the picture."""
        return [*self._chain.types]

    def runs(self, names: Sequence[str]) -> list[Callable[[], Mapping[str, Array]]]:
        """Return a function for each picture that computes tensors."""
        opened = {}
        for graph in chain_names(self._bundle.manifest):
            model = onnx.load_from_string(self._bundle.read_graph(self._bundle.manifest.graphs[graph]))
            wanted = [name for name in names if self._chain.owner(name) == graph and name in self._chain.producer]
            outputs = [name.removeprefix(f"{graph}/") for name in wanted]
            opened[graph] = (session(model, self._threads, outputs), outputs, wanted)
        wanted_all = set(names)

        def run(y: Array, z_symbols: Array) -> dict[str, Array]:
            state = {"z_symbols": z_symbols}
            kept: dict[str, Array] = {}
            for graph, (running, outputs, wanted) in opened.items():
                spec = self._bundle.manifest.graphs[graph].spec
                asked = list(dict.fromkeys([*spec.outputs, *outputs]))
                found = dict(zip(asked, running.run(asked, {name: state[name] for name in spec.inputs}), strict=True))
                kept |= {name: found[output] for name, output in zip(wanted, outputs, strict=True)}
                state |= {name: found[name] for name in spec.outputs}
                for step in self._bundle.manifest.steps:
                    if step.graph == graph:
                        part = part_of_y(y, step.channels, step.positions)
                        state[step.symbols] = np.rint(part - state[step.means]).astype(np.float32)
            return kept | {name: state[name] for name in wanted_all if name in state and name not in kept}

        return [lambda y=y, z=z: run(y, z) for y, z in self.latents]  # type: ignore[misc]
