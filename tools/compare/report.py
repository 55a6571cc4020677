"""A report: photos in, a folder with curves, table and page out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from mlic.runtime.arrays import UInt8Array
from mlic.runtime.atomic import replace_folder
from mlic.runtime.errors import ImageError
from mlic.runtime.image_files import read_image
from mlic.tools.compare.contenders import OURS, Models, PillowCodec, largest_within
from mlic.tools.compare.measure import Point, measure, point, write_csv
from mlic.tools.compare.page import Sheet, Version, figures, write_page
from mlic.tools.compare.plot import write_plot
from mlic.tools.compare.summary import Versus, bd_rates

PHOTOS = "photos"
CONTENT = {"index.html", "rd.csv", "rd.svg", PHOTOS}
SHOWN_FIRST = "jpeg"  # beside ours, where it was compared


def photo_paths(arguments: Sequence[Path]) -> dict[str, Path]:
    """Return the pictures that arguments name, by names that are unique; folders stand for the pictures in them.

    Raises:
        ImageError: an argument does not exist, or there is no picture.
    """
    paths: list[Path] = []
    for argument in arguments:
        if argument.is_dir():
            known = Image.registered_extensions()
            paths += sorted(path for path in argument.iterdir() if path.suffix.lower() in known and path.is_file())
        elif argument.exists():
            paths.append(argument)
        else:
            raise ImageError(f"{argument}: no such file or folder")
    if not paths:
        raise ImageError(f"no picture in {', '.join(map(str, arguments))}")
    named: dict[str, Path] = {}
    for path in paths:
        stem = path.stem.strip(".") or "photo"  # it names a folder of the report
        name, count = stem, 1
        while name in named:
            count += 1
            name = f"{stem}-{count}"
        named[name] = path
    return named


def num_stages(num_photos: int, ours: Models, others: Sequence[PillowCodec]) -> int:
    """Return how often ``write_report`` reports progress."""
    return num_photos * (1 + len(ours.qualities) + len(others)) + 1


def write_report(
    folder: Path,
    photos: Mapping[str, Path],
    ours: Models,
    others: Sequence[PillowCodec],
    max_pixels: int,
    begin: Callable[[str], None],
) -> list[Versus]:
    """Measure everything and fill a folder.

    Args:
        folder: where to; appears when it is complete, and replaces an earlier report.
        photos: picture files by name.
        ours: the models.
        others: what they are compared with.
        max_pixels: refuse larger pictures.
        begin: called with a name as each stage begins.

    Returns:
        Ours against each of the others.

    Raises:
        MlicError: a picture cannot be read, or a codec failed.
        OSError: a file cannot be written.
    """
    points: list[Point] = []
    sheets: list[Sheet] = []
    gains: dict[str, dict[str, dict[str, float | None]]] = {other.name: {} for other in others}
    with _appearing(folder) as unfinished:
        for name, path in photos.items():
            begin(name)
            pixels = read_image(path, max_pixels).pixels
            photo = _Photo(unfinished, name, pixels)
            for quality in ours.qualities:
                begin(f"{name} {quality}")
                photo.add_ours(ours, quality)
            for other in others:
                begin(f"{name} {other.name}")
                gains[other.name][name] = photo.add_other(other)
            points += photo.points
            sheets.append(photo.sheet())
        begin("page")
        table = [
            Versus(
                other.name, bd_rates(points, other.name), bd_rates(points, other.name, ms_ssim=True), gains[other.name]
            )
            for other in others
        ]
        write_csv(unfinished / "rd.csv", points)
        write_plot(unfinished / "rd.svg", points)
        write_page(unfinished / "index.html", sheets, table, list(ours.qualities))
    return table


class _Photo:
    """One photo's measurements and pictures."""

    def __init__(self, report: Path, name: str, pixels: UInt8Array) -> None:
        self.report, self.name, self.pixels = report, name, pixels
        self.points: list[Point] = []
        self.versions: list[Version] = []
        (report / PHOTOS / name).mkdir(parents=True)
        self._show("original", "original.png", "as read, 24 bits a pixel", pixels)

    def add_ours(self, models: Models, quality: str) -> None:
        """Measure one of our models and keep its picture."""
        one, _, decoded = measure(self.name, self.pixels, models, quality)
        self.points.append(one)
        self._show(f"mlic {quality}", f"mlic-{quality}.png", _figures(one), decoded)

    def add_other(self, codec: PillowCodec) -> dict[str, float | None]:
        """Measure another codec's curve, keep its pictures at our sizes, and return by how many dB ours are ahead."""
        curve = [measure(self.name, self.pixels, codec, quality)[0] for quality in codec.qualities]
        sizes = {int(one.quality): one.num_bytes for one in curve}
        gains: dict[str, float | None] = {}
        for one in [p for p in self.points if p.codec == OURS]:
            found = largest_within(codec, self.pixels, one.num_bytes, sizes)
            if found is None:
                gains[one.quality] = None
                continue
            quality, data = found
            decoded = codec.decode(data)
            match = point(self.name, self.pixels, codec.name, str(quality), data, decoded, (0.0, 0.0))
            gains[one.quality] = one.psnr_db - match.psnr_db
            file = f"{codec.name}-at-{one.quality}"
            label = f"{codec.title} {quality}, at most the size of mlic {one.quality}"
            if codec.in_browsers:
                (self._folder / f"{file}{codec.suffix}").write_bytes(data)
                self.versions.append(Version(label, f"{PHOTOS}/{self.name}/{file}{codec.suffix}", _figures(match)))
            else:
                self._show(label, f"{file}.png", _figures(match), decoded)
        self.points += curve
        return gains

    def sheet(self) -> Sheet:
        """Return what the page shows of it: ours at the middle quality, beside JPEG if that was compared."""
        ours = [i for i, version in enumerate(self.versions) if version.file.startswith(self._file("mlic-"))]
        right = ours[len(ours) // 2]
        quality = self.versions[right].file.removeprefix(self._file("mlic-")).removesuffix(".png")
        beside = self._file(f"{SHOWN_FIRST}-at-{quality}.")
        left = next((i for i, version in enumerate(self.versions) if version.file.startswith(beside)), 0)
        height, width = self.pixels.shape[:2]
        return Sheet(self.name, width, height, self.versions, left, right)

    @property
    def _folder(self) -> Path:
        return self.report / PHOTOS / self.name

    def _file(self, name: str) -> str:
        return f"{PHOTOS}/{self.name}/{name}"

    def _show(self, label: str, file: str, caption: str, pixels: UInt8Array) -> None:
        Image.fromarray(pixels).save(self._folder / file)
        self.versions.append(Version(label, self._file(file), caption))


def _figures(one: Point) -> str:
    return figures(one.num_bytes, one.bpp, one.psnr_db, one.ms_ssim)


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Give a folder beside the one wanted, and move it there when the block ends well."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
    unfinished.mkdir()
    try:
        yield unfinished
        replace_folder(folder, unfinished)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def require_free(folder: Path, force: bool, photos: Iterable[Path] = ()) -> None:
    """Raise ImageError unless a report may be written to a folder.

    Args:
        folder: need not exist; if it does, an earlier report is replaced with ``force``, and nothing else ever.
        force: whether to.
        photos: must not be lost with it.
    """
    if lost := [path for path in photos if path.resolve().is_relative_to(folder.resolve())]:
        raise ImageError(f"{folder} would replace {lost[0]}, which it is to be made of; name another folder")
    if not folder.parent.is_dir():
        raise ImageError(f"{folder.parent}: no such folder")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ImageError(f"{folder} is a file; name a folder")
    found = {path.name for path in folder.iterdir()}
    if found - CONTENT:
        raise ImageError(f"{folder} holds {min(found - CONTENT)}, which is no part of a report; name another folder")
    if found and not force:
        raise ImageError(f"{folder} holds a report; name another folder, or --force")
