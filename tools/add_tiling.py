"""Write into bundles how their transforms may be run over tiles: ``python -m mlic.tools.add_tiling BUNDLE…``.

For bundles that were exported before exports found that out themselves. Graphs, tables and ``model_id`` stay as they
are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mlic.runtime.arrays import Array
from mlic.runtime.atomic import write_atomically
from mlic.runtime.backends import open_backend
from mlic.runtime.bundle import MANIFEST_NAME, Bundle
from mlic.runtime.errors import BundleError
from mlic.runtime.manifest import Tiling
from mlic.runtime.manifest_json import json_from_manifest
from mlic.runtime.wiring import TILED
from mlic.tools.console import reported_errors
from mlic.tools.extras import required

with required("add_tiling", "export", "cpu"):
    from mlic.export.tiling import derive_tilings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE…", help="Folders; their manifests are rewritten.")],
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Find out and write down."""
    with reported_errors("add_tiling"):
        for folder in bundles:
            for graph, tiling in add_tiling(folder, threads).items():
                print(f"{folder.name}: {graph} in tiles of a multiple of {tiling.multiple}, halo {tiling.halo}")


def add_tiling(folder: Path, threads: int = 1) -> dict[str, Tiling]:
    """Find out how a bundle's transforms may be run over tiles, and write it into the manifest.

    Args:
        folder: of the bundle.
        threads: of the engine.

    Returns:
        What was written, by graph; without those that have to run in one pass.

    Raises:
        BundleError: the bundle is damaged, or its transforms are not in float32.
        BackendError: the engine is not installed, or refuses a graph.
    """
    bundle = Bundle.open(folder)
    files = {name: bundle.manifest.graphs[name] for name in TILED}
    for name, file in files.items():
        if file.precision not in ("fp32", "bf16"):
            raise BundleError(f"bundle {folder}: graph {name} is {file.precision}; take the tiling of the fp32 bundle")
    backend = open_backend("onnxruntime", threads)
    opened = {name: backend.open(bundle.path_of(file), file) for name, file in files.items()}

    def run(name: str, values: Array) -> Array:
        (given,), (result,) = opened[name].spec.inputs, opened[name].spec.outputs
        return opened[name].run({given: values})[result]

    tilings = derive_tilings({name: file.spec for name, file in files.items()}, run)
    graphs = bundle.manifest.graphs | {name: replace(file, tiling=tilings.get(name)) for name, file in files.items()}
    text = json_from_manifest(replace(bundle.manifest, graphs=graphs))
    write_atomically(folder / MANIFEST_NAME, text.encode())
    return tilings


if __name__ == "__main__":
    app()
