"""Which of the models that ship a quality or a file stands for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlic.runtime import BundleError, Codec, UnsupportedStreamError, shipped
from mlic.runtime.bundle import Bundle
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


def test_every_shipped_bundle_has_an_identity_and_a_name_of_its_own():
    folders = [shipped.shipped_bundle(quality) for quality in shipped.QUALITIES]
    manifests = [Bundle.open(folder).manifest for folder in folders]
    assert len({manifest.model_id for manifest in manifests}) == len(folders)
    assert [manifest.name for manifest in manifests] == [folder.name for folder in folders]
    assert len({str(manifest.details["widths"]) for manifest in manifests}) == 1
