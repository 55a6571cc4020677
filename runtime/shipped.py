"""The models that ship with the package: one a quality, which share everything but their weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from mlic.runtime.bundle import read_manifest
from mlic.runtime.errors import BundleError, UnsupportedStreamError

MODELS = Path(__file__).parent / "models"
MODEL = "mlicpp-n64-m192"  # the bundles are folders MODEL-QUALITY in MODELS
QUALITIES = ("low", "medium", "high")  # by rising rate
DEFAULT_QUALITY = "medium"


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


def quality_of(model_id: bytes) -> str | None:
    """Return the quality of the shipped bundle that a file's ``model_id`` (8 bytes) names, or None.

    Raises:
        BundleError: a shipped bundle is damaged.
    """
    return _qualities_by_id(MODELS).get(model_id)


def bundle_for(model_id: bytes) -> Path:
    """Return the folder of the shipped bundle that reads files of ``model_id`` (8 bytes).

    Raises:
        UnsupportedStreamError: none does.
        BundleError: a shipped bundle is damaged, or none is there.
    """
    quality = quality_of(model_id)
    if quality is None:
        shipped = ", ".join(f"{found} {name.hex()}" for name, found in _qualities_by_id(MODELS).items())
        if not shipped:
            raise BundleError(f"this installation ships no model {MODEL}; name a bundle")
        raise UnsupportedStreamError(
            f"the file is of model {model_id.hex()}, which is none of those that ship ({shipped}); name its bundle",
            offset=8,
        )
    return shipped_bundle(quality)


@cache
def _qualities_by_id(models: Path) -> dict[bytes, str]:
    folders = {quality: models / f"{MODEL}-{quality}" for quality in QUALITIES}
    return {read_manifest(folder).model_id: quality for quality, folder in folders.items() if folder.is_dir()}
