"""An engine in another process does what the same engine does in this one, and its failures are errors here."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from mlic.runtime.backends.base import Graph
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle, read_manifest
from mlic.runtime.codec import Codec
from mlic.runtime.errors import BackendError
from mlic.runtime.shipped import shipped_bundle
from mlic.tools.engines.available import foreign_engines, native_command, web_command
from mlic.tools.engines.worker import WorkerBackend

BUILT = Path(__file__).resolve().parents[3] / "build/engines"
ENGINES = foreign_engines(BUILT)
WEB = [name for name in ENGINES if name.startswith("onnxruntime-web-")]
ABSENT = pytest.param("", marks=pytest.mark.skip("`make engines` sets them up"))
ABOUT = b'\x0f\x00\x00\x00{"op": "about"}'


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerBackend]:
    with WorkerBackend(native_command(sys.executable), "twin", options={"threads": 1}) as worker:
        yield worker


@pytest.fixture
def own_worker() -> Iterator[WorkerBackend]:
    """One that a test may break."""
    with WorkerBackend(native_command(sys.executable), "twin", options={"threads": 1}) as worker:
        yield worker


def open_graph(worker: WorkerBackend, bundle_folder: Path, name: str) -> Graph:
    bundle = Bundle.open(bundle_folder)
    graph = bundle.manifest.graphs[name]
    return worker.open(bundle.path_of(graph), graph)


def message(header: str, values: bytes = b"") -> bytes:
    return struct.pack("<I", len(header)) + header.encode() + values


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def worker_that_answers(*answers: bytes) -> list[str]:
    """Return the command of a worker that takes requests without arrays and gives prepared answers."""
    return python(
        "import sys\n"
        f"for answer in {answers!r}:\n"
        "    sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), 'little'))\n"
        "    sys.stdout.buffer.write(answer)\n"
        "    sys.stdout.flush()\n"
    )


def test_worker_writes_the_same_bytes_and_reads_them(worker: WorkerBackend, bundle_folder: Path, make_photo):
    pixels = make_photo(75, 100)
    here = Codec.load(bundle_folder, backend=OnnxRuntimeBackend(threads=1))
    there = Codec.load(bundle_folder, backend=worker)
    data = there.encode(pixels)
    assert data == here.encode(pixels)
    np.testing.assert_array_equal(there.decode(data), here.decode(data))


def test_worker_opens_compressed_graphs_and_leaves_nothing_behind(
    worker: WorkerBackend, bundle_folder: Path, packed_folder: Path, make_photo, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pixels = make_photo(40, 64)
    packed, plain = (Codec.load(folder, backend=worker) for folder in (packed_folder, bundle_folder))
    assert packed.encode(pixels) == plain.encode(pixels)
    assert not list(tmp_path.iterdir())


def test_worker_says_what_it_is_and_what_was_asked(worker: WorkerBackend):
    assert worker.granted == f"onnxruntime {version('onnxruntime')} {os.uname().machine}, threads 1"


@pytest.mark.parametrize("optimization", ["none", "basic", "extended", "all"])
def test_every_optimization_gives_nearly_the_same(
    optimization: str, worker: WorkerBackend, bundle_folder: Path, rng: np.random.Generator
):
    inputs = {"z_symbols": rng.integers(-9, 9, (1, 4, 2, 3)).astype(np.float32)}
    expected = open_graph(worker, bundle_folder, "h_s").run(inputs)["hyper"]
    with WorkerBackend(native_command(sys.executable), "twin", options={"optimization": optimization}) as other:
        found = open_graph(other, bundle_folder, "h_s").run(inputs)["hyper"]
    np.testing.assert_allclose(found, expected, atol=1e-5)  # sums in another order


def test_outputs_may_be_written_to(worker: WorkerBackend, bundle_folder: Path):
    graph = open_graph(worker, bundle_folder, "h_s")
    assert graph.run({"z_symbols": np.zeros((1, 4, 1, 1), np.float32)})["hyper"].flags.writeable


def test_several_threads_share_a_worker(worker: WorkerBackend, bundle_folder: Path):
    graph = open_graph(worker, bundle_folder, "h_s")
    inputs = [{"z_symbols": np.full((1, 4, 1, 1 + index), index, np.float32)} for index in range(12)]
    expected = [graph.run(each)["hyper"] for each in inputs]
    with ThreadPoolExecutor(4) as pool:
        for found, each in zip(pool.map(graph.run, inputs), expected, strict=True):
            np.testing.assert_array_equal(found["hyper"], each)


def test_layout_is_frozen(bundle_folder: Path):
    path = bundle_folder / "onnx/h_s.onnx"
    opening = f'{{"op": "open", "path": "{path}", "options": {{}}}}'
    running = '{"op": "run", "id": 0, "inputs": [{"name": "z_symbols", "dtype": "float32", "shape": [1, 4, 1, 1]}]}'
    done = subprocess.run(
        native_command(sys.executable),
        input=ABOUT + message(opening) + message(running, bytes(16)) + message('{"op": "sing"}'),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == (
        message(f'{{"engine": "onnxruntime {version("onnxruntime")} {os.uname().machine}"}}')
        + message('{"id": 0, "takes": {"z_symbols": "float32"}, "gives": {"hyper": "float32"}}')
        + message('{"outputs": [{"name": "hyper", "dtype": "float32", "shape": [1, 8, 4, 4]}]}', bytes(512))
        + message('{"error": "request sing is unknown"}')
    )


def test_what_an_engine_prints_does_not_reach_the_parent(tmp_path: Path):
    (tmp_path / "onnxruntime.py").write_text("import os\nprint('hello')\nos.system('echo hello')\n__version__ = '0'\n")
    command = [word for word in native_command(sys.executable) if word != "-I"]
    with WorkerBackend(command, "loud", {"PYTHONPATH": str(tmp_path)}) as worker:
        assert worker.granted.startswith("onnxruntime 0 ")


def test_missing_graph_is_an_error_that_names_it(worker: WorkerBackend, bundle_folder: Path, tmp_path: Path):
    graph = read_manifest(bundle_folder).graphs["h_s"]
    with pytest.raises(BackendError, match=r"graph h_s: twin: .*nowhere\.onnx"):
        worker.open(tmp_path / "nowhere.onnx", graph)


def test_graph_that_the_manifest_describes_otherwise_is_an_error(worker: WorkerBackend, bundle_folder: Path):
    bundle = Bundle.open(bundle_folder)
    graphs = bundle.manifest.graphs
    with pytest.raises(BackendError, match=r"graph h_s: twin: inputs are .'y': 'float32'.; the manifest has .'z_symb"):
        worker.open(bundle.path_of(graphs["h_a"]), graphs["h_s"])


@pytest.mark.parametrize(
    ("options", "expected"), [({"optimization": "wild"}, "wild is unknown; possible: none"), ({"speed": 9}, "speed")]
)
def test_unknown_option_is_an_error(options: dict[str, object], expected: str, bundle_folder: Path):
    with (
        WorkerBackend(native_command(sys.executable), "twin", options=options) as worker,
        pytest.raises(BackendError, match=f"graph h_s: twin: .*{expected}"),
    ):
        open_graph(worker, bundle_folder, "h_s")


def test_worker_goes_on_after_a_run_that_failed(worker: WorkerBackend, bundle_folder: Path):
    graph = open_graph(worker, bundle_folder, "h_s")
    with pytest.raises(BackendError, match=r"graph h_s: twin: .*z_symbols"):
        graph.run({"z_symbols": np.zeros((1, 5, 1, 1), np.float32)})
    assert graph.run({"z_symbols": np.zeros((1, 4, 1, 1), np.float32)})["hyper"].shape == (1, 8, 4, 4)


def test_killed_worker_is_an_error(own_worker: WorkerBackend, bundle_folder: Path):
    graph = open_graph(own_worker, bundle_folder, "h_s")
    os.kill(own_worker.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(BackendError, match=r"graph h_s: twin: the worker ended on signal 9 \(Killed\)"):
            graph.run({"z_symbols": np.zeros((1, 4, 64, 64), np.float32)})


def test_closed_worker_is_an_error(own_worker: WorkerBackend, bundle_folder: Path):
    graph = open_graph(own_worker, bundle_folder, "h_s")
    own_worker.close()
    with pytest.raises(BackendError, match="graph h_s: twin: the worker was closed"):
        graph.run({"z_symbols": np.zeros((1, 4, 1, 1), np.float32)})


def test_last_words_of_a_worker_are_in_the_error():
    command = python("import sys; sys.exit('first\\nno engine here')")
    with pytest.raises(BackendError, match=r"mute: the worker ended with status 1: no engine here$"):
        WorkerBackend(command, "mute")


def test_command_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(BackendError, match=r"nobody: cannot start .*python \(No such file or directory\)"):
        WorkerBackend([str(tmp_path / "python")], "nobody")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"Hello, I am an engine", "a header of 1819043144 bytes"),
        (message("hello"), "a header that is no JSON"),
        (message("[]"), "a header that is a list"),
        (message("{}"), "does not say what it is"),
        (message('{"outputs": 3}'), "outputs that are no list"),
        (message('{"outputs": [{"name": "a"}]}'), "an array {'name': 'a'}"),
        (message('{"outputs": [{"name": "a", "dtype": "object", "shape": [1]}]}'), "an array {"),
        (message('{"outputs": [{"name": "a", "dtype": "uint8", "shape": [-1]}]}'), "an array {"),
        (message('{"outputs": [{"name": "a", "dtype": "uint8", "shape": [9999999999]}]}'), "a of 9999999999 bytes"),
        (message('{"outputs": [{"name": "a", "dtype": "uint8", "shape": [2]}]}', b"x"), "ended with status 0"),
        (b"\x02\x00", "ended with status 0"),
    ],
)
def test_garbage_is_an_error(answer: bytes, expected: str):
    with pytest.raises(BackendError, match=f"odd: .*{expected}"):
        WorkerBackend(worker_that_answers(answer), "odd")


def test_answer_without_an_output_is_an_error(bundle_folder: Path):
    opened = '{"id": 0, "takes": {"z_symbols": "float32"}, "gives": {"hyper": "float32"}}'
    command = worker_that_answers(message('{"engine": "fake"}'), message(opened), message("{}"))
    with WorkerBackend(command, "fake") as worker:
        graph = open_graph(worker, bundle_folder, "h_s")
        with pytest.raises(BackendError, match="graph h_s: fake: the worker sent no hyper"):
            graph.run({"z_symbols": np.zeros((1, 4, 1, 1), np.float32)})


def test_arrays_of_every_dtype_arrive_as_they_left():
    listed, values, arrays = [], b"", {}
    for dtype, shape in [("float32", (2, 3)), ("float16", ()), ("int32", (0, 4)), ("int64", (1,)), ("uint8", (5,))]:
        arrays[dtype] = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape) - 1
        listed.append(f'{{"name": "{dtype}", "dtype": "{dtype}", "shape": {list(shape)}}}')
        values += arrays[dtype].tobytes()
    answer = message(f'{{"outputs": [{", ".join(listed)}]}}', values)
    with WorkerBackend(worker_that_answers(message('{"engine": "fake"}'), answer), "fake") as worker:
        _, found = worker.request("all", {"op": "run"})
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize("name", ENGINES or [ABSENT])
def test_foreign_engine_computes_nearly_the_same(name: str, rng: np.random.Generator):
    bundle = Bundle.open(shipped_bundle())
    file = bundle.manifest.graphs["h_s"]
    shape = file.spec.inputs["z_symbols"].concrete(128, 192)
    inputs = {"z_symbols": rng.integers(-4, 5, shape).astype(np.float32)}
    expected = OnnxRuntimeBackend(threads=1).open(bundle.path_of(file), file).run(inputs)
    with ENGINES[name]() as engine:
        assert engine.granted.startswith(name.replace("-web-", "-web ").replace("runtime-1", "runtime 1"))
        found = engine.open(bundle.path_of(file), file).run(inputs)
    assert found.keys() == expected.keys()
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, atol=1e-4, err_msg=output)  # sums in another order


@pytest.mark.parametrize("name", WEB or [ABSENT])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"threads": 2}, "threads is 2; onnxruntime-web has 1"),
        ({"optimization": "wild"}, "optimization wild is unknown; possible: none"),
        ({"speed": 9}, "option speed is unknown"),
    ],
)
def test_web_engine_refuses_what_it_cannot_grant(
    name: str, options: dict[str, object], expected: str, bundle_folder: Path
):
    with (
        foreign_engines(BUILT, options)[name]() as worker,
        pytest.raises(BackendError, match=f"graph h_s: {name}: {expected}"),
    ):
        open_graph(worker, bundle_folder, "h_s")


@pytest.mark.parametrize("name", WEB or [ABSENT])
def test_web_engine_goes_on_after_an_error(name: str, bundle_folder: Path, tmp_path: Path):
    with ENGINES[name]() as worker:
        with pytest.raises(BackendError, match=rf"graph h_s: {name}: ENOENT.*nowhere\.onnx"):
            worker.open(tmp_path / "nowhere.onnx", read_manifest(bundle_folder).graphs["h_s"])
        graph = open_graph(worker, bundle_folder, "h_s")
        with pytest.raises(BackendError, match=rf"graph h_s: {name}: .*z_symbols"):
            graph.run({"z_symbols": np.zeros((1, 5, 1, 1), np.float32)})
        assert graph.run({"z_symbols": np.zeros((1, 4, 1, 1), np.float32)})["hyper"].shape == (1, 8, 4, 4)


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_web_engine_that_is_not_there_is_an_error(tmp_path: Path):
    command, variables = web_command(tmp_path)
    with pytest.raises(BackendError, match="web: the worker ended with status 1: Cannot find module 'onnxruntime-web'"):
        WorkerBackend(command, "web", variables)


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_what_the_web_engine_prints_does_not_reach_the_parent(tmp_path: Path):
    package = tmp_path / "node_modules/onnxruntime-web"
    package.mkdir(parents=True)
    (package / "index.js").write_text(
        "console.log('hello'); process.stdout.write('hello'); require('fs').writeSync(1, 'hello');\n"
        "module.exports = { env: { wasm: {}, versions: { web: '0' } } };\n"
    )
    command, variables = web_command(tmp_path)
    with WorkerBackend(command, "loud", variables) as worker:
        assert worker.granted == "onnxruntime-web 0 wasm"
