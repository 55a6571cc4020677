"""A bundle's folder appears when it is complete, under its final name, in the place of an earlier one."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlic.export.errors import ExportError
from mlic.runtime.atomic import replace_folder


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
    work = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}")
    try:  # not tempfile.mkdtemp: a signal just after it would leave the folder
        work.mkdir()
        yield work
        replace_folder(target, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def require_new(output: Path, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Check that a bundle's folder can be made, before the work that fills it.

    Args:
        output: the final name.
        overwrite: whether a bundle of that name is replaced.
        inputs: files and folders that must not be lost with it.

    Raises:
        ExportError: as ``new_bundle_folder``, or ``output`` is one of the inputs or holds one.
    """
    target = output.resolve()
    if target.exists() and not (overwrite and (target / "manifest.json").is_file()):
        hint = "it is not a bundle" if overwrite else "choose another name, or --force"
        raise ExportError(f"{output} exists; {hint}")
    if lost := [path for path in inputs if path.resolve().is_relative_to(target)]:
        raise ExportError(f"{output} would replace {lost[0]}, which it is to be made of; choose another name")
    if not target.parent.is_dir():
        raise ExportError(f"{output.parent}: no such folder")
