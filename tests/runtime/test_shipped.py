"""Which of the models that ship a quality or a file stands for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlic.runtime import BundleError, Codec, UnsupportedStreamError, shipped
from mlic.runtime.bundle import Bundle
from tests.integer_bundle import build_integer_bundle
from tests.tiny_bundle import build_tiny_bundle


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a miniature model for each quality."""
    for seed, quality in enumerate(shipped.QUALITIES):
        build_tiny_bundle(tmp_path / f"{shipped.MODEL}-{quality}", seed=seed + 10)
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    return tmp_path


def test_quality_chooses_the_bundle_and_medium_is_the_default(models: Path):
    for quality in shipped.QUALITIES:
        assert Codec.load(quality=quality).bundle.folder == models / f"{shipped.MODEL}-{quality}"
    assert Codec.load().bundle.folder == Codec.load(quality="medium").bundle.folder


@pytest.mark.parametrize("quality", shipped.QUALITIES)
def test_a_file_finds_the_bundle_that_wrote_it(quality: str, models: Path, make_photo):
    data = Codec.load(quality=quality, threads=1).encode(make_photo(20, 30))
    codec = Codec.load_for(data, threads=1)
    assert codec.bundle.folder == models / f"{shipped.MODEL}-{quality}"
    assert shipped.quality_of(codec.bundle.manifest.model_id) == quality
    assert codec.decode(data).shape == (20, 30, 3)


def test_a_file_of_another_model_says_which_ones_ship(models: Path, codec: Codec, make_photo):
    data = codec.encode(make_photo(20, 30))
    with pytest.raises(UnsupportedStreamError, match="none of those that ship") as caught:
        Codec.load_for(data)
    for quality in shipped.QUALITIES:
        identity = Bundle.open(models / f"{shipped.MODEL}-{quality}").manifest.model_id.hex()
        assert f"{quality} {identity}" in str(caught.value)
    assert codec.bundle.manifest.model_id.hex() in str(caught.value)
    assert shipped.quality_of(codec.bundle.manifest.model_id) is None


def test_unknown_quality_and_quality_of_a_named_bundle_are_refused(models: Path, bundle_folder: Path):
    with pytest.raises(BundleError, match="quality 'best' is unknown; possible: low, medium, high"):
        Codec.load(quality="best")
    with pytest.raises(BundleError, match="has its own"):
        Codec.load(bundle_folder, quality="low")


def test_an_installation_may_lack_some_or_all_models(models: Path, codec: Codec, make_photo):
    shutil.rmtree(models / f"{shipped.MODEL}-low")
    assert Codec.load(quality="high")
    with pytest.raises(BundleError, match=f"ships no model {shipped.MODEL}-low; name a bundle"):
        Codec.load(quality="low")


def test_an_installation_without_models_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec, make_photo):
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "empty")
    with pytest.raises(BundleError, match="ships no model"):
        Codec.load()
    with pytest.raises(BundleError, match="ships no model"):
        Codec.load_for(codec.encode(make_photo(9, 9)))


def test_integer_means_the_integer_bundle_that_ships_and_a_path_means_a_folder(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_photo
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        BundleError, match=r"ships no integer model; name a bundle that .* made, or \./integer for a folder"
    ):
        Codec.load("integer")
    build_integer_bundle(models / f"{shipped.MODEL}-high-integer", seed=41)
    assert Codec.load("integer").bundle.folder == models / f"{shipped.MODEL}-high-integer"
    build_integer_bundle(models / f"{shipped.MODEL}-medium-integer", seed=42)
    codec = Codec.load("integer", threads=1)
    assert codec.bundle.folder == models / f"{shipped.MODEL}-medium-integer"
    build_tiny_bundle(tmp_path / "integer", seed=43)
    for bundle in ("./integer", Path("integer")):
        assert Codec.load(bundle).bundle.manifest.name == "tiny-43"
    assert Codec.load("integer").bundle.folder == codec.bundle.folder
    assert {Codec.load(quality=name).bundle.manifest.arithmetic for name in shipped.QUALITIES} == {"float32-syndrome"}
    assert Codec.load().bundle.manifest.arithmetic == "float32-syndrome"
    with pytest.raises(BundleError, match="has its own"):
        Codec.load("integer", quality="medium")
    data = codec.encode(make_photo(20, 30))
    assert Codec.load_for(data, threads=1).bundle.folder == codec.bundle.folder
    assert shipped.quality_of(codec.bundle.manifest.model_id) == "medium"
    with pytest.raises(UnsupportedStreamError, match=r"medium [0-9a-f]{16}, .*, medium-integer [0-9a-f]{16}, h"):
        shipped.bundle_for(bytes(8))


def test_every_shipped_bundle_has_an_identity_and_a_name_of_its_own():
    folders = [shipped.shipped_bundle(quality) for quality in shipped.QUALITIES]
    manifests = [Bundle.open(folder).manifest for folder in folders]
    assert len({manifest.model_id for manifest in manifests}) == len(folders)
    assert [manifest.name for manifest in manifests] == [folder.name for folder in folders]
    assert len({str(manifest.details["widths"]) for manifest in manifests}) == 1
