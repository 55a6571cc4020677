"""Which files a command for many pictures means, and what their results are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mlic.runtime.container import MAGIC
from mlic.runtime.errors import MlicError

SUFFIX = ".mlic"
# Pillow knows these by name, but needs other programs to read them, or does not read them at all.
_IDENTIFIED_ONLY = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


@dataclass(frozen=True)
class Job:
    """One file to read and the one to write.

    Attributes:
        source: as the caller named it, or below the folder that the caller named.
        target: with its suffix; its folder may be missing.
    """

    source: Path
    target: Path


@dataclass
class Plan:
    """What is to be done, settled before any work.

    Attributes:
        jobs: in the order of the arguments, within a folder by name; no two of one target.
        problems: folders that cannot be listed, and why.
        others: how many files of each suffix the folders hold beside; links to folders count as ``link``.
    """

    jobs: list[Job] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def plan_files(
    sources: Sequence[Path], output: Path, suffix: str, recursive: bool = False, keep_suffix: bool = False
) -> Plan:
    """Find the files of a run and name their results.

    Folders stand for the files in them that have a picture's suffix (``.mlic`` where pictures are to be written), or no
    suffix and such contents. Hidden files and folders are passed over, and so is ``output`` within a folder; links to
    folders are not followed. Files named as such are taken as they are.

    Args:
        sources: files and folders.
        output: folder of the results; may be missing.
        suffix: of the results: ``.mlic`` to encode, a picture's to decode.
        recursive: enter folders within folders, and keep their structure.
        keep_suffix: name results ``a.png.mlic`` instead of ``a.mlic``.

    Raises:
        MlicError: a source is missing, ``output`` is a file, there is nothing to do, two files would have results of
            one name, or a result would replace a source.
    """
    if output.exists() and not output.is_dir():
        raise MlicError(f"{output} is a file; expected a folder")
    plan = Plan()
    accepts = _is_picture if suffix == SUFFIX else _is_stream
    for source in sources:
        if source.is_dir():
            found = [(path, path.relative_to(source)) for path in _walk(source, output, recursive, accepts, plan)]
        elif os.path.lexists(source):
            found = [(source, Path(source.name))]
        else:
            raise MlicError(f"{source}: no such file or folder")
        for path, name in found:
            stem = name.name if keep_suffix else name.stem
            plan.jobs.append(Job(path, output / name.parent / (stem + suffix)))
    if not plan.jobs and not plan.problems:
        raise MlicError(f"no {_wanted(suffix)} in {', '.join(map(str, sources))}{_hint(plan, sources, recursive)}")
    plan.jobs = _checked(plan.jobs, suffix)
    return plan


def require_free(jobs: Sequence[Job]) -> None:
    """Raise MlicError if results exist."""
    if taken := [job.target for job in jobs if os.path.lexists(job.target)]:
        others = f" and {len(taken) - 1} more results" if len(taken) > 1 else ""
        verb = "exist" if others else "exists"
        raise MlicError(f"{taken[0]}{others} {verb}; --resume skips what is complete, --force overwrites")


def _walk(folder: Path, output: Path, recursive: bool, accepts: Callable[[Path], bool], plan: Plan) -> Iterator[Path]:
    """Yield the files to read in a folder, by name; note in ``plan`` what is left out."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        plan.problems.append((folder, error.strerror or str(error)))
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if recursive and not (output.exists() and output.samefile(path)):
                yield from _walk(path, output, recursive, accepts, plan)
        elif path.is_dir():
            plan.others["link"] += 1
        elif (path.is_file() or not path.exists()) and accepts(path):  # a broken link is a file that fails
            yield path
        else:
            plan.others[path.suffix.lower()] += 1


def _is_picture(path: Path) -> bool:
    if path.suffix:
        return path.suffix.lower() in picture_suffixes()
    from PIL import Image  # noqa: PLC0415 - Pillow only where it is needed

    try:
        with Image.open(path):
            return True
    except Exception:  # whatever Pillow's readers raise, it is none
        return False


def _is_stream(path: Path) -> bool:
    if path.suffix:
        return path.suffix.lower() == SUFFIX
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


@cache
def picture_suffixes() -> frozenset[str]:
    """Return the suffixes, in lower case, of pictures that can be read."""
    from PIL import Image  # noqa: PLC0415 - Pillow only where it is needed

    known = Image.registered_extensions()
    return frozenset(
        suffix
        for suffix, name in known.items()
        if name in Image.OPEN and name not in _IDENTIFIED_ONLY and suffix != SUFFIX
    )


def _checked(jobs: Sequence[Job], suffix: str) -> list[Job]:
    """Return the jobs without repetitions; complain where two would write one file, or one would replace a source."""
    by_target: dict[str, Job] = {}
    for job in jobs:
        target = os.path.abspath(job.target)  # noqa: PTH100 - Path.absolute keeps ".."
        other = by_target.setdefault(target, job)
        if other is not job and not _same_file(other.source, job.source):
            way_out = "" if other.source.name == job.source.name else "; --keep-suffix tells them apart"
            way_out = way_out if other.source.stem == job.source.stem else ""
            raise MlicError(
                f"{other.source} and {job.source} would both be written as {job.target}"
                f"{way_out or '; give each an output folder of its own'}"
            )
    sources = {os.path.abspath(job.source) for job in jobs}  # noqa: PTH100
    if replaced := [job for target, job in by_target.items() if target in sources]:
        raise MlicError(f"{replaced[0].target} would replace a file that is to be read; name another output folder")
    return list(by_target.values())


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _wanted(suffix: str) -> str:
    return "pictures" if suffix == SUFFIX else f"{SUFFIX} files"


def _hint(plan: Plan, sources: Sequence[Path], recursive: bool) -> str:
    if not recursive and any(path.is_dir() for source in sources if source.is_dir() for path in source.iterdir()):
        return "; --recursive looks into folders within"
    return f"; found {others_text(plan)}" if plan.others else ""


def others_text(plan: Plan) -> str:
    """Return what a plan leaves out, such as ``3 other files (.txt 2, .heic 1)``; empty if nothing."""
    if not plan.others:
        return ""
    total = plan.others.total()
    kinds = ", ".join(f"{suffix or 'no suffix'} {count}" for suffix, count in plan.others.most_common(4))
    return f"{total} other file{'s' if total > 1 else ''} ({kinds}{', …' if len(plan.others) > 4 else ''})"
