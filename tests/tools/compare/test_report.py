"""``mlic-run compare``: what it writes, and that every figure is that of a file."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec
from mlic.tools.compare.contenders import PILLOW_CODECS
from mlic.tools.compare.report import photo_paths
from mlic.tools.quality import ms_ssim, psnr
from tests.commands import names
from tests.tools.compare.conftest import Report


def load(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def rows(report: Report) -> list[dict[str, str]]:
    with (report.folder / "rd.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_report_holds_curves_table_and_page(report: Report):
    assert names(report.folder) == ["index.html", "photos", "rd.csv", "rd.svg"]
    assert names(report.folder / "photos") == ["a", "b #1"]
    assert names(report.folder.parent) == ["in", "one", "out", "two"]


def test_csv_has_a_row_for_every_photo_codec_and_quality(report: Report):
    found = {(row["photo"], row["codec"], row["quality"]) for row in rows(report)}
    ours = [Codec.load(model).bundle.manifest.name for model in report.models]
    settings = [("mlic", name) for name in ours]
    settings += [(name, str(q)) for name in ("jpeg", "webp") for q in PILLOW_CODECS[name].qualities]
    assert found == {(photo, *setting) for photo in ("a", "b #1") for setting in settings}
    assert len(rows(report)) == len(found)


def test_our_rows_are_those_of_real_files(report: Report):
    for model in report.models:
        codec = Codec.load(model, threads=1)
        pixels = load(report.photos / "b #1.png")
        data = codec.encode(pixels)
        decoded = codec.decode(data)
        name = codec.bundle.manifest.name
        (row,) = [r for r in rows(report) if (r["photo"], r["quality"]) == ("b #1", name)]
        assert int(row["num_bytes"]) == len(data)
        assert float(row["bpp"]) == pytest.approx(8 * len(data) / (170 * 200), rel=1e-5)
        assert float(row["psnr_db"]) == pytest.approx(psnr(pixels, decoded), rel=1e-5)
        assert float(row["ms_ssim"]) == pytest.approx(ms_ssim(pixels, decoded), rel=1e-4)
        assert float(row["encode_seconds"]) > 0 < float(row["decode_seconds"])
        assert np.array_equal(load(report.folder / "photos" / "b #1" / f"mlic-{name}.png"), decoded)


def test_jpeg_beside_ours_is_the_largest_that_is_not_larger(report: Report):
    jpeg, pixels = PILLOW_CODECS["jpeg"], load(report.photos / "a.png")
    for row in [r for r in rows(report) if (r["photo"], r["codec"]) == ("a", "mlic")]:
        size = int(row["num_bytes"])
        best = max((q for q in range(1, 101) if len(jpeg.encode(pixels, q)) <= size), default=None)
        shown = report.folder / "photos" / "a" / f"jpeg-at-{row['quality']}.jpg"
        gain = report.printed["against"]["jpeg"]["gain_db_by_photo"]["a"][row["quality"]]
        if best is None:
            assert gain is None
            assert not shown.exists()
        else:
            assert shown.read_bytes() == jpeg.encode(pixels, best)
            assert gain == pytest.approx(float(row["psnr_db"]) - psnr(pixels, load(shown)), abs=1e-4)


def test_json_has_both_codecs(report: Report):
    printed = report.printed
    assert (printed["output"], printed["photos"]) == (str(report.folder), ["a", "b #1"])
    assert list(printed["against"]) == ["jpeg", "webp"]
    for row in printed["against"].values():
        assert (
            set(row["num_ahead"]) == set(row["gain_db"]) == {r["quality"] for r in rows(report) if r["codec"] == "mlic"}
        )
        assert set(row["bd_rate_percent_by_photo"]) == {"a", "b #1"}


def test_plot_is_an_svg_with_a_curve_for_each_codec(report: Report):
    root = ElementTree.parse(report.folder / "rd.svg").getroot()
    text = "".join(root.itertext())
    assert root.tag.endswith("svg")
    assert all(label in text for label in ("JPEG", "WebP", "mlic", "PSNR (dB)", "MS-SSIM (dB)", "bits per pixel"))


def test_every_file_of_the_page_exists_and_nothing_is_fetched_from_elsewhere(report: Report):
    from urllib.parse import unquote

    page = (report.folder / "index.html").read_text()
    files = re.findall(r'(?:src|href|option value)="([^"]+)"', page)
    assert len(files) > 8
    assert [file for file in files if not (report.folder / unquote(file)).is_file()] == []
    assert "://" not in page


def test_one_photo_alone_and_small_ones_without_ms_ssim(mlic, tmp_path: Path, bundle_folder: Path, make_photo):
    Image.fromarray(make_photo(40, 70)).save("small.png")
    result = mlic("compare", "small.png", "--model", bundle_folder, "--against", "jpeg")
    assert result.code == 0
    assert result.out.startswith("jpeg ")
    assert result.out.endswith("page: report/index.html\n")
    text = (tmp_path / "report" / "rd.csv").read_text().splitlines()
    assert all(line.split(",")[6] == "" for line in text[1:])
    assert "MS-SSIM (dB)" not in (tmp_path / "report" / "rd.svg").read_text()


def test_report_is_replaced_only_when_asked_and_nothing_else_ever(
    mlic, bundle_folder: Path, make_photo, tmp_path: Path
):
    Image.fromarray(make_photo(20, 30)).save("p.png")
    arguments = ("compare", "p.png", "--model", bundle_folder, "--against", "jpeg", "-o", "r")
    assert mlic(*arguments).code == 0
    assert mlic(*arguments).error == "mlic-run compare: r holds a report; name another folder, or --force"
    assert mlic(*arguments, "--force").code == 0
    (tmp_path / "r" / "thesis.tex").write_text("years of work")
    problem = "mlic-run compare: r holds thesis.tex, which is no part of a report; name another folder"
    assert mlic(*arguments, "--force").error == problem
    assert (tmp_path / "r" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    assert mlic(*arguments[:-1], "file").error == "mlic-run compare: file is a file; name a folder"
    assert mlic(*arguments[:-1], "no/r").error == "mlic-run compare: no: no such folder"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("p.png", "--against", "jpeg,gif"), "--against gif is unknown; possible: jpeg, webp, avif, jxl"),
        (("none.png",), "none.png: no such file or folder"),
        (("empty",), "no picture in empty"),
        (
            ("text.png",),
            "text.png: not a picture in a known format; "
            "expected one that Pillow reads, such as PNG, JPEG, WebP or TIFF",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    arguments: tuple[str, ...], problem: str, mlic, bundle_folder: Path, make_photo, tmp_path: Path
):
    Image.fromarray(make_photo(20, 30)).save("p.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    before = names(tmp_path)
    assert mlic("compare", *arguments, "--model", bundle_folder).error == f"mlic-run compare: {problem}"
    assert names(tmp_path) == before


def test_a_failure_or_interrupt_on_the_way_leaves_nothing(
    mlic, bundle_folder: Path, make_photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.fromarray(make_photo(20, 30)).save("p.png")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlic.tools.compare.report.write_plot", stop)
    result = mlic("compare", "p.png", "--model", bundle_folder, "--against", "jpeg")
    assert (result.code, result.out, result.err) == (130, "", "mlic-run compare: interrupted\n")
    assert names(tmp_path) == ["p.png"]


def test_one_model_twice_is_refused(mlic, bundle_folder: Path, make_photo):
    Image.fromarray(make_photo(20, 30)).save("p.png")
    result = mlic("compare", "p.png", "--model", bundle_folder, "--model", bundle_folder)
    assert "give each once" in result.error


def test_without_its_extra_the_command_says_what_to_install(mlic, make_photo, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(make_photo(20, 30)).save("p.png")
    for module in [name for name in sys.modules if name.startswith("mlic.tools.compare.")]:
        if not module.endswith(".cli"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'mlic-deploy[report,cpu]'" in mlic("compare", "p.png").error


def test_photos_of_one_name_and_of_dots_alone_get_names_of_their_own(tmp_path: Path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "...png"):
            (tmp_path / folder / name).write_bytes(b"")
    found = photo_paths([tmp_path / "x", tmp_path / "y" / "a.png", tmp_path / "y" / "...png"])
    assert list(found) == ["photo", "a", "a-2", "photo-2"]
