"""What loading the runtime loads."""

import subprocess
import sys

HEAVY = ("torch", "onnx", "onnxruntime", "typer", "rich", "PIL")


def loaded_after(code):
    script = f"import sys\n{code}\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_runtime_loads_nothing_heavy():
    assert loaded_after("import mlic.runtime") == []


def test_opening_a_bundle_loads_nothing_heavy(bundle_folder):
    assert loaded_after(f"from mlic.runtime.bundle import Bundle; Bundle.open({str(bundle_folder)!r})") == []


def test_coding_arrays_loads_the_engine_alone(bundle_folder):
    code = (
        "import numpy as np; from mlic.runtime import Codec\n"
        f"codec = Codec.load({str(bundle_folder)!r}, threads=1)\n"
        "codec.decode(codec.encode(np.zeros((9, 9, 3), np.uint8)))"
    )
    assert loaded_after(code) == ["onnxruntime"]


def test_errors_are_at_the_top():
    from mlic import runtime

    assert issubclass(runtime.TruncatedStreamError, runtime.BitstreamError)
    assert issubclass(runtime.BitstreamError, runtime.MlicError)
    assert issubclass(runtime.ShapeError, ValueError)
