"""TensorRT or TensorRT-RTX, whichever is installed: one API under two names, and Polygraphy set to the one in use.

Both are imported when they are first asked for, never before. RTX builds engines ahead of time, on machines without a
GPU too, and one engine serves all the devices that it knows; TensorRT times kernels on the device that will run them.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any

from mlic.runtime.errors import BackendError

TARGETS = ("tensorrt", "tensorrt-rtx")
OLDEST = (10, 16)  # of TensorRT; older ones are neither tried nor asked for
ANY_DEVICE = "any"

EXTRAS = "pip install 'mlic-deploy[tensorrt]', or 'mlic-deploy[tensorrt-rtx]'"


@dataclass(frozen=True)
class Flavour:
    """An installed TensorRT.

    Attributes:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        version: as the package has it.
        module: the package.
    """

    name: str
    version: str
    module: Any

    @property
    def label(self) -> str:
        """Name and version, as files carry them."""
        return f"{self.name}-{self.version}"

    @property
    def is_rtx(self) -> bool:
        """Whether engines are built ahead of time, for any device."""
        return self.name == "tensorrt-rtx"

    def device_label(self, device: str | None) -> str:
        """Return what a built engine depends on, as files carry it.

        Args:
            device: name of the GPU that will run it, such as ``NVIDIA L4``; None if there is none here.

        Raises:
            BackendError: TensorRT needs a device to build on, and there is none.
        """
        if self.is_rtx:
            return ANY_DEVICE
        if device is None:
            raise BackendError(f"{self.label} builds engines on the GPU that will run them, and there is none")
        return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def installed_flavour(target: str = "tensorrt") -> Flavour:
    """Return what is installed.

    Args:
        target: ``tensorrt`` for TensorRT, or TensorRT-RTX where only that is installed; ``tensorrt-rtx`` for that one.

    Raises:
        BackendError: nothing suitable is installed, or ``target`` is unknown.
    """
    if target not in TARGETS:
        raise BackendError(f"target {target!r} is unknown; possible: {', '.join(TARGETS)}")
    problems = []
    for name in TARGETS[TARGETS.index(target) :]:
        try:
            module = importlib.import_module(name.replace("-", "_"))
        except (ImportError, OSError, RuntimeError) as error:  # libraries that are missing raise any of them
            problems.append(f"{name}: {error}")
            continue
        version = str(module.__version__)
        if name == "tensorrt" and _release(version) < OLDEST:
            problems.append(f"tensorrt is {version}; expected 10.16 or later")
            continue
        return Flavour(name, version, module)
    extras = EXTRAS if target == "tensorrt" else "pip install 'mlic-deploy[tensorrt-rtx]'"
    raise BackendError(f"cannot load TensorRT ({'; '.join(problems)}); install it with: {extras}")


def polygraphy_for(flavour: Flavour) -> Any:
    """Return ``polygraphy.backend.trt``, working with this flavour.

    Polygraphy decides between the two when it is first imported, for the whole process.

    Raises:
        BackendError: it is not installed, or the process uses it with the other flavour.
    """
    try:
        from polygraphy import config  # noqa: PLC0415 - an extra, loaded when chosen
    except ImportError as error:
        raise BackendError(f"cannot load Polygraphy ({error}); install it with: {EXTRAS}") from error
    if flavour.is_rtx != config.USE_TENSORRT_RTX:
        if "polygraphy.backend.trt" in sys.modules:
            raise BackendError(
                f"Polygraphy is in use with another TensorRT in this process; {flavour.name} asks for "
                f"POLYGRAPHY_USE_TENSORRT_RTX={int(flavour.is_rtx)} before it is imported"
            )
        config.USE_TENSORRT_RTX = flavour.is_rtx
    from polygraphy.backend import trt  # noqa: PLC0415 - after the choice above

    return trt


@functools.cache
def logger_for(flavour: Flavour) -> Any:
    """Return the process's one logger of TensorRT: it prints nothing and keeps the latest errors in ``errors``.

    TensorRT holds on to the first logger that it sees, so builders and runtimes should all be given this one.
    """
    module = flavour.module

    class Recorder(module.ILogger):  # type: ignore[misc, name-defined]  # an extra, unknown to the type checker
        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=32)

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.Severity.ERROR:
                self.errors.append(message)

    return Recorder()


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
