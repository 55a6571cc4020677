"""Whether a manifest's graphs and steps fit together.

Every array is made before it is taken, and every value of y is coded once.
"""

from __future__ import annotations

from mlic.runtime.arithmetic import ARITHMETICS, INTEGER
from mlic.runtime.backends.base import shape_text
from mlic.runtime.manifest import Dim, GraphSpec, Manifest, StepSpec, TensorSpec

LATENT_STRIDE = 16  # pixels a position of y; part of the bundle format
HYPER_STRIDE = 64  # pixels a position of z
TILED = ("g_a", "g_s")  # the graphs that may run over tiles


def wiring_problems(manifest: Manifest) -> list[str]:
    """Return everything that keeps the graphs and steps from working together; empty if nothing does.

    Args:
        manifest: as parsed; its graphs may be incomplete.
    """
    arithmetic = ARITHMETICS.get(manifest.arithmetic)
    if arithmetic is None:
        return [f"arithmetic {manifest.arithmetic!r:.40}; this reader knows {', '.join(ARITHMETICS)}"]
    names = ["g_a", "h_a", "h_s", *dict.fromkeys(step.graph for step in manifest.steps), "finish", "g_s"]
    if missing := [name for name in names if name not in manifest.graphs]:
        return [f"graphs are missing: {', '.join(missing)}"]
    graphs = {name: graph.spec for name, graph in manifest.graphs.items()}
    problems = []
    if manifest.padding.multiple % HYPER_STRIDE:
        problems.append(
            f"padding is to a multiple of {manifest.padding.multiple}; expected a multiple of {HYPER_STRIDE}"
        )
    x = TensorSpec("float32", (1, 3, "height", "width"))
    y = _latent(manifest.y_channels, LATENT_STRIDE)
    z = _latent(manifest.z_channels, HYPER_STRIDE)
    problems += _exactly(graphs["g_a"], {"x": x}, {"y": y})
    problems += _exactly(graphs["h_a"], {"y": y}, {"z_symbols": z})
    problems += _exactly(graphs["g_s"], {"y_hat": y}, {"x_hat": x})
    problems += _tilings(manifest)

    state = {"z_symbols": z}
    problems += _advance(graphs["h_s"], state)
    for number, step in enumerate(manifest.steps):
        if step.graph != f"step_{number:02d}":
            problems.append(f"step {number} has graph {step.graph}; expected step_{number:02d}")
        problems += _advance(graphs[step.graph], state)
        part = _part(step)
        given = TensorSpec(arithmetic.dtype, part.shape)
        problems += _gives(graphs[step.graph], {arithmetic.output(step): given, step.means: part})
        state[step.symbols] = part
    problems += _advance(graphs["finish"], state)
    problems += _gives(graphs["finish"], {"y_hat": y})
    problems += _coverage(manifest)
    if arithmetic is INTEGER and manifest.certificate is None:
        problems.append("there is no certificate, by which engines prove that they compute integers exactly")
    problems += [
        f"graph {name} is not exact; the entropy path has to be" for name in names[2:-1] if not graphs[name].exact
    ]
    return problems


def _advance(graph: GraphSpec, state: dict[str, TensorSpec]) -> list[str]:
    """Check a graph's inputs against the state and put its outputs into it."""
    problems = []
    for name, spec in graph.inputs.items():
        if name not in state:
            problems.append(f"graph {graph.name} takes {name}, which nothing gives before")
        elif state[name] != spec:
            problems.append(f"graph {graph.name} takes {name} as {_text(spec)}; it is {_text(state[name])}")
    problems += [f"graph {graph.name} gives {name} a second time" for name in graph.outputs if name in state]
    state.update(graph.outputs)
    return problems


def _gives(graph: GraphSpec, expected: dict[str, TensorSpec]) -> list[str]:
    return [
        f"graph {graph.name} gives {name} as {_text(graph.outputs.get(name))}; expected {_text(spec)}"
        for name, spec in expected.items()
        if graph.outputs.get(name) != spec
    ]


def _exactly(graph: GraphSpec, inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]) -> list[str]:
    problems = _gives(graph, outputs)
    if graph.inputs != inputs:
        found = ", ".join(f"{name} {_text(spec)}" for name, spec in graph.inputs.items()) or "nothing"
        expected = ", ".join(f"{name} {_text(spec)}" for name, spec in inputs.items())
        problems.append(f"graph {graph.name} takes {found}; expected {expected}")
    return problems


def _tilings(manifest: Manifest) -> list[str]:
    """Check that tiles hold whole positions of y, and that pictures end where a tile may."""
    problems = []
    for name, graph in manifest.graphs.items():
        if graph.tiling is None:
            continue
        multiple, end = graph.tiling.multiple, manifest.padding.multiple
        if name not in TILED:
            problems.append(f"graph {name} has a tiling; only {' and '.join(TILED)} run over tiles")
        elif multiple % LATENT_STRIDE or end % multiple:
            problems.append(
                f"graph {name} has tiles of a multiple of {multiple}; expected a multiple of {LATENT_STRIDE} "
                f"that divides the padding's, {end}"
            )
    return problems


def _coverage(manifest: Manifest) -> list[str]:
    """Check that the steps fill each channel of y exactly once at each kind of position."""
    filled = {kind: [0] * manifest.y_channels for kind in ("anchor", "nonanchor")}
    problems = []
    for step in manifest.steps:
        first, end = step.channels
        if end > manifest.y_channels:
            problems.append(f"step {step.graph} fills channels {first} to {end - 1} of {manifest.y_channels}")
            continue
        for kind in filled if step.positions == "all" else (step.positions,):
            for channel in range(first, end):
                filled[kind][channel] += 1
    for kind, counts in filled.items():
        if wrong := [channel for channel, count in enumerate(counts) if count != 1]:
            problems.append(
                f"{len(wrong)} channels of y are not filled exactly once at {kind}s, the first is {wrong[0]}"
            )
    return problems


def _latent(channels: int, stride: int) -> TensorSpec:
    return TensorSpec("float32", (1, channels, f"height/{stride}", f"width/{stride}"))


def _part(step: StepSpec) -> TensorSpec:
    across = LATENT_STRIDE if step.positions == "all" else 2 * LATENT_STRIDE
    shape: tuple[Dim, ...] = (
        1, step.channels[1] - step.channels[0], f"height/{LATENT_STRIDE}", f"width/{across}",
    )  # fmt: skip
    return TensorSpec("float32", shape)


def _text(spec: TensorSpec | None) -> str:
    return "nothing" if spec is None else f"{spec.dtype} {shape_text(spec.shape)}"
