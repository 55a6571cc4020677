"""Write a copy of a bundle with compressed graphs: ``python -m mlic.tools.compress_bundle BUNDLE -o OUT``.

Such a bundle reads and writes the same files; only its graphs' files are smaller.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlic.export.compression import compress_bundle
from mlic.runtime.bundle import Bundle
from mlic.tools.console import bytes_text, reported_errors
from mlic.tools.run_options import FLAG

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle to copy; it stays as it is.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="BUNDLE", help="Folder of the bundle to make.")],
    force: Annotated[
        bool, typer.Option("--force", "-f", metavar=FLAG, help="Replace the bundle, if there is one.")
    ] = False,
) -> None:
    """Write the copy and say what it saves."""
    with reported_errors("compress_bundle"):
        before = Bundle.open(bundle)
        after = compress_bundle(before, output, force)
        sizes = [_graph_bytes(opened) for opened in (before, after)]
        model = after.manifest.model_id.hex()
        print(f"{output}: model {model}, graphs of {bytes_text(sizes[1])} instead of {bytes_text(sizes[0])}")


def _graph_bytes(bundle: Bundle) -> int:
    files = {form.path for graph in bundle.manifest.graphs.values() for form in graph.forms}
    return sum((bundle.folder / path).stat().st_size for path in files)


if __name__ == "__main__":
    app()
