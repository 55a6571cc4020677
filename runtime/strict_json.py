"""JSON that may come from anybody: what readers in other languages would read otherwise is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from mlic.runtime.errors import BundleError, one_line

MAX_DEPTH = 32  # of objects and lists in one another

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def value_from_json(text: str | bytes, name: str) -> Any:
    """Parse a file of a bundle.

    Args:
        text: its contents, in UTF-8.
        name: of the file, for errors.

    Raises:
        BundleError: it is not JSON, holds numbers beyond floats or halves of surrogate pairs, or its objects and lists
            lie more than ``MAX_DEPTH`` deep in one another.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_finite)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError if it is half of a pair
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name} is not JSON: {one_line(error)}") from error
    if _is_deeper(value, MAX_DEPTH):
        raise BundleError(f"{name}: objects and lists lie more than {MAX_DEPTH} deep in one another")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> int | float:
    """Return a number, unless it is beyond what other readers can hold."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits:.40} is beyond the range of numbers")
    return int(digits) if digits.lstrip("-").isdigit() else number


def _is_deeper(value: object, limit: int) -> bool:
    """Tell whether objects and lists lie deeper in one another; level by level, for recursion has limits too."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for entry in level
            for child in (entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ())
        ]
        if not level:
            return False
    return True
