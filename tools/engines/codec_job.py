"""Encodes and decodes in the Python that runs it, and says on stdout what that was: one JSON object.

Run by its path, with the runtime on Python's path; ``aarch64.py`` says how to do that on another processor. All jobs of
one call share one codec, since opening graphs takes longer than running them where the processor is emulated.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlic.runtime import Codec, MlicError


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", help="default: the model that ships")
    jobs: dict[str, Any] = {"action": "append", "nargs": 2, "type": Path, "default": []}
    parser.add_argument("--encode", metavar=("PIXELS.npy", "OUT.mlic"), help="may be repeated", **jobs)
    parser.add_argument("--decode", metavar=("IN.mlic", "PIXELS.npy"), help="may be repeated; after encoding", **jobs)
    arguments = parser.parse_args()
    try:
        codec = Codec.load(arguments.bundle, backend="onnxruntime", threads=1)
        report = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "engine": codec.info["backend"],
            "open_s": _timed(codec.open, bool(arguments.encode), bool(arguments.decode)),
            "encode_s": [_timed(_encode, codec, *paths) for paths in arguments.encode],
            "decode_s": [_timed(_decode, codec, *paths) for paths in arguments.decode],
        }
    except MlicError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(json.dumps(report))


def _encode(codec: Codec, pixels: Path, file: Path) -> None:
    file.write_bytes(codec.encode(np.load(pixels)))


def _decode(codec: Codec, file: Path, pixels: Path) -> None:
    np.save(pixels, codec.decode(file.read_bytes()))


def _timed(work: Callable[..., object], *arguments: object) -> float:
    begin = time.perf_counter()
    work(*arguments)
    return round(time.perf_counter() - begin, 3)


if __name__ == "__main__":
    main()
