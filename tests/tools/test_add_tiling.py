"""A bundle's manifest learns how its transforms may be cut, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlic.runtime import Codec
from mlic.runtime.bundle import Bundle
from mlic.runtime.choices import QUALITIES
from mlic.runtime.errors import BundleError
from mlic.runtime.manifest import Tiling
from mlic.runtime.shipped import shipped_bundle
from mlic.tools.add_tiling import add_tiling
from tests.conftest import photo
from tests.int8_bundle import build_int8_bundle


def test_entries_are_added_and_the_rest_stays(bundle_folder: Path, tmp_path: Path):
    folder = shutil.copytree(bundle_folder, tmp_path / "bundle")
    before = json.loads((folder / "manifest.json").read_text())
    assert add_tiling(folder) == {"g_a": Tiling(16, 0), "g_s": Tiling(16, 0)}
    after = json.loads((folder / "manifest.json").read_text())
    tilings = {graph["name"]: graph.pop("tiling") for graph in after["graphs"] if "tiling" in graph}
    assert tilings == {name: {"multiple": 16, "halo": 0} for name in ("g_a", "g_s")}
    assert after == before
    cut, whole = Codec.load(folder, threads=1, tile_pixels=4096), Codec.load(bundle_folder, threads=1)
    data = cut.encode(photo(150, 200))
    assert data == whole.encode(photo(150, 200))


def test_transforms_in_8_bits_are_refused(tmp_path: Path):
    with pytest.raises(BundleError, match="graph g_a is int8; take the tiling of the fp32 bundle"):
        add_tiling(build_int8_bundle(tmp_path / "int8"))


@pytest.mark.parametrize("quality", QUALITIES)
def test_models_that_ship_say_what_is_found(quality: str, tmp_path: Path):
    folder = shutil.copytree(shipped_bundle(quality), tmp_path / "bundle", ignore=shutil.ignore_patterns("engines"))
    expected = {name: Bundle.open(folder).manifest.graphs[name].tiling for name in ("g_a", "g_s")}
    assert add_tiling(folder) == expected == {"g_a": Tiling(16, 64), "g_s": Tiling(16, 112)}
