"""Asking the driver: every answer it may give, from libraries made for the purpose, and that it cannot harm us."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from mlic.runtime.backends import open_backend
from mlic.runtime.device import probe as probe_module
from mlic.runtime.device.cuda import CudaDevice
from mlic.runtime.device.probe import DeviceInfo, ask, probe
from mlic.runtime.errors import BackendError

DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { %s }
int cuDeviceGetCount(int *count) { *count = %d; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "NVIDIA Abacus", length); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute - 66; return 0; }
int cuDriverGetVersion(int *version) { *version = 13010; return 0; }
int cuGetErrorString(int status, const char **text)
{
    *text = status == 100 ? "no device here" : 0;
    return status != 100;
}
"""


@pytest.fixture
def driver(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make drivers with")

    def build(init, count=1):
        (tmp_path / "driver.c").write_text(DRIVER % (init, count))
        path = tmp_path / "libcuda.so.1"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", path, tmp_path / "driver.c"], check=True)
        return str(path)

    return build


def test_a_device_is_described(driver):
    assert ask(driver("return 0;")) == DeviceInfo("NVIDIA Abacus", (9, 10), (13, 1))


@pytest.mark.parametrize(
    ("init", "count", "message"),
    [
        ("return 100;", 1, r"cuInit returned 100 \(no device here\)"),
        ("return 999;", 1, r"cuInit returned 999 \(unknown error\)"),
        ("return 0;", 0, r"no CUDA-capable device is detected"),
        ("*(volatile int *)0 = 1; return 0;", 1, r"ended a process that started it \(SIGSEGV\)"),
        ("extern void _exit(int); _exit(3);", 1, r"asking the driver failed \(exit status 3\)"),
        ("extern unsigned sleep(unsigned); sleep(9); return 0;", 1, r"did not answer within 0.5 s"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_wrong_is_said_in_one_line(driver, init, count, message, monkeypatch):
    path = driver(init, count)
    found = ask(path, timeout_s=0.5 if "sleep" in init else 20)
    assert isinstance(found, str)
    assert found.startswith("no CUDA device: ")
    monkeypatch.setattr(probe_module, "_ask_once", lambda library: found)
    with pytest.raises(BackendError, match=message) as caught:
        probe()
    assert "\n" not in str(caught.value)


def test_no_driver_is_found_out_within_a_second(tmp_path):
    start = time.perf_counter()
    found = ask(str(tmp_path / "libcuda.so.1"))
    assert time.perf_counter() - start < 1
    assert isinstance(found, str)
    assert "the NVIDIA driver is not installed" in found


def test_no_interpreter_to_ask_with_is_no_device(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "cannot start /nowhere/python" in str(ask("libcuda.so.1"))


def test_the_driver_is_asked_once(monkeypatch):
    asked = []
    monkeypatch.setattr(probe_module, "ask", lambda library: asked.append(library) or "no CUDA device: none")
    probe_module._ask_once.cache_clear()
    try:
        for _ in range(3):
            with pytest.raises(BackendError, match="none"):
                probe()
    finally:
        probe_module._ask_once.cache_clear()
    assert asked == ["libcuda.so.1"]


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_without_a_driver_engines_say_so_before_they_load_anything(name, monkeypatch):
    monkeypatch.setattr(probe_module, "_ask_once", lambda library: "no CUDA device: the NVIDIA driver is not installed")
    for module in ("tensorrt", "tensorrt_rtx", "onnxruntime", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=r"^no CUDA device: the NVIDIA driver is not installed; .* need none$"):
        open_backend(name)


def test_modules_import_without_cuda_and_tensorrt():
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cuda", "tensorrt", "tensorrt_rtx", "polygraphy", "onnxruntime", "torch", "onnx"):
            raise ImportError(f"{name} must not be imported")
sys.meta_path.insert(0, Refuse())
import mlic.runtime.device, mlic.runtime.device.cuda, mlic.runtime.backends.cuda, mlic.runtime.backends.tensorrt
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)


def test_a_missing_cuda_python_says_what_to_install(monkeypatch):
    monkeypatch.setattr(probe_module, "_ask_once", lambda library: DeviceInfo("NVIDIA Abacus", (9, 0), (13, 0)))
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(BackendError, match=r"cannot load cuda-python .*pip install 'mlic-deploy\[tensorrt\]'"):
        CudaDevice()
