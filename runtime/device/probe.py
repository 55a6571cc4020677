"""Whether this machine has a GPU that can be used, found out in a way that cannot harm this process.

Some libraries end the process where the driver is missing (``tensorrt_lean`` does), and a broken driver can do so by
itself. So the driver is loaded and started in another process first, which says what it found.
"""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
from dataclasses import dataclass

from mlic.runtime.errors import BackendError

TIMEOUT_S = 60.0  # a machine with many GPUs and no persistence daemon takes seconds

# Prints one JSON object: the first device, or which call failed and how. Needs nothing but Python and libcuda.
# 75 and 76 are CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_SCRIPT = """
import ctypes, json, sys

def say(**found):
    print(json.dumps(found))
    sys.exit()

try:
    cuda = ctypes.CDLL(sys.argv[1])
except OSError as error:
    say(no_driver=str(error))

def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(status, ctypes.byref(text))
        say(failed=name, status=status, text=(text.value or b"").decode(errors="replace"))

number, device, buffer = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
call("cuInit", 0)
call("cuDeviceGetCount", ctypes.byref(number))
if not number.value:
    say(failed="cuDeviceGetCount", status=100, text="no CUDA-capable device is detected")
call("cuDeviceGet", ctypes.byref(device), 0)
call("cuDeviceGetName", buffer, len(buffer), device)
capability = []
for attribute in (75, 76):
    call("cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    capability.append(number.value)
call("cuDriverGetVersion", ctypes.byref(number))
say(name=buffer.value.decode(errors="replace"), capability=capability, driver=number.value)
"""


@dataclass(frozen=True)
class DeviceInfo:
    """The first GPU that this process may use; ``CUDA_VISIBLE_DEVICES`` chooses among several.

    Attributes:
        name: such as ``NVIDIA L4``.
        compute_capability: major and minor.
        cuda_version: newest version of CUDA that the driver serves, major and minor.
    """

    name: str
    compute_capability: tuple[int, int]
    cuda_version: tuple[int, int]


def probe() -> DeviceInfo:
    """Return the GPU that this process may use; the driver is asked once in a process.

    Raises:
        BackendError: there is no driver, no device, or the driver does not start.
    """
    found = _ask_once("libcuda.so.1")
    if isinstance(found, str):
        raise BackendError(found)
    return found


def device_for_engine() -> DeviceInfo:
    """Return the GPU for an engine; where there is none, the error names engines that need none.

    Raises:
        BackendError: as ``probe``.
    """
    try:
        return probe()
    except BackendError as error:
        raise BackendError(f"{error}; the engines onnxruntime and openvino need none") from error


@functools.cache
def _ask_once(library: str) -> DeviceInfo | str:
    return ask(library)


def ask(library: str, timeout_s: float = TIMEOUT_S) -> DeviceInfo | str:
    """Ask a driver in a process of its own.

    Args:
        library: file name of the driver's library, looked for as the linker does.
        timeout_s: how long it may take.

    Returns:
        The device, or one line that says why there is none.
    """
    # -I -S: neither the environment nor installed packages decide what runs there. An application that embeds Python
    # may have no interpreter to name.
    command = [sys.executable or "python3", "-I", "-S", "-c", _SCRIPT, library]
    try:
        result = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603 - our own
    except subprocess.TimeoutExpired:
        return f"no CUDA device: the driver did not answer within {timeout_s:g} s"
    except OSError as error:
        return f"no CUDA device: cannot start {command[0]} to ask the driver ({error})"
    return _answer(result.returncode, result.stdout)


def _answer(status: int, output: bytes) -> DeviceInfo | str:
    """Return what the other process found."""
    if status < 0:
        return f"no CUDA device: the driver ended a process that started it ({_signal_name(-status)})"
    try:
        found = json.loads(output)
    except ValueError:
        return f"no CUDA device: asking the driver failed (exit status {status})"
    if "no_driver" in found:
        return f"no CUDA device: the NVIDIA driver is not installed ({found['no_driver']})"
    if "failed" in found:
        return f"no CUDA device: {found['failed']} returned {found['status']} ({found['text'] or 'unknown error'})"
    major, minor = found["capability"]
    return DeviceInfo(found["name"], (major, minor), (found["driver"] // 1000, found["driver"] % 1000 // 10))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
