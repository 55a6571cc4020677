"""How building a bundle's engines went, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlic.tools.console import bytes_text

if TYPE_CHECKING:  # mlic-run loads the export side only when asked to build
    from mlic.export.engines import GraphBuild


def build_problem(builds: Sequence[GraphBuild]) -> str | None:
    """Return what was wrong with the first graph that has no engine, or None."""
    return next((f"graph {build.graph}: {build.problem}" for build in builds if build.problem), None)


def build_rows(builds: Sequence[GraphBuild]) -> list[dict[str, Any]]:
    """Return one object a graph, ready for JSON."""
    return [asdict(build) for build in builds]


def build_table(builds: Sequence[GraphBuild]) -> str:
    """Return a table with a row for each graph, and what they come to."""
    lines = [f"engines by {builds[0].engine}", f"{'graph':<10} {'build':>9} {'plan':>9}"]
    for build in builds:
        size = bytes_text(build.bytes) if build.bytes else "-"
        lines.append(f"{build.graph:<10} {build.seconds:>7.2f} s {size:>9}  {build.problem or 'ok'}")
    built = [build for build in builds if not build.problem]
    lines.append(
        f"{len(built)} of {len(builds)} graphs built in {sum(build.seconds for build in builds):.1f} s, "
        f"{bytes_text(sum(build.bytes for build in built))}"
    )
    return "\n".join(lines)
