"""The plug-in for Pillow: ``.mlic`` files through ``Image.open`` and ``Image.save``."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import mlic.runtime.pillow as plugin
from mlic.runtime import Codec, Metadata, Source, container, shipped
from mlic.runtime.errors import (
    BackendError,
    BundleError,
    CorruptStreamError,
    EngineMismatchError,
    ImageError,
    ImageWarning,
    TruncatedStreamError,
    UnsupportedStreamError,
)
from tests.exif_blocks import exif_block, xmp_packet
from tests.pillow_plugin import registered
from tests.tiny_bundle import build_tiny_bundle

RGB_PROFILE = bytes(16) + b"RGB " + bytes(108)
FULL = Metadata(RGB_PROFILE, exif_block(), xmp_packet())


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Let every test begin with nothing registered and nothing open, on one thread."""
    with registered(monkeypatch, "onnxruntime", 1):
        yield


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for seed, quality in enumerate(shipped.QUALITIES):
        build_tiny_bundle(folder / f"{shipped.MODEL}-{quality}", seed=seed + 30)
    return folder


@pytest.fixture
def models(models_folder, monkeypatch) -> Path:
    """Miniature models in place of those that ship."""
    monkeypatch.setattr(shipped, "MODELS", models_folder)
    return models_folder


@pytest.fixture
def loads(monkeypatch) -> list[object]:
    """What has been opened by ``Codec.load``, in order."""
    opened: list[object] = []
    load = Codec.load.__func__

    def counted(cls, bundle, *arguments, **options):
        opened.append(Path(bundle).name)
        return load(cls, bundle, *arguments, **options)

    monkeypatch.setattr(Codec, "load", classmethod(counted))
    return opened


@pytest.fixture
def pixels(make_photo):
    return make_photo(20, 30)


@pytest.fixture
def photo(pixels):
    return Image.fromarray(pixels)


def medium(models: Path) -> Codec:
    return Codec.load(models / f"{shipped.MODEL}-medium", "onnxruntime", 1)


def file_of(data: bytes) -> io.BytesIO:
    return io.BytesIO(data)


def test_pillow_knows_the_format():
    assert Image.registered_extensions()[".mlic"] == "MLIC"
    assert Image.MIME["MLIC"] == "image/x-mlic"


def test_pictures_are_saved_and_opened(models, photo, pixels, tmp_path):
    path = tmp_path / "a.mlic"
    photo.save(path)
    codec = medium(models)
    assert path.read_bytes() == codec.encode(pixels)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("MLIC", "RGB", (30, 20))
        assert image.get_format_mimetype() == "image/x-mlic"
        assert np.array_equal(np.asarray(image), codec.decode(path.read_bytes()))


def test_file_objects_are_read_and_written(models, photo):
    file = io.BytesIO(b"")
    photo.save(file, "MLIC")
    image = Image.open(file, formats=["MLIC"])
    image.load()
    assert not file.closed
    assert image.size == photo.size


def test_opening_runs_no_model(models, pixels, loads):
    data = medium(models).encode(pixels, FULL)
    loads.clear()
    image = Image.open(file_of(data))
    assert (image.mode, image.size) == ("RGB", (30, 20))
    assert image.info == {"icc_profile": RGB_PROFILE, "exif": b"Exif\0\0" + FULL.exif, "xmp": FULL.xmp}
    assert image.getexif()[0x010F] == "Canon"
    image.verify()
    assert loads == []
    image = Image.open(file_of(data))
    image.load()
    image.load()
    image.getpixel((0, 0))
    assert loads == [f"{shipped.MODEL}-medium"]


@pytest.mark.parametrize("quality", shipped.QUALITIES)
def test_quality_chooses_the_model_and_the_file_finds_it(quality, models, photo, loads):
    file = io.BytesIO()
    photo.save(file, "MLIC", quality=quality)
    assert shipped.quality_of(container.read(file.getvalue()).model_id) == quality
    Image.open(file).load()
    assert loads == [f"{shipped.MODEL}-{quality}"]  # once, for both


def test_the_models_that_ship_are_used_without_a_word(photo):
    file = io.BytesIO()
    photo.save(file, "MLIC", quality="low")
    assert np.array_equal(
        np.asarray(Image.open(file)), Codec.load_for(file.getvalue(), "onnxruntime", 1).decode(file.getvalue())
    )


def test_grey_pictures_are_opened_as_such(models, pixels, tmp_path):
    grey = Image.fromarray(pixels[..., 0])
    grey.save(tmp_path / "a.mlic")
    with Image.open(tmp_path / "a.mlic") as image:
        assert image.mode == "L"
        expected = medium(models).decode((tmp_path / "a.mlic").read_bytes())
        assert np.array_equal(np.asarray(image), expected[..., 0])


def test_metadata_are_stored_as_pillows_writers_do(models, photo):
    def stored(**options):
        file = io.BytesIO()
        photo.save(file, "MLIC", **options)
        return container.read_metadata(file.getvalue())

    photo.info |= {"exif": b"Exif\0\0" + exif_block(6), "xmp": xmp_packet(6), "icc_profile": RGB_PROFILE}
    assert stored() == Metadata(RGB_PROFILE)
    assert stored(icc_profile=None) == Metadata()
    other = RGB_PROFILE + b"other"
    assert stored(icc_profile=other, exif=FULL.exif, xmp=FULL.xmp.decode()) == Metadata(other, FULL.exif, FULL.xmp)
    assert stored(exif=b"Exif\0\0" + FULL.exif).exif == FULL.exif
    tags = Image.Exif()
    assert stored(exif=tags).exif is None
    tags[0x010F] = "Canon"
    found = stored(exif=tags).exif
    tags.load(found)
    assert tags[0x010F] == "Canon"


def test_a_turned_picture_is_stored_upright(models, photo, pixels):
    file = io.BytesIO()
    photo.save(file, "MLIC", exif=exif_block(6))
    codec = medium(models)
    metadata = container.read_metadata(file.getvalue())
    assert file.getvalue() == codec.encode(np.rot90(pixels, -1), metadata)
    with Image.open(file) as image:
        assert image.size == (20, 30)
        assert image.getexif()[0x0112] == 1


def test_a_photo_is_converted_with_all_that_goes_with_it(models, photo, tmp_path):
    photo.save(tmp_path / "a.jpg", exif=b"Exif\0\0" + FULL.exif, xmp=FULL.xmp, icc_profile=RGB_PROFILE)
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "a.mlic", exif=image.info["exif"], xmp=image.info["xmp"])
    with Image.open(tmp_path / "a.mlic") as image:
        image.save(tmp_path / "b.png", exif=image.getexif())
        assert image.info == {"exif": b"Exif\0\0" + FULL.exif, "xmp": FULL.xmp, "icc_profile": RGB_PROFILE}
    with Image.open(tmp_path / "b.png") as image:
        assert image.getexif()[0x0110] == "Canon EOS R5"


def test_transparency_is_composited_with_a_warning(models):
    file = io.BytesIO()
    with pytest.warns(ImageWarning, match="transparency"):
        Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(file, "MLIC")
    assert container.read_metadata(file.getvalue()).source == Source.TRANSPARENT
    assert Image.open(file).getpixel((0, 0)) == (255, 255, 255)


def test_a_bundle_of_ones_own_is_named_or_registered(bundle_folder, codec, photo, pixels, loads):
    by_folder, by_codec = io.BytesIO(), io.BytesIO()
    photo.save(by_folder, "MLIC", model=bundle_folder, backend="onnxruntime", threads=1)
    photo.save(by_codec, "MLIC", model=codec)
    assert by_folder.getvalue() == by_codec.getvalue() == codec.encode(pixels)
    image = Image.open(by_folder)
    with pytest.raises(OSError, match=r"none of those that ship .*pillow\.register\(model=") as caught:
        image.load()
    assert isinstance(caught.value.__cause__, UnsupportedStreamError)
    plugin.register(model=str(bundle_folder), backend="onnxruntime", threads=1)
    expected = codec.decode(by_codec.getvalue())
    assert np.array_equal(np.asarray(image), expected)  # the same image, tried again
    assert loads == ["tiny"]
    plugin._codecs = plugin._Codecs({}, plugin._Engine())
    plugin.register(model=codec)
    assert np.array_equal(np.asarray(Image.open(by_codec)), expected)
    assert loads == ["tiny"]


def test_what_is_no_bundle_cannot_be_registered(tmp_path):
    with pytest.raises(BundleError, match="no such folder"):
        plugin.register(model=tmp_path / "none")


def test_engine_and_threads_are_chosen(models, photo, monkeypatch):
    asked = []
    open_backend = sys.modules["mlic.runtime.codec"].open_backend
    monkeypatch.setattr(
        "mlic.runtime.codec.open_backend", lambda *names: asked.append(names) or open_backend("onnxruntime", 1)
    )
    file = io.BytesIO()
    photo.save(file, "MLIC", backend="openvino", threads=3)
    Image.open(file).load()
    plugin.register(backend="auto", threads=2)
    Image.open(file).load()
    assert asked == [("openvino", 3), ("onnxruntime", 1), ("auto", 2)]


@pytest.mark.parametrize("options", [{"quality": 85}, {"quality": "best"}, {"quality": "low", "model": "bundle"}])
def test_options_without_a_meaning_are_value_errors(options, photo, tmp_path):
    with pytest.raises(ValueError, match="expected one of low, medium, high, and no model beside it"):
        photo.save(tmp_path / "a.mlic", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved_is_an_os_error_and_leaves_no_file(models, photo, tmp_path):
    for image, options, cause in (
        (Image.new("F", (4, 4)), {}, ImageError),
        (photo, {"model": tmp_path / "none"}, BundleError),
        (photo, {"backend": "abacus"}, BackendError),
    ):
        with pytest.raises(OSError, match=r"mode F|no such folder|abacus") as caught:
            image.save(tmp_path / "a.mlic", **options)
        assert isinstance(caught.value.__cause__, cause)
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_not_identified_and_say_why(codec, pixels, tmp_path):
    data = codec.encode(pixels, FULL)
    flipped = data[:60] + bytes([data[60] ^ 1]) + data[61:]
    for damaged, cause in (
        (flipped, CorruptStreamError),
        (data + b"x", CorruptStreamError),
        (data[:-1], TruncatedStreamError),
        (b"MLIC", TruncatedStreamError),
        (b"MLIC\x63" + data[5:], UnsupportedStreamError),
    ):
        (tmp_path / "a.mlic").write_bytes(damaged)
        with pytest.raises(UnidentifiedImageError, match=r"cannot read this \.mlic file: ") as caught:
            Image.open(tmp_path / "a.mlic")
        assert isinstance(caught.value.__cause__, cause)


def test_what_cannot_be_decoded_is_an_os_error(codec, pixels, monkeypatch):
    def fail(data):
        raise EngineMismatchError("step_02 differs")

    own = Codec(codec.bundle, codec.backend)
    monkeypatch.setattr(own, "decode", fail)
    plugin.register(model=own)
    with pytest.raises(OSError, match="step_02 differs") as caught:
        Image.open(file_of(codec.encode(pixels))).load()
    assert isinstance(caught.value.__cause__, EngineMismatchError)


def test_pillows_limit_of_pixels_is_obeyed(codec, models, pixels, monkeypatch):
    data = codec.encode(pixels)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.warns(Image.DecompressionBombWarning, match="600 pixels"):
        Image.open(file_of(data))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    with pytest.raises(Image.DecompressionBombError, match="600 pixels"):
        Image.open(file_of(data))
    huge = container.write(container.Bitstream(bytes(8), 1 << 20, 1 << 20, "float32-syndrome", b"", b"", bytes(6)))
    with pytest.raises(Image.DecompressionBombError):
        Image.open(file_of(huge))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert Image.open(file_of(huge)).size == (1 << 20, 1 << 20)


def test_pictures_too_large_for_a_machine_are_not_saved(models, photo, monkeypatch):
    monkeypatch.setattr(plugin, "MAX_PIXELS", 599)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    with pytest.raises(OSError, match="30 x 20 pixels; expected 1 to 599"):
        photo.save(io.BytesIO(), "MLIC")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    photo.save(io.BytesIO(), "MLIC")


def test_other_files_pass_by(photo, monkeypatch):
    def fail(*_):
        raise AssertionError("another format's file was looked into")

    monkeypatch.setitem(Image.OPEN, "MLIC", (fail, Image.OPEN["MLIC"][1]))
    for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"):
        file = io.BytesIO()
        photo.save(file, name)
        Image.open(file).load()
    assert Image.OPEN["MLIC"][1](b"MLIC\1\1")
    assert not Image.OPEN["MLIC"][1](b"MLI")


def test_images_are_copied_pickled_and_made_smaller(models, photo):
    file = io.BytesIO()
    photo.save(file, "MLIC")
    pixels = np.asarray(Image.open(file))
    assert np.array_equal(np.asarray(Image.open(file).copy()), pixels)
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(Image.open(file)))), pixels)
    assert np.array_equal(np.asarray(Image.open(file).crop((3, 2, 20, 15))), pixels[2:15, 3:20])
    small = Image.open(file)
    small.thumbnail((10, 10))
    assert small.size == (10, 7)


def test_several_threads_share_one_codec(models, pixels, loads):
    def through(seed):
        file = io.BytesIO()
        Image.fromarray(np.roll(pixels, seed, axis=1)).save(file, "MLIC", quality=shipped.QUALITIES[seed % 2])
        return file.getvalue(), np.asarray(Image.open(file))

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(through, range(8)))
    assert sorted(loads) == [f"{shipped.MODEL}-{quality}" for quality in ("low", "medium")]
    for seed, result in enumerate(results):
        data, decoded = through(seed)
        assert data == result[0]
        assert np.array_equal(decoded, result[1])


def decoded_in_a_child(data: bytes) -> bytes:
    return Image.open(file_of(data)).tobytes()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_opens_codecs_of_its_own(models, photo):
    plugin.register(backend="onnxruntime", threads=2)  # whose second thread does not survive the fork
    file = io.BytesIO()
    photo.save(file, "MLIC")
    expected = decoded_in_a_child(file.getvalue())
    # No name for the codecs here: it would keep them in the child. A lock that is held stays so there.
    with plugin._codecs._lock, multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(decoded_in_a_child, [file.getvalue()]).get(timeout=60) == expected
    assert decoded_in_a_child(file.getvalue()) == expected


def test_pillow_has_to_be_told(models, photo, tmp_path):
    """It finds no plug-ins by itself, nor does the runtime load it."""
    photo.save(tmp_path / "a.mlic")
    code = "from PIL import Image; print(Image.open('a.mlic').size)"
    for before, expected in (("import mlic.runtime", b""), ("import mlic.runtime.pillow", b"(30, 20)\n")):
        result = subprocess.run(
            [sys.executable, "-c", f"{before}\n{code}"], capture_output=True, cwd=tmp_path, check=False
        )
        assert result.stdout == expected
        assert (b"UnidentifiedImageError" in result.stderr) == (not expected)
