"""What the layers of an integer chain cost, for people: a table, a plot, JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlic.tools.calibration_report import COLOURS, draw_bars

if TYPE_CHECKING:  # needs onnx, which mlic-calibrate --help does not
    from mlic.calibration.integer.information import Cost
    from mlic.calibration.integer.sensitivity import ChainSensitivity

DRAWN = 40  # layers in a plot; a chain has hundreds
SHOWN_LEAST = 1e-5  # percent; the axis is logarithmic


def sensitivity_json(found: ChainSensitivity) -> dict[str, Any]:
    """Return an object for each layer, those that cost most first, and the totals, ready for JSON."""
    layers = [
        {"graph": one.graph, "layer": one.layer, "operator": one.operator} | _cost_json(one.percent)
        for one in found.worst_first()
    ]
    return {
        "layers": layers,
        "layers_sum": _cost_json(found.total),
        "layers_together": _cost_json(found.chain),
        "layers_pictures": found.pictures,
    }


def _cost_json(cost: Cost) -> dict[str, float]:
    return {"expected_rate_percent": round(cost.expected, 5) + 0.0, "coded_rate_percent": round(cost.coded, 5) + 0.0}


def sensitivity_table(found: ChainSensitivity) -> str:
    """Return a table with a row for each layer, those that cost most first, and what they come to."""
    totals = {"all layers alone, added up": found.total, "the integer chain": found.chain}
    width = max([len(one.layer) for one in found.layers] + [len(title) - 15 for title in totals])
    lines = [f"{'graph':<7} {'layer':<{width}} {'':<6}  {'expected':>10} {'coded':>10}"]
    for one in found.worst_first():
        lines.append(f"{one.graph:<7} {one.layer:<{width}} {one.operator:<6}  {_cost_text(one.percent)}")
    lines += [f"{title:<{width + 15}}  {_cost_text(cost)}" for title, cost in totals.items()]
    return "\n".join(lines)


def _cost_text(cost: Cost) -> str:
    return " ".join(f"{round(value, 4) + 0.0:>+8.4f} %" for value in (cost.expected, cost.coded))


def write_sensitivity_plot(path: Path, name: str, found: ChainSensitivity) -> None:
    """Draw what the layers that cost most do alone.

    Args:
        path: of the SVG.
        name: of the bundle.
        found: its layers.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra, a second to load
    from matplotlib.figure import Figure  # noqa: PLC0415

    drawn = found.worst_first()[:DRAWN][::-1]
    with mpl.rc_context({"svg.hashsalt": "mlic", "font.size": 8}):
        figure = Figure(figsize=(7, 1.1 + 0.17 * len(drawn)), layout="constrained")
        panel = figure.subplots()
        titles = [f"{one.graph} {one.layer}" for one in drawn]
        values = [one.percent.expected for one in drawn]
        draw_bars(panel, titles, values, [COLOURS[True]] * len(drawn), SHOWN_LEAST)
        panel.set_xlabel("additional bits expected of the layer alone in 8 bits, %")
        figure.suptitle(
            f"{name}: {len(drawn)} of {len(found.layers)} layers; all alone {found.total.expected:.3f} %, "
            f"together {found.chain.expected:.3f} %"
        )
        figure.savefig(path, metadata={"Date": None})
