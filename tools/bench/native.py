"""libmlic beside the Python runtime, both on one ONNX Runtime: ``python -m mlic.tools.bench.native``.

Two processes take turns, so that what else the machine does hits both. Memory is that of further processes, each of
which opens the bundle, decodes the photo once and ends.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from mlic.runtime import Codec
from mlic.runtime.arrays import UInt8Array
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.shipped import shipped_bundle
from mlic.tools.bench.timed import TimedBackend
from mlic.tools.engines.native import library

BUILD = Path("build/native/release")  # what `make native` leaves
JOBS = ("encode", "decode")
PYTHON_DECODER = """
import sys
from mlic.runtime import Codec
codec = Codec.load(sys.argv[1], "onnxruntime", int(sys.argv[2]))
codec.decode(open(sys.argv[3], "rb").read())
print(0, flush=True)
sys.stdin.read()
"""
# The networks alone, on a latent of the picture's size; no entropy coder
TORCH_DECODER = """
import sys, torch
from pathlib import Path
from mlic.export.checkpoints import load_checkpoint
from mlic.tools.bench import eager
torch.set_num_threads(int(sys.argv[2]))
model = load_checkpoint(Path(sys.argv[1])).model
y = torch.zeros(1, int(sys.argv[3]), int(sys.argv[5]) // 16, int(sys.argv[6]) // 16)
z = torch.zeros(1, int(sys.argv[4]), y.shape[2] // 4, y.shape[3] // 4)
with torch.no_grad():
    model.synthesis(eager.latent(model, y, z))
print(0, flush=True)
sys.stdin.read()
"""


class PythonRuntime:
    """The Python runtime in this process.

    Args:
        bundle: the folder.
        threads: of each graph.
        pixels: of the photo.
    """

    def __init__(self, bundle: Path, threads: int, pixels: UInt8Array) -> None:
        self._backend = TimedBackend(OnnxRuntimeBackend(threads))
        self._codec = Codec(Bundle.open(bundle), self._backend)
        self._codec.open()
        self._pixels = pixels
        self.data = self._codec.encode(pixels)

    def run(self, job: str) -> tuple[float, float]:
        """Do a job once and return its milliseconds, in all and in the graphs."""
        self._backend.reset()
        begin = time.perf_counter()
        if job == "encode":
            self._codec.encode(self._pixels)
        else:
            self._codec.decode(self.data)
        return 1e3 * (time.perf_counter() - begin), 1e3 * sum(self._backend.seconds.values())


class NativeRuntime:
    """``runtime/native/tests/bench.cpp`` in another process, which waits while this one works."""

    def __init__(self, build: Path, bundle: Path, threads: int, pixels: UInt8Array, file: Path) -> None:
        file.write_bytes(pixels.tobytes())
        height, width, _ = pixels.shape
        line = [build / "tests/bench", bundle, library(), threads, file, width, height]
        self._process = subprocess.Popen(  # noqa: S603 - ours, above
            [str(word) for word in line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, job: str) -> tuple[float, float]:
        """Do a job once and return its milliseconds, in all and in the graphs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{job}\n")
        self._process.stdin.flush()
        total, graphs = map(float, self._process.stdout.readline().split())
        return total, graphs

    def close(self) -> None:
        """End the process."""
        with self._process:
            pass


def peak_megabytes(line: Sequence[object], stdin: str, answers: int) -> float:
    """Return the most memory that a process has held when it has given a number of answers.

    Linux counts what a process was before it became another program among that one's ``ru_maxrss``; this does not.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen([str(word) for word in line], stdin=pipe, stdout=pipe, text=True) as process:  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(stdin)
        process.stdin.flush()
        said = [process.stdout.readline() for _ in range(answers)]
        if any(not answer.startswith("0") for answer in said):
            raise RuntimeError(f"{line[0]} answered {said}")
        status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith("VmHWM")).split()[1]) / 1024


def main(
    photo: Annotated[Path, typer.Argument(help="Any that Pillow reads.")] = Path("tests/photos/kodim03.png"),
    bundle: Annotated[Path | None, typer.Option(help="Default: the one that ships, at medium quality.")] = None,
    build: Annotated[Path, typer.Option(help="Where libmlic and its programs were built.")] = BUILD,
    checkpoint: Annotated[Path | None, typer.Option(help="Of the bundle: PyTorch's memory is measured too.")] = None,
    threads: Annotated[int, typer.Option(help="Of each graph.")] = 2,
    repeats: Annotated[int, typer.Option(help="Counted runs of each job, after two to warm up.")] = 15,
) -> None:
    """Print times and memory of both."""
    bundle = bundle or shipped_bundle()
    with Image.open(photo) as image:
        pixels = np.asarray(image.convert("RGB"))
    with tempfile.TemporaryDirectory() as folder:
        python = PythonRuntime(bundle, threads, pixels)
        native = NativeRuntime(build, bundle, threads, pixels, Path(folder) / "pixels")
        print(f"{photo.name}, {pixels.shape[1]} x {pixels.shape[0]}, {threads} threads, medians of {repeats} runs, ms")
        for job in JOBS:
            runs = [(python.run(job), native.run(job)) for _ in range(repeats + 2)][2:]
            for name, index in (("Python", 0), ("C++", 1)):
                total, graphs = (statistics.median(run[index][part] for run in runs) for part in (0, 1))
                outside = statistics.median(run[index][0] - run[index][1] for run in runs)
                print(f"{job} {name:6} {total:8.1f}, graphs {graphs:8.1f}, outside {outside:6.2f}")
            ratios = sorted(run[1][1] / run[0][1] for run in runs)
            print(f"{job} graphs, C++ / Python: {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")
        native.close()
        file = Path(folder) / "photo.mlic"
        file.write_bytes(python.data)
        commands = f"open\tc\t{bundle}\t{library()}\t{threads}\ndecode\tc\t{file}\t{folder}/out\n"
        of_python = peak_megabytes([sys.executable, "-c", PYTHON_DECODER, bundle, threads, file], "", 1)
        of_native = peak_megabytes([build / "tests/driver"], commands, 2)
        found = f"memory of a process that decodes once: C++ {of_native:.0f} MB, Python {of_python:.0f} MB"
        if checkpoint is not None:
            manifest = Bundle.open(bundle).manifest
            height, width, _ = (-(-side // 64) * 64 for side in pixels.shape)
            sizes = (manifest.y_channels, manifest.z_channels, height, width)
            line = [sys.executable, "-c", TORCH_DECODER, checkpoint, threads, *sizes]
            found += f", PyTorch {peak_megabytes(line, '', 1):.0f} MB"
        print(found)


if __name__ == "__main__":
    typer.run(main)
