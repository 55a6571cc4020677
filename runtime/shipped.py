"""The models that ship with the package: one a quality, which share everything but their weights.

A quality may also ship as an integer bundle, whose files every engine reads alike. It is chosen by the name ``integer``
in the place of a bundle's folder, never by quality.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

from mlic.runtime.choices import DEFAULT_QUALITY, INTEGER, QUALITIES
from mlic.runtime.errors import BundleError, UnsupportedStreamError

MODELS = Path(__file__).parent / "models"
MODEL = "mlicpp-n64-m192"  # the bundles are folders MODEL-QUALITY and MODEL-QUALITY-integer in MODELS


class Shipped(NamedTuple):
    """A bundle that ships.

    Attributes:
        folder: where it lies.
        quality: of its checkpoint.
    """

    folder: Path
    quality: str


def shipped_bundle(quality: str | None = None) -> Path:
    """Return the folder of a bundle that ships.

    Args:
        quality: one of ``QUALITIES``; None for ``DEFAULT_QUALITY``.

    Raises:
        BundleError: there is no such quality, or this installation came without models.
    """
    quality = quality or DEFAULT_QUALITY
    if quality not in QUALITIES:
        raise BundleError(f"quality {quality!r} is unknown; possible: {', '.join(QUALITIES)}")
    folder = MODELS / f"{MODEL}-{quality}"
    if not folder.is_dir():
        raise BundleError(f"this installation ships no model {folder.name}; name a bundle")
    return folder


def integer_bundle() -> Path:
    """Return the folder of the integer bundle that ships: that of ``DEFAULT_QUALITY``, or of another quality.

    Raises:
        BundleError: none ships.
    """
    for quality in (DEFAULT_QUALITY, *QUALITIES):
        folder = MODELS / f"{MODEL}-{quality}-{INTEGER}"
        if folder.is_dir():
            return folder
    raise BundleError(
        "this installation ships no integer model; name a bundle that mlic-calibrate --chain integer made, or "
        f"./{INTEGER} for a folder so called"
    )


def bundle_path(bundle: str | os.PathLike[str]) -> Path:
    """Return the folder that a user means: the text ``integer`` is the integer bundle that ships, all else a path.

    Raises:
        BundleError: the integer bundle is meant, and none ships.
    """
    return integer_bundle() if isinstance(bundle, str) and bundle == INTEGER else Path(bundle)


def quality_of(model_id: bytes) -> str | None:
    """Return the quality of the shipped bundle, float or integer, that a file's ``model_id`` (8 bytes) names, or None.

    Raises:
        BundleError: a shipped bundle is damaged.
    """
    found = shipped_with(model_id)
    return found and found.quality


def shipped_with(model_id: bytes) -> Shipped | None:
    """Return the shipped bundle that reads files of ``model_id`` (8 bytes), or None.

    Raises:
        BundleError: a shipped bundle is damaged.
    """
    return _shipped_by_id(MODELS).get(model_id)


def bundle_for(model_id: bytes) -> Path:
    """Return the folder of the shipped bundle that reads files of ``model_id`` (8 bytes).

    Raises:
        UnsupportedStreamError: none does.
        BundleError: a shipped bundle is damaged, or none is there.
    """
    found = shipped_with(model_id)
    if found is None:
        names = {
            identity: one.folder.name.removeprefix(f"{MODEL}-") for identity, one in _shipped_by_id(MODELS).items()
        }
        if not names:
            raise BundleError(f"this installation ships no model {MODEL}; name a bundle")
        shipped = ", ".join(f"{name} {identity.hex()}" for identity, name in names.items())
        raise UnsupportedStreamError(
            f"the file is of model {model_id.hex()}, which is none of those that ship ({shipped}); name its bundle",
            offset=8,
        )
    return found.folder


@cache
def _shipped_by_id(models: Path) -> dict[bytes, Shipped]:
    from mlic.runtime.bundle import read_manifest  # noqa: PLC0415 - loads numpy, for which completion would wait

    found = [
        Shipped(models / f"{MODEL}-{quality}{suffix}", quality)
        for suffix in ("", f"-{INTEGER}")
        for quality in QUALITIES
    ]
    return {read_manifest(one.folder).model_id: one for one in found if one.folder.is_dir()}
