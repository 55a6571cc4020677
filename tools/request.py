"""What the paths on the command line ask for: one file, or many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from mlic.runtime.errors import MlicError
from mlic.tools.console import PIPE
from mlic.tools.folders import Job, Plan, plan_files, require_free


@dataclass(frozen=True)
class Request:
    """Inputs and output as a command got them.

    Attributes:
        sources: files and folders, at least one.
        output: as given; None for the default.
        is_many: whether there are several inputs, or a folder on either side, or work is resumed.
        to_folder: whether the output is a folder.
        suffix: of results that are not named.
        force: overwrite.
        resume: skip what is done.
    """

    sources: tuple[Path, ...]
    output: str | None
    is_many: bool
    to_folder: bool
    suffix: str
    force: bool
    resume: bool

    @classmethod
    def of(cls, paths: Sequence[Path], output: str | None, suffix: str, resume: bool, force: bool) -> Request:
        """Tell inputs from the output.

        Args:
            paths: IN, IN and OUT, or inputs where ``output`` is given.
            output: of ``-o``; ends with a slash, or exists, where it is a folder for a single file.
            suffix: of results that are not named.
            resume: skip what is done.
            force: overwrite.

        Raises:
            MlicError: there is a folder and no ``-o``.
            typer.BadParameter: there are more than two paths and no ``-o``, or ``resume`` and ``force``.
        """
        if resume and force:
            raise typer.BadParameter("--resume keeps what is complete and --force overwrites it; give one of them")
        named = output
        if output is None:
            if paths[0].is_dir():
                raise MlicError(f"{paths[0]} is a folder; name one for its results with -o FOLDER, or name a file")
            if len(paths) > 2:
                raise typer.BadParameter(f"{len(paths)} inputs; name a folder for the results with -o FOLDER")
            paths, named = paths[:1], str(paths[1]) if len(paths) == 2 else None
        names_folder = output is not None and (output.endswith(os.sep) or Path(output).is_dir())
        to_folder = len(paths) > 1 or paths[0].is_dir() or names_folder
        return cls(tuple(paths), named, to_folder or resume, to_folder, suffix, force, resume)

    @property
    def source(self) -> Path:
        """The only file to read."""
        return self.sources[0]

    @property
    def target(self) -> Path:
        """The file to write, or the folder to write to."""
        if self.output is not None:
            return Path(self.output)
        return PIPE if self.source == PIPE else self.source.with_suffix(self.suffix)

    def plan(self, recursive: bool, keep_suffix: bool) -> Plan:
        """Settle what is to be done; see ``plan_files``.

        Raises:
            MlicError: as ``plan_files``; results exist and neither ``force`` nor ``resume`` was said; a pipe was to be
                resumed.
        """
        if self.to_folder:
            plan = plan_files(self.sources, self.target, self.suffix, recursive, keep_suffix)
        elif PIPE in (self.source, self.target):
            raise MlicError("--resume needs files; a pipe cannot be gone on with")
        else:
            plan = Plan([Job(self.source, self.target)])
        if not self.force and not self.resume:
            require_free(plan.jobs)
        return plan
