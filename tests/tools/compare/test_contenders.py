"""Other codecs: their files, and the search for a file of a given size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import features

from mlic.runtime.errors import MlicError
from mlic.tools.compare.contenders import PILLOW_CODECS, PillowCodec, largest_within
from mlic.tools.quality import psnr

PIXELS = np.zeros((1, 1, 3), np.uint8)


class Counting(PillowCodec):
    """A codec whose file of quality q has 10 q bytes; it counts its runs."""

    def encode(self, pixels, quality):
        self.options["runs"].append(quality)
        return bytes(10 * quality)


def counting() -> Counting:
    return Counting("c", "C", "C", ".c", "", {"runs": []})


@given(st.integers(0, 1200), st.sets(st.integers(1, 100)))
def test_search_finds_the_largest_file_within_the_limit(limit: int, known: set[int]):
    found = largest_within(counting(), PIXELS, limit, {q: 10 * q for q in known})
    if limit < 10:
        assert found is None
    else:
        quality = min(100, limit // 10)
        assert found == (quality, bytes(10 * quality))


def test_search_uses_what_is_known():
    codec = counting()
    assert largest_within(codec, PIXELS, 455, {40: 400, 50: 500}) == (45, bytes(450))
    assert len(codec.options["runs"]) <= 5
    assert set(codec.options["runs"]) <= set(range(40, 50))


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_files_grow_and_come_nearer_with_quality(name: str, make_photo):
    codec = PILLOW_CODECS[name]
    if codec.feature and not features.check(codec.feature):
        pytest.skip(f"this Pillow has no {name}")
    pixels = make_photo(96, 112)
    codec.require()
    files = [codec.encode(pixels, quality) for quality in (10, 50, 95)]
    assert len(files[0]) < len(files[1]) < len(files[2])
    nearness = [psnr(pixels, codec.decode(data)) for data in files]
    assert nearness == sorted(nearness)


def test_missing_formats_name_what_to_install():
    with pytest.raises(MlicError, match=r"does not know J by itself; pip install the-plug-in, or leave j out"):
        PillowCodec("j", "J", "J", ".j", "", {}, plug_in=("no_such_module", "the-plug-in")).require()


def test_a_pillow_without_a_format_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features, "check", lambda _: False)
    with pytest.raises(MlicError, match="this Pillow was built without AVIF; leave avif out of --against"):
        PILLOW_CODECS["avif"].require()
