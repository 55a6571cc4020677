"""Encode and decode one photo with the model that ships, as a new user would: ``python -m mlic.tools.demo``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from mlic.tools.console import bytes_text
from mlic.tools.quality import psnr


def main(
    photo: Annotated[Path, typer.Argument(help="Picture to encode.")],
    output: Annotated[Path, typer.Argument(help="Folder for the files.")],
) -> None:
    """Leave the photo, its .mlic file, the decoded picture and both side by side in OUTPUT."""
    output.mkdir(parents=True, exist_ok=True)
    original = output / f"original{photo.suffix}"
    shutil.copyfile(photo, original)
    encoded, decoded = output / f"{photo.stem}.mlic", output / f"{photo.stem}.decoded.png"
    first = _run("encode", original, encoded)
    second = _run("decode", encoded, decoded)
    with Image.open(original) as a, Image.open(decoded) as b:
        before, after = a.convert("RGB"), b.convert("RGB")
    sheet = Image.new("RGB", (before.width + after.width, before.height))
    sheet.paste(before, (0, 0))
    sheet.paste(after, (before.width, 0))
    sheet.save(output / "side_by_side.png")
    print(
        f"{photo.name}: {first['width']}x{first['height']}, {bytes_text(original.stat().st_size)} as "
        f"{photo.suffix[1:].upper()}\n"
        f"  .mlic    {bytes_text(first['bytes'])}, {first['bpp']:.4f} bpp\n"
        f"  PSNR     {psnr(np.asarray(before), np.asarray(after)):.2f} dB\n"
        f"  encode   {first['seconds']:.2f} s\n"
        f"  decode   {second['seconds']:.2f} s\n"
        f"  PyTorch  {'installed, not used' if find_spec('torch') else 'not installed'}\n"
        f"files in {output}/: {', '.join(sorted(path.name for path in output.iterdir()))}"
    )


def _run(command: str, source: Path, target: Path) -> dict[str, Any]:
    """Run ``mlic-run`` as its own process and return what it prints."""
    arguments = [command, str(source), str(target), "--force", "--json"]
    script = "from mlic.tools.run_cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=False, stdout=subprocess.PIPE)  # noqa: S603
    if done.returncode:
        raise typer.Exit(done.returncode)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    typer.run(main)
