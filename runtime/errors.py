"""Every exception that the runtime raises on purpose, its one warning, and how their texts stay short."""

from collections.abc import Sequence

MAX_LISTED = 20  # problems in one text


class MlicError(Exception):
    """Base of all errors of this package; its text is one line meant for a user."""


class BitstreamError(MlicError):
    """A ``.mlic`` file cannot be read.

    Attributes:
        offset: byte position in the file where the problem was noticed, or None where no single byte is to
            blame.
    """

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})")
        self.offset = offset


class TruncatedStreamError(BitstreamError):
    """The file ends before its contents do."""


class CorruptStreamError(BitstreamError):
    """The file contradicts itself: checksum, lengths or coded values are impossible."""


class UnsupportedStreamError(BitstreamError):
    """The file is well formed but needs something that this reader or this bundle does not have."""


class BundleError(MlicError):
    """A model directory is incomplete or inconsistent."""


class BackendError(MlicError):
    """An engine could not load or run a graph, or granted less than was asked."""


class GraphRefusedError(BackendError):
    """An engine does not know operators of a graph, or not in the form in which the graph has them.

    Attributes:
        nodes: what was refused, each as name, operator and reason; a node without a name has its number.
    """

    def __init__(self, message: str, nodes: tuple[tuple[str, str, str], ...] = ()) -> None:
        super().__init__(message)
        self.nodes = nodes


class EngineMismatchError(MlicError):
    """This engine's table indexes differ from the encoder's beyond repair, or it fails a bundle's certificate."""


class ShapeError(MlicError, ValueError):
    """An array from the caller has the wrong shape or dtype."""


class ImageError(MlicError):
    """A picture file cannot be read or written."""


class ImageWarning(UserWarning):
    """A picture was read or written, but something in it was given up."""


def one_line(error: BaseException) -> str:
    """Return what an exception of another library says, on one line of at most 300 characters; its type if nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def listed(problems: Sequence[str], separator: str = "; ") -> str:
    """Return problems of one kind as one text: the first ``MAX_LISTED``, and how many more there are."""
    text = separator.join(problem[:300] for problem in problems[:MAX_LISTED])
    more = len(problems) - MAX_LISTED
    return f"{text}{separator}and {more} more" if more > 0 else text
