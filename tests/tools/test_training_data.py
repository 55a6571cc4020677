"""Photos for training: what is read, which side of the split it lies on, and the crops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime.errors import MlicError
from mlic.tools.training_data import RandomCrops, centre_crops, load_photos, source_of

Save = Callable[..., None]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes pictures of one colour, which tells them apart afterwards."""

    def save(name: str, colour: int, size: tuple[int, int] = (80, 70), mode: str = "RGB") -> None:
        Image.new("RGB", size, (colour, colour, colour)).convert(mode).save(tmp_path / name)

    return save


def colours(photos: list[np.ndarray]) -> list[int]:
    return [int(photo[0, 0, 0]) for photo in photos]


def test_photos_are_read_in_the_order_of_their_names_as_rgb(save: Save, tmp_path: Path):
    save("b.png", 20, mode="L")
    save("a.PNG", 10)
    save("c.bmp", 30, (64, 64))
    (tmp_path / "notes.txt").write_text("no photo")
    training, validation = load_photos(tmp_path, 64, 0.0)
    assert colours(training) == [10, 20, 30]
    assert [photo.shape for photo in training] == [(70, 80, 3), (70, 80, 3), (64, 64, 3)]
    assert {photo.dtype for photo in training} == {np.dtype(np.uint8)}
    assert validation == []


def test_photos_smaller_than_a_crop_are_left_out(save: Save, tmp_path: Path):
    save("a.png", 1, (63, 100))
    save("b.png", 2, (100, 63))
    save("c.png", 3, (64, 64))
    assert colours(load_photos(tmp_path, 64, 0.0)[0]) == [3]


def test_folder_without_a_usable_photo_is_refused(save: Save, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no picture of at least 64 pixels a side in "):
        load_photos(tmp_path, 64, 0.0)
    save("a.png", 1, (63, 100))
    with pytest.raises(FileNotFoundError, match="no picture of at least 64"):
        load_photos(tmp_path, 64, 0.0)


def sides(folder: Path, share: float) -> dict[int, str]:
    training, validation = load_photos(folder, 64, share)
    return dict.fromkeys(colours(training), "training") | dict.fromkeys(colours(validation), "validation")


def test_local_crops_stay_on_the_side_of_their_photo(save: Save, tmp_path: Path):
    for index in range(60):
        save(f"photo{index}.png", index)
        save(f"photo{index}_local.jpg", 100 + index)
    side = sides(tmp_path, 0.5)
    assert len(side) == 120
    assert len({side[index] for index in range(60)}) == 2  # both sides have some, or this proves nothing
    assert all(side[index] == side[100 + index] for index in range(60))


def test_manifest_tells_which_files_come_from_one_photo(save: Save, tmp_path: Path):
    rows = ["file,kind,source_file"]
    for index in range(40):
        save(f"x{index}.png", index)
        save(f"y{index}_local.png", 100 + index)
        rows += [f"x{index}.png,global,photo {index}.jpg", f"y{index}_local.png,local,photo {index}.jpg"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    side = sides(tmp_path, 0.5)
    assert len({side[index] for index in range(40)}) == 2
    assert all(side[index] == side[100 + index] for index in range(40))


@pytest.mark.parametrize("listed", ["x{}.png", "x{}_local.png"])
@pytest.mark.parametrize("source", ["photo {}.jpg", ""])
def test_crop_or_photo_that_the_manifest_lacks_follows_the_other(listed: str, source: str, save: Save, tmp_path: Path):
    rows = ["file,source_file"]
    for index in range(40):
        save(f"x{index}.png", index)
        save(f"x{index}_local.png", 100 + index)
        rows.append(f"{listed.format(index)},{source.format(index)}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    side = sides(tmp_path, 0.5)
    assert len({side[index] for index in range(40)}) == 2
    assert all(side[index] == side[100 + index] for index in range(40))


def test_photos_that_are_added_move_none_across(save: Save, tmp_path: Path):
    for index in range(30):
        save(f"photo{index}.png", index)
    before = sides(tmp_path, 0.4)
    for index in range(30):
        save(f"a{index}.png", 100 + index)
    after = sides(tmp_path, 0.4)
    assert {key: after[key] for key in before} == before


def test_held_out_share_is_about_what_was_asked():
    from zlib import crc32

    share = np.mean([crc32(source_of(f"photo{index}.jpg", {}).encode()) / 2**32 < 0.05 for index in range(4000)])
    assert 0.04 < share < 0.06


def test_manifest_with_other_columns_is_refused(save: Save, tmp_path: Path):
    save("a.png", 1)
    (tmp_path / "manifest.csv").write_text("name,origin\na.png,b\n")
    with pytest.raises(MlicError, match="has columns name, origin; expected file and source_file"):
        load_photos(tmp_path, 64, 0.0)


def test_same_seed_gives_the_same_crops_and_another_seed_others(make_photo):
    crops = RandomCrops([make_photo(100, 90), make_photo(70, 120, seed=1)], 64)
    first, again, other = (crops.batch(4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first.shape, first.dtype) == ((4, 64, 64, 3), np.uint8)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_crops_lie_inside_their_photo_in_all_four_flips():
    photo = np.zeros((66, 67, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.arange(66)[:, None], np.arange(67)
    crops = RandomCrops([photo], 64).batch(300, np.random.default_rng(0))
    seen = set()
    for crop in crops:
        rows, columns = crop[:, 0, 0].astype(int), crop[0, :, 1].astype(int)
        assert set(np.abs(np.diff(rows))) == set(np.abs(np.diff(columns))) == {1}
        seen.add((min(rows), min(columns), rows[0] < rows[1], columns[0] < columns[1]))
    assert len(seen) == 3 * 4 * 4  # every place and flip occurs


def test_large_photos_are_chosen_in_proportion_to_their_area():
    photos = [np.zeros((64, 64, 3), np.uint8), np.ones((192, 64, 3), np.uint8)]
    crops = RandomCrops(photos, 64).batch(2000, np.random.default_rng(0))
    assert np.mean(crops[:, 0, 0, 0]) == pytest.approx(0.75, abs=0.04)


def test_centre_crops_are_the_middle_and_none_of_none_is_empty(make_photo):
    photo = make_photo(101, 80)
    assert np.array_equal(centre_crops([photo, photo], 64)[1], photo[18:82, 8:72])
    assert centre_crops([], 64).shape == (0, 64, 64, 3)
