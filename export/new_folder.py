"""A bundle's folder appears when it is complete, under its final name, in the place of an earlier one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlic.export.errors import ExportError


@contextmanager
def new_bundle_folder(output: Path, overwrite: bool) -> Iterator[Path]:
    """Give an empty folder, which gets its final name when the block ends without an exception.

    Args:
        output: the final name; its parent must exist.
        overwrite: replace ``output`` if it is a bundle.

    Raises:
        ExportError: ``output`` exists and is not to be replaced, or its parent does not exist.
    """
    require_new(output, overwrite)
    target = output.resolve()
    # Beside the final place, so that the last step is one rename.
    work = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
    try:
        yield work
        work.chmod(0o777 & ~_umask())  # mkdtemp makes folders private
        _replace(target, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def require_new(output: Path, overwrite: bool) -> None:
    """Check that a bundle's folder can be made, before the work that fills it.

    Raises:
        ExportError: as ``new_bundle_folder``.
    """
    target = output.resolve()
    if target.exists() and not (overwrite and (target / "manifest.json").is_file()):
        hint = "it is not a bundle" if overwrite else "choose another name, or --force"
        raise ExportError(f"{output} exists; {hint}")
    if not target.parent.is_dir():
        raise ExportError(f"{output.parent}: no such folder")


def _replace(target: Path, work: Path) -> None:
    """Give ``work`` the name ``target``; a bundle of that name goes only when the new one is in its place."""
    before = work.with_name(f"{work.name}.before")
    if target.exists():
        target.rename(before)
    try:
        work.rename(target)
    except BaseException:
        if before.exists():
            before.rename(target)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
