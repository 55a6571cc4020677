"""``mlic-run compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlic.runtime.choices import INTEGER, MAX_PIXELS, QUALITIES
from mlic.runtime.errors import MlicError
from mlic.tools.console import print_json, reported_errors
from mlic.tools.extras import install_command
from mlic.tools.run_options import (
    BackendName,
    Force,
    Json,
    Limit,
    Quiet,
    Threads,
    bundle_completion,
    bundle_from,
    list_completion,
)

if TYPE_CHECKING:
    from mlic.runtime import Codec
    from mlic.tools.compare.summary import Versus

AGAINST = ("jpeg", "webp", "avif", "jxl")  # keys of contenders.PILLOW_CODECS
DEFAULT_AGAINST = "jpeg,webp,avif"


def compare(
    images: Annotated[list[Path], typer.Argument(metavar="PHOTOS", help="Picture files, or folders of them.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Folder to write.")] = Path("report"),
    against: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME…",
            help=f"Codecs of Pillow to compare with: {', '.join(AGAINST)}.",
            autocompletion=list_completion(AGAINST),
        ),
    ] = DEFAULT_AGAINST,
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            metavar="BUNDLE",
            parser=bundle_from,
            help=f"Folder that mlic-export made, or {INTEGER}; once for each. Default: the models of all qualities.",
            autocompletion=bundle_completion,
            show_default=False,
        ),
    ] = None,
    backend: BackendName = "auto",
    threads: Threads = None,
    max_pixels: Limit = MAX_PIXELS,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare models with other codecs on photos: curves, BD-rate and a page to look at."""
    with reported_errors("mlic-run compare", quiet):
        from mlic.tools.progress import progress_bar  # noqa: PLC0415 - see run_cli.py

        try:
            from mlic.tools.compare.contenders import PILLOW_CODECS, Models  # noqa: PLC0415 - the extra `report`
            from mlic.tools.compare.report import (  # noqa: PLC0415
                num_stages,
                photo_paths,
                require_free,
                write_report,
            )
        except ModuleNotFoundError as error:
            raise MlicError(f"cannot import {error.name}: {install_command('report', 'cpu')}") from error
        names = list(dict.fromkeys(name.strip().lower() for name in against.split(",") if name.strip()))
        if unknown := [name for name in names if name not in PILLOW_CODECS]:
            raise MlicError(f"--against {unknown[0]} is unknown; possible: {', '.join(PILLOW_CODECS)}")
        others = [PILLOW_CODECS[name] for name in names]
        for other in others:
            other.require()
        photos = photo_paths(images)
        require_free(output, force, photos.values())
        ours = Models(_codecs(models, backend, threads, max_pixels))
        with progress_bar(num_stages(len(photos), ours, others), quiet) as begin:
            table = write_report(output, photos, ours, others, max_pixels, begin)
        if as_json:
            print_json(_json(output, list(photos), table, ours.qualities))
        elif not quiet:
            for line in _lines(output, len(photos), table, ours.qualities):
                print(line)


def _codecs(models: Sequence[Path] | None, backend: str, threads: int | None, max_pixels: int) -> dict[str, Codec]:
    """Return the models to compare by the name that tables give them."""
    from mlic.runtime import Codec  # noqa: PLC0415 - see run_cli.py

    if not models:
        return {quality: Codec.load(None, backend, threads, max_pixels, quality) for quality in QUALITIES}
    opened = [Codec.load(model, backend, threads, max_pixels) for model in models]
    by_name = {codec.bundle.manifest.name: codec for codec in opened}
    if len({codec.bundle.manifest.model_id for codec in opened}) < len(opened) or len(by_name) < len(opened):
        raise MlicError("two of the models are one and the same, or have one name; give each once")
    return by_name


def _json(output: Path, photos: list[str], table: Sequence[Versus], qualities: Sequence[str]) -> dict[str, Any]:
    return {
        "output": str(output),
        "photos": photos,
        "against": {
            row.codec: {
                "bd_rate_percent": row.mean_bd_rate_percent,
                "bd_rate_ms_ssim_percent": row.mean_bd_rate_ms_ssim_percent,
                "bd_rate_percent_by_photo": row.bd_rate_percent,
                "gain_db": {quality: row.mean_gain_db(quality) for quality in qualities},
                "gain_db_by_photo": row.gains_db,
                "num_ahead": {quality: row.num_ahead(quality) for quality in qualities},
            }
            for row in table
        },
    }


def _lines(output: Path, num_photos: int, table: Sequence[Versus], qualities: Sequence[str]) -> list[str]:
    lines = []
    for row in table:
        rate = row.mean_bd_rate_percent
        parts = [
            f"{quality} {'no file so small' if (gain := row.mean_gain_db(quality)) is None else f'{gain:+.2f} dB'}, "
            f"ahead on {row.num_ahead(quality)} of {num_photos}"
            for quality in qualities
        ]
        lines.append(f"{row.codec:<5} BD-rate {'–' if rate is None else f'{rate:+.1f} %':<9}  {'; '.join(parts)}")  # noqa: RUF001
    return [*lines, f"page: {output / 'index.html'}"]
