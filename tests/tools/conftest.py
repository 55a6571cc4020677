"""Fixtures of the commands' tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from mlic.runtime import Codec
from mlic.tools.run_cli import app
from tests.commands import HEIGHT, WIDTH, Result

if TYPE_CHECKING:
    from torch import nn

    from tests.small_training import Make


@pytest.fixture
def mlic(bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in a folder of its own, on the miniature bundle with one thread."""
    monkeypatch.chdir(tmp_path)

    def mlic(name: str, *arguments: object, model: Path | None = bundle_folder) -> Result:
        extra = ["--model", str(model), "--threads", "1"] if name in ("encode", "decode") and model else []
        result = CliRunner().invoke(app, [name, *extra, *map(str, arguments)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)

    return mlic


@pytest.fixture
def picture(tmp_path: Path, make_photo) -> Path:
    Image.fromarray(make_photo(HEIGHT, WIDTH)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def stream(codec: Codec, tmp_path: Path, make_photo) -> Path:
    (tmp_path / "s.mlic").write_bytes(codec.encode(make_photo(HEIGHT, WIDTH)))
    return tmp_path / "s.mlic"


@pytest.fixture
def broken(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "broken")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Lets torch use one thread and puts back what a training command sets for its process."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def make(make_photo, one_thread: None) -> Make:
    """Returns a function that makes a trainer; options as named, the others as in ``small_training``."""
    import torch

    from mlic.export.models.mlicpp import Mlicpp
    from mlic.tools.trainer import Options, Trainer
    from tests.small_training import OPTIONS, WIDTHS

    def make(model: nn.Module | None = None, model_seed: int = 0, held_out: int = 1, **options: Any) -> Trainer:
        torch.manual_seed(model_seed)
        photos = [make_photo(90, 100, seed=seed) for seed in range(3)]
        validation = [make_photo(256, 270, seed=9)] * held_out
        return Trainer(model or Mlicpp(WIDTHS), (photos, validation), Options(**OPTIONS | options), torch.device("cpu"))

    return make
