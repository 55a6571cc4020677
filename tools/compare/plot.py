"""Rate-distortion curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlic.tools.compare.contenders import OURS, PILLOW_CODECS
from mlic.tools.compare.measure import Point
from mlic.tools.compare.summary import ms_ssim_db

# Okabe and Ito 2008: told apart with any colour vision; markers tell them apart in print too.
STYLES = {
    OURS: ("#D55E00", "o"),
    "jpeg": ("#000000", "s"),
    "webp": ("#0072B2", "^"),
    "avif": ("#009E73", "D"),
    "jxl": ("#CC79A7", "v"),
}
MARGIN = 2.0  # the plot ends at this multiple of our highest rate


def write_plot(path: Path, points: Sequence[Point]) -> None:
    """Write an SVG of mean PSNR and mean MS-SSIM over mean bits per pixel, one curve a codec.

    Args:
        path: of the file.
        points: of all photos; each codec's points at one quality are averaged over the photos.
    """
    with mpl.rc_context({"svg.hashsalt": "mlic", "svg.fonttype": "none", "font.family": "sans-serif"}):
        with_ms_ssim = all(point.ms_ssim is not None for point in points)
        figure = Figure(figsize=(11 if with_ms_ssim else 6, 4.6), layout="constrained")
        axes = list(figure.subplots(1, 2 if with_ms_ssim else 1, squeeze=False)[0])
        _draw(axes[0], points, "PSNR (dB)", ms_ssim=False)
        if with_ms_ssim:
            _draw(axes[1], points, "MS-SSIM (dB)", ms_ssim=True)
        axes[0].legend(frameon=False, loc="lower right")
        num_photos = len({point.photo for point in points})
        figure.suptitle(f"Mean of {num_photos} photos" if num_photos > 1 else points[0].photo)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw(axes: Axes, points: Sequence[Point], label: str, ms_ssim: bool) -> None:
    codecs = dict.fromkeys(point.codec for point in points)
    curves = {codec: _mean_curve(points, codec, ms_ssim) for codec in codecs}
    limit = MARGIN * max(rate for rate, _ in curves[OURS])
    for codec in [*(c for c in codecs if c != OURS), OURS]:  # ours on top
        colour, marker = STYLES[codec]
        curve = [(rate, quality) for rate, quality in curves[codec] if rate <= limit]
        if curve:
            title = PILLOW_CODECS[codec].title if codec in PILLOW_CODECS else codec
            axes.plot(*zip(*curve, strict=True), color=colour, marker=marker, markersize=4, linewidth=1.6, label=title)
    axes.set_xlabel("bits per pixel, from the size of the file")
    axes.set_ylabel(label)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _mean_curve(points: Sequence[Point], codec: str, ms_ssim: bool) -> list[tuple[float, float]]:
    by_quality: dict[str, list[Point]] = {}
    for point in points:
        if point.codec == codec:
            by_quality.setdefault(point.quality, []).append(point)
    return sorted(
        (mean(p.bpp for p in chosen), mean(ms_ssim_db(p.ms_ssim or 0) if ms_ssim else p.psnr_db for p in chosen))
        for chosen in by_quality.values()
    )
