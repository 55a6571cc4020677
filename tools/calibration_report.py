"""What a calibration found, for people: a table of layers, a plot, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # needs onnx, which mlic-calibrate --help does not
    from matplotlib.axes import Axes

    from mlic.calibration.bundle_writer import Calibration
    from mlic.calibration.sensitivity import Sensitivity

COLOURS = {True: "#0072B2", False: "#D55E00"}  # Okabe and Ito 2008
GRAPHS = ("g_a", "g_s")
SHOWN_LEAST = 1e-4  # dB and percent; the axes are logarithmic


def layer_rows(result: Calibration) -> list[dict[str, Any]]:
    """Return one object a layer and form, ready for JSON."""
    rows: list[dict[str, Any]] = []
    for form, layers in result.layers.items():
        for one in layers:
            row: dict[str, Any] = {
                "form": form,
                "graph": one.layer.graph,
                "layer": one.layer.title,
                "int8": one.chosen,
                "share_percent": round(100 * one.products / _products(layers, one.layer.graph), 2),
            }
            if one.effect is not None:
                row |= {
                    "psnr_loss_db": round(one.effect.psnr_loss_db, 4),
                    "rate_percent": round(one.effect.rate_percent, 4),
                }
            rows.append(row)
    return rows


def layer_table(result: Calibration) -> str:
    """Return a table with a row for each layer, a column for each form, and what all layers come to."""
    forms = list(result.layers)
    width = max(len(one.layer.title) for one in result.layers[forms[0]])
    lines = [" " * (14 + width) + "".join(f" {form + ' form':>25}" for form in forms)]
    lines.append(
        f"{'graph':<5} {'layer':<{width}} {'share':>6} " + f" {'PSNR loss':>9} {'rate':>9} {'in':>4}" * len(forms)
    )
    for versions in zip(*(result.layers[form] for form in forms), strict=True):
        first = versions[0]
        share = 100 * first.products / _products(result.layers[forms[0]], first.layer.graph)
        line = f"{first.layer.graph:<5} {first.layer.title:<{width}} {share:>4.1f} % "
        for one in versions:
            effects = f"{'':>9} {'':>9}"
            if one.effect is not None:
                effects = f"{one.effect.psnr_loss_db:>6.3f} dB {one.effect.rate_percent:>+7.3f} %"
            line += f" {effects} {'int8' if one.chosen else 'fp32'}"
        lines.append(line)
    for form, effect in result.effects.items():
        shares = ", ".join(f"{graph} {int8_share(result.layers[form], graph):.0f} %" for graph in GRAPHS)
        lines.append(
            f"{form} form, products in int8: {shares}; both together: "
            f"PSNR {-effect.psnr_loss_db:+.3f} dB, rate {effect.rate_percent:+.2f} %"
        )
    return "\n".join(lines)


def int8_share(layers: Sequence[Sensitivity], graph: str) -> float:
    """Return how many of a graph's products run in int8, in percent."""
    chosen = sum(one.products for one in layers if one.layer.graph == graph and one.chosen)
    return 100 * chosen / _products(layers, graph)


def write_plot(path: Path, result: Calibration) -> None:
    """Draw what each layer of the unsigned form costs alone, a row of panels for each transform.

    Args:
        path: of the SVG.
        result: of a calibration with a budget.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra, a second to load
    from matplotlib.figure import Figure  # noqa: PLC0415

    everything = next(iter(result.layers.values()))
    counts = [sum(one.layer.graph == graph for one in everything) for graph in GRAPHS]
    with mpl.rc_context({"svg.hashsalt": "mlic", "font.size": 8}):
        figure = Figure(figsize=(9, 0.9 + 0.17 * len(everything)), layout="constrained")
        panels = figure.subplots(len(GRAPHS), 2, sharex="col", squeeze=False, height_ratios=counts)
        for row, graph in zip(panels, GRAPHS, strict=True):
            layers = [one for one in everything if one.layer.graph == graph][::-1]
            titles = [f"{one.layer.title} ({100 * one.products / _products(layers, graph):.0f} %)" for one in layers]
            colours = [COLOURS[one.chosen] for one in layers]
            for panel, values in zip(row, _effects(layers), strict=True):
                draw_bars(panel, titles, values, colours, SHOWN_LEAST)
            row[0].set_ylabel(f"{graph}: layer (share of the products)")
            row[1].tick_params(labelleft=False)
        panels[-1][0].set_xlabel("PSNR loss of the layer alone, dB")
        panels[-1][1].set_xlabel("additional bits, %")
        figure.suptitle(f"{result.manifest.name}: in int8 (blue) and left in fp32 (orange)")
        figure.savefig(path, metadata={"Date": None})


def draw_bars(
    panel: Axes, titles: Sequence[str], values: Sequence[float], colours: Sequence[str], least: float
) -> None:
    """Draw a bar for each layer on a logarithmic axis; smaller ones than ``least`` are as long as that."""
    panel.barh(titles, [max(value, least) for value in values], color=colours)
    panel.set_xscale("log")
    panel.set_xlim(left=least / 2)  # so that the least still shows its colour
    panel.grid(axis="x", alpha=0.3)


def _effects(layers: Sequence[Sensitivity]) -> tuple[list[float], list[float]]:
    effects = [one.effect for one in layers if one.effect is not None]
    return [effect.psnr_loss_db for effect in effects], [effect.rate_percent for effect in effects]


def _products(layers: Sequence[Sensitivity], graph: str) -> float:
    return sum(one.products for one in layers if one.layer.graph == graph)
