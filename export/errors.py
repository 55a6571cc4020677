"""What export raises."""

from mlic.runtime.errors import MlicError


class ExportError(MlicError):
    """A checkpoint cannot be turned into a bundle; the text says which graph or key is to blame."""


class CheckpointError(ExportError):
    """A file is not a checkpoint of a known architecture."""
