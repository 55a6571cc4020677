"""Which TensorRT is taken, what it says where there is none, and how Polygraphy is set to it."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from mlic.runtime.backends.tensorrt_flavour import Flavour, installed_flavour, logger_for, polygraphy_for
from mlic.runtime.errors import BackendError

MODULES = ("tensorrt", "tensorrt_rtx")


@pytest.fixture
def install(monkeypatch):
    """Returns a function that pretends that versions are installed; None: not installed."""

    def install(tensorrt=None, tensorrt_rtx=None):
        for name, version in zip(MODULES, (tensorrt, tensorrt_rtx), strict=True):
            monkeypatch.setitem(sys.modules, name, version and SimpleNamespace(__version__=version))

    return install


@pytest.mark.parametrize(
    ("tensorrt", "rtx", "target", "expected"),
    [
        ("11.0.0.1", None, "tensorrt", "tensorrt-11.0.0.1"),
        ("10.16.1", "1.7.1", "tensorrt", "tensorrt-10.16.1"),
        ("10.9.0", "1.7.1", "tensorrt", "tensorrt-rtx-1.7.1"),
        (None, "1.7.1", "tensorrt", "tensorrt-rtx-1.7.1"),
        ("11.0.0", "1.7.1", "tensorrt-rtx", "tensorrt-rtx-1.7.1"),
    ],
)
def test_tensorrt_is_taken_where_it_is_new_enough_and_rtx_otherwise(tensorrt, rtx, target, expected, install):
    install(tensorrt, rtx)
    assert installed_flavour(target).label == expected


def test_what_is_missing_is_named_with_its_extra(install):
    install()
    with pytest.raises(BackendError, match=r"cannot load TensorRT \(tensorrt: .*; tensorrt-rtx: .*deploy\[tensorrt\]"):
        installed_flavour()
    install("10.3.0")
    with pytest.raises(BackendError, match=r"tensorrt is 10\.3\.0; expected 10\.16 or later"):
        installed_flavour()
    install("11.0.0")
    with pytest.raises(BackendError, match=r"pip install 'mlic-deploy\[tensorrt-rtx\]'$"):
        installed_flavour("tensorrt-rtx")


def test_unknown_target_is_refused():
    with pytest.raises(BackendError, match="'cuda' is unknown; possible: tensorrt, tensorrt-rtx"):
        installed_flavour("cuda")


def test_plans_of_rtx_are_for_any_device_and_those_of_tensorrt_for_one():
    assert Flavour("tensorrt-rtx", "1.7.1", None).device_label("NVIDIA L4") == "any"
    assert Flavour("tensorrt-rtx", "1.7.1", None).device_label(None) == "any"
    tensorrt = Flavour("tensorrt", "11.0.0", None)
    assert tensorrt.device_label("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    with pytest.raises(BackendError, match=r"tensorrt-11\.0\.0 builds engines on the GPU that will run them"):
        tensorrt.device_label(None)


def test_missing_polygraphy_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    with pytest.raises(BackendError, match=r"cannot load Polygraphy .*mlic-deploy\[tensorrt\]"):
        polygraphy_for(Flavour("tensorrt-rtx", "1.7.1", None))


def test_polygraphy_that_works_with_the_other_flavour_is_refused(monkeypatch):
    config = pytest.importorskip("polygraphy.config")
    monkeypatch.setattr(config, "USE_TENSORRT_RTX", False)
    monkeypatch.setitem(sys.modules, "polygraphy.backend.trt", SimpleNamespace())
    with pytest.raises(BackendError, match="POLYGRAPHY_USE_TENSORRT_RTX=1 before it is imported"):
        polygraphy_for(Flavour("tensorrt-rtx", "1.7.1", None))


def test_logger_keeps_errors_and_prints_nothing(capfd):
    trt = pytest.importorskip("tensorrt_rtx")
    flavour = Flavour("tensorrt-rtx", "test", trt)
    logger = logger_for(flavour)
    assert logger is logger_for(flavour)
    severity = trt.ILogger.Severity
    for level in (severity.INTERNAL_ERROR, severity.ERROR, severity.WARNING, severity.INFO):
        logger.log(level, level.name)
    assert list(logger.errors) == ["INTERNAL_ERROR", "ERROR"]
    assert capfd.readouterr() == ("", "")


def test_importing_loads_no_tensorrt():
    names = ("tensorrt", "tensorrt_rtx", "polygraphy", "cuda", "onnx", "torch", "typer")
    code = (
        "import sys, mlic.runtime.backends.tensorrt_plans, mlic.export.engines\n"
        f"print([name for name in {names} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
