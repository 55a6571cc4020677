"""Keep a checkpoint beside the bundle made from it without keeping its weights twice.

``python -m mlic.tools.checkpoint_parts split CHECKPOINT BUNDLE -o REST`` writes what of the checkpoint the graphs of
the bundle do not hold value for value; ``... join BUNDLE REST -o CHECKPOINT`` puts both together, to go on training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mlic.runtime.arrays import Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import MlicError
from mlic.tools.console import bytes_text, reported_errors
from mlic.tools.extras import required

with required("checkpoint_parts", "export", "cpu"):
    import onnx
    import torch
    from onnx import numpy_helper

    from mlic.export.checkpoints import load_checkpoint
    from mlic.export.official_tables import fill_tables
    from mlic.export.weights import eight_bits_from_values

PLACES = "places"  # JSON: parameter -> [graph, initializer, whether its axes are reversed]
SMALLEST = 64  # values; smaller parameters could equal each other by chance, and cost nothing

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Output = Annotated[Path, typer.Option("-o", "--output", help="File to write.")]
BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Exported from the checkpoint.")]


@app.command()
def split(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint of any architecture.")],
    bundle: BundleFolder,
    output: Output,
) -> None:
    """Write what a checkpoint holds and its bundle does not."""
    with reported_errors("split"):
        model = load_checkpoint(checkpoint, "auto").model
        held: dict[tuple[tuple[int, ...], bytes], tuple[str, str, bool]] = {}
        for graph, name, values in _initializers(Bundle.open(bundle)):
            for reverse in (False, True):
                turned = values.T if reverse else values
                held.setdefault(_key(turned), (graph, name, reverse))
        places: dict[str, tuple[str, str, bool]] = {}
        rest: dict[str, Array] = {}
        for name, parameter in model.named_parameters():
            values = parameter.detach().numpy()
            if values.size >= SMALLEST and (found := held.get(_key(values))):
                places[name] = found
            else:
                rest |= _packed(name, values)
        text = np.frombuffer(json.dumps(places).encode(), np.uint8)
        np.savez_compressed(output, allow_pickle=False, **{PLACES: text}, **rest)
        count = sum(parameter.numel() for name, parameter in model.named_parameters() if name in places)
        print(f"{output}: {bytes_text(output.stat().st_size)}; {count} parameters lie in {bundle}")


@app.command()
def join(
    bundle: BundleFolder,
    rest: Annotated[Path, typer.Argument(metavar="REST", help="What `split` wrote.")],
    output: Output,
) -> None:
    """Write the checkpoint again."""
    with reported_errors("join"):
        state = joined(bundle, rest)
        torch.save({"epoch": 0, "state_dict": state, "loss": None}, output)
        model = load_checkpoint(output, "auto").model
        fill_tables(model)
        torch.save({"epoch": 0, "state_dict": model.state_dict(), "loss": None}, output)


def joined(bundle: Path, rest: Path) -> dict[str, torch.Tensor]:
    """Return the parameters of the checkpoint by name.

    Raises:
        MlicError: the two do not belong together.
    """
    values = {(graph, name): array for graph, name, array in _initializers(Bundle.open(bundle))}
    state = {}
    with np.load(rest, allow_pickle=False) as content:
        for name, (graph, initializer, reverse) in json.loads(content[PLACES].tobytes()).items():
            if (graph, initializer) not in values:
                raise MlicError(f"{rest} does not belong to {bundle}: graph {graph} has no {initializer}")
            found = values[graph, initializer]
            state[name] = torch.from_numpy(np.ascontiguousarray(found.T if reverse else found))
        for key in content.files:
            name, _, kind = key.rpartition("/")
            if kind in ("float", "half"):
                state[name] = torch.from_numpy(content[key].astype(np.float32))
            elif kind == "integers":
                state[name] = torch.from_numpy(
                    content[key].astype(np.float32) * content[f"{name}/steps"].astype(np.float32)
                )
    return state


def _packed(name: str, values: Array) -> dict[str, Array]:
    """Return a parameter in the fewest bytes that hold it exactly."""
    if values.size >= SMALLEST and (found := eight_bits_from_values(values)):
        return {f"{name}/integers": found[0], f"{name}/steps": found[1]}
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return {f"{name}/half": half} if np.array_equal(half, values) else {f"{name}/float": values}


def _initializers(bundle: Bundle) -> Iterator[tuple[str, str, Array]]:
    """Yield graph, name and values of all weights of a bundle, as they are once engines have unpacked them."""
    for graph, file in bundle.manifest.graphs.items():
        model = onnx.load_from_string(bundle.read_graph(file))
        found = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
        for name, values in found.items():
            if name.endswith("_int8"):
                base = name.removesuffix("_int8")
                yield graph, base, values.astype(np.float32) * found[f"{base}_steps"].astype(np.float32)
            elif name.endswith("_half") or values.dtype == np.float32:
                yield graph, name.removesuffix("_half"), values.astype(np.float32)


def _key(values: Array) -> tuple[tuple[int, ...], bytes]:
    return values.shape, (np.ascontiguousarray(values) + np.float32(0)).tobytes()  # -0 as 0


if __name__ == "__main__":
    app()
