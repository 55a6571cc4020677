"""The job does what the codec does, with constriction and with its twin."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlic.runtime import Codec
from mlic.tools.engines import codec_job, constriction_twin


def job(folder: Path, bundle: Path, *arguments: object, path: str = "") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, codec_job.__file__, "--bundle", str(bundle), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": path}, check=False)


@pytest.mark.parametrize("twin", [False, True])
def test_job_encodes_and_decodes_as_the_codec_does(
    twin: bool, bundle_folder: Path, codec: Codec, tmp_path: Path, make_photo
):
    if twin:
        (tmp_path / "packages").mkdir()
        (tmp_path / "packages/constriction.py").symlink_to(constriction_twin.__file__)
    pictures = {name: make_photo(70, 90, seed=seed) for seed, name in enumerate("ab")}
    for name, pixels in pictures.items():
        np.save(tmp_path / f"{name}.npy", pixels)
    encode = [word for name in pictures for word in ("--encode", f"{name}.npy", f"{name}.mlic")]
    done = job(tmp_path, bundle_folder, *encode, "--decode", "a.mlic", "d.npy", path=f"{tmp_path / 'packages'}")
    assert done.returncode == 0, done.stderr
    for name, pixels in pictures.items():
        assert (tmp_path / f"{name}.mlic").read_bytes() == codec.encode(pixels)
    assert np.array_equal(np.load(tmp_path / "d.npy"), codec.decode(codec.encode(pictures["a"])))
    report = json.loads(done.stdout)
    assert (report["machine"], len(report["encode_s"]), len(report["decode_s"])) == (platform.machine(), 2, 1)


def test_job_that_fails_says_so_in_one_line(bundle_folder: Path, tmp_path: Path):
    (tmp_path / "a.mlic").write_bytes(b"no file of ours")
    done = job(tmp_path, bundle_folder, "--decode", "a.mlic", "a.npy")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "StreamError: " in done.stderr
