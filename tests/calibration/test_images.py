"""Pictures to calibrate with: which files are taken, and which parts of them."""

import numpy as np
import pytest
from PIL import Image

from mlic.calibration.errors import CalibrationError
from mlic.calibration.images import crops_of, photo_files
from mlic.runtime.errors import ImageError


@pytest.fixture
def save(tmp_path):
    """Returns a function that writes a picture whose red and green tell the row and the column."""

    def save(name, height=70, width=80, blue=0):
        rows, columns = np.mgrid[:height, :width]
        pixels = np.stack([rows, columns, np.full_like(rows, blue)], axis=-1).astype(np.uint8)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return path

    return save


def test_files_keep_their_order_and_folders_stand_for_their_pictures_sorted(save, tmp_path):
    last, first = save("z.png"), save("a.png")
    inside = [save(f"folder/{name}") for name in ("2.PNG", "1.jpg")]
    assert photo_files([last, tmp_path / "folder", first]) == [last, *sorted(inside), first]


def test_folder_gives_no_file_that_is_not_read_as_a_picture_and_none_of_its_folders(save, tmp_path):
    photo = save("folder/a.png")
    save("folder/below.png/b.png")
    for name in ("notes.txt", "album.pdf", "README"):
        (tmp_path / "folder" / name).write_bytes(b"x")
    assert photo_files([tmp_path / "folder"]) == [photo]


def test_missing_argument_is_named(save, tmp_path):
    with pytest.raises(CalibrationError, match=r"nowhere: no such file or folder"):
        photo_files([save("a.png"), tmp_path / "nowhere"])


@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_folders_without_pictures_are_named(names, tmp_path):
    for name in names:
        (tmp_path / name).mkdir()
    with pytest.raises(CalibrationError) as caught:
        photo_files([tmp_path / name for name in names])
    assert str(caught.value) == "no picture in " + ", ".join(str(tmp_path / name) for name in names)


def test_crop_is_a_part_of_its_photo_of_the_asked_size(save):
    (crop,) = crops_of([save("a.png", 200, 150)], 1, 64)
    top, left = crop[0, 0, :2].astype(int)
    rows, columns = np.mgrid[top : top + 64, left : left + 64]
    assert (crop.dtype, crop.shape, crop.flags.c_contiguous) == (np.uint8, (64, 64, 3), True)
    assert np.array_equal(crop, np.stack([rows, columns, np.zeros_like(rows)], axis=-1))
    assert 0 < top <= 200 - 64
    assert 0 < left <= 150 - 64


def test_small_sides_are_taken_down_to_a_multiple_of_64(save):
    shapes = {(200, 100): (192, 64), (64, 300): (64, 256), (127, 256): (64, 256)}
    for (height, width), expected in shapes.items():
        (crop,) = crops_of([save("a.png", height, width)], 1, 256)
        assert crop.shape == (*expected, 3)


def test_every_place_of_a_photo_can_be_taken(save):
    path = save("a.png", 66, 64)
    tops = {int(crops_of([path], 1, 64, seed)[0][0, 0, 0]) for seed in range(40)}
    assert tops == {0, 1, 2}


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 6]), (3, [0, 3, 6]), (7, range(7)), (99, range(7))])
def test_photos_are_chosen_evenly_and_each_once(count, expected, save):
    files = [save(f"{index}.png", blue=index) for index in range(7)]
    assert [int(crop[0, 0, 2]) for crop in crops_of(files, count, 64)] == list(expected)


def test_same_photos_give_the_same_crops_and_another_seed_others(save):
    files = [save(f"{index}.png", 200, 200) for index in range(3)]
    first, again, other = crops_of(files, 3, 64), crops_of(files, 3, 64), crops_of(files, 3, 64, seed=1)
    assert all(np.array_equal(*both) for both in zip(first, again, strict=True))
    assert not any(np.array_equal(*both) for both in zip(first, other, strict=True))


@pytest.mark.parametrize(("height", "width"), [(63, 64), (64, 63)])
def test_photo_below_64_pixels_is_refused(height, width, save):
    with pytest.raises(CalibrationError, match=rf"a\.png: {width}x{height} pixels; expected 64x64 or more"):
        crops_of([save("a.png", height, width)], 1, 64)


def test_unreadable_photo_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png: not a picture in a known format"):
        crops_of([tmp_path / "a.png"], 1, 64)
