"""What ONNX Runtime's own profile of a graph says: time and floating-point operations, node by node.

A multiplication and an addition are two operations. Only matrix products and convolutions are counted (transposed ones
are not: the profile lacks their weights); everything else moves memory and adds time, which is what the share of the
machine's peak shows.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KERNEL = "_kernel_time"  # ends the names of the events that are a node's own run


@dataclass
class GraphProfile:
    """One graph, over one run.

    Attributes:
        nodes: how many ran.
        flops: floating-point operations of its convolutions and matrix products.
        seconds: by kind of operator.
    """

    nodes: int = 0
    flops: float = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def total_seconds(self) -> float:
        """Time of all nodes."""
        return sum(self.seconds.values())


def profile_from_events(events: Iterable[dict[str, Any]]) -> GraphProfile:
    """Return the operations of one run and the median time of each node, its first run left out.

    Args:
        events: of a session's profile file; the session ran twice or more.
    """
    durations: defaultdict[str, list[float]] = defaultdict(list)
    nodes = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            durations[event["name"]].append(event["dur"] / 1e6)
            nodes[event["name"]] = event["args"]
    result = GraphProfile(nodes=len(nodes), flops=sum(map(flops_of, nodes.values())))
    for name, args in nodes.items():
        result.seconds[args["op_name"]] += statistics.median(durations[name][1:])
    return result


def flops_of(args: dict[str, Any]) -> float:
    """Return the operations of one node, 0 for what is neither convolution nor matrix product."""
    kind, inputs, outputs = args["op_name"], _shapes(args["input_type_shape"]), _shapes(args["output_type_shape"])
    if kind in {"Conv", "FusedConv", "NhwcFusedConv"}:
        # A weight is [outputs, inputs of a group, rows, columns]. Blocked layouts compute whole blocks of 16 outputs.
        return 2 * math.prod(outputs[0]) * math.prod(inputs[1][1:])
    if kind in {"MatMul", "FusedMatMul", "Gemm", "FusedGemm"}:
        # The weight is missing from the profile once the engine has packed it; the first matrix says enough.
        inner = math.prod(inputs[0][-2:]) // outputs[0][-2]  # whether it is transposed or not
        return 2 * math.prod(outputs[0]) * inner
    return 0


def read_profile(path: Path) -> GraphProfile:
    """Read the file that a session wrote; see ``profile_from_events``."""
    return profile_from_events(json.loads(path.read_text(encoding="utf-8")))


def _shapes(described: list[dict[str, list[int]]]) -> list[list[int]]:
    return [next(iter(shape.values())) for shape in described]
