"""Cut the full reference data down to what the tests in continuous integration need.

    python tests/golden/make_small.py REFERENCE [OUTPUT]

REFERENCE holds ``<model>_golden_seed1.npz``, made with the official code; OUTPUT is this folder unless told.
"""

import re
import sys
from pathlib import Path

import numpy as np

MODELS = ("stf", "wacnn", "mlicpp", "mlicpp_old", "mlicpp_tiny")
KEPT = re.compile(
    r"x|y|z|z_symbols|y_hat|scales|means|stream_symbols|stream_indexes|x_hat|bits_\w+|eb_\w+"
    r"|fill_seed|fill_sha256|image_seed|margin_\w+"
)
PER_SLICE = re.compile(r"s0[01]_\w+")  # for the tiny model only; larger ones would not stay small


def kept(names: list[str], model: str) -> list[str]:
    """Return the arrays to keep: of the probes, the first and the last of each kind of module."""
    result = [n for n in names if KEPT.fullmatch(n) or (model == "mlicpp_tiny" and PER_SLICE.fullmatch(n))]
    kinds: dict[str, list[str]] = {}
    for name in names:
        if name.startswith("probe/"):
            kinds.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    return result + sorted({name for group in kinds.values() for name in (group[0], group[-1])})


def main(reference: Path, output: Path) -> None:
    """Write ``<model>_128x192.npz`` for every model."""
    for model in MODELS:
        with np.load(reference / f"{model}_golden_seed1.npz") as arrays:
            small = {name: arrays[name] for name in kept(arrays.files, model)}
        path = output / f"{model}_128x192.npz"
        np.savez_compressed(path, **small)
        print(f"{path.name}: {len(small)} arrays, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent)
