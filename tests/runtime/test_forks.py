"""A codec in forked children, and in threads: each in a process of its own, because what goes wrong there is a hang."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlic.runtime.backends import LazyGraph
from mlic.runtime.codec import Codec
from mlic.runtime.manifest import GraphFile, GraphSpec

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

SECONDS = 90


def outcome(body, bundle, engine="onnxruntime"):
    """Run code after a codec encoded and decoded in its process; return status and what was printed."""
    head = f"""
        import atexit, os, sys
        import numpy as np
        from mlic.runtime import Codec
        from tests.conftest import photo
        codec = Codec.load({str(bundle)!r}, {engine!r}, threads=2)
        pixels = photo(512, 768)
        data = codec.encode(pixels)
        decoded = codec.decode(data)
        def same(_=None):
            return codec.encode(pixels) == data and np.array_equal(codec.decode(data), decoded)
    """
    code = textwrap.dedent(head) + textwrap.dedent(body)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False, env=environment,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "auto"])
def test_a_child_encodes_and_decodes_alike_and_ends_with_its_own_status(bundle_folder, engine, tmp_path):
    if engine == "openvino":
        pytest.importorskip("openvino")
    body = f"""
        if not (child := os.fork()):
            assert same()
            atexit.register(print, "at exit")
            file = open({str(tmp_path / "file")!r}, "w")
            file.write("flushed")
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), same())
    """
    assert outcome(body, bundle_folder, engine) == (0, "at exit\n7 True\n", "")
    assert (tmp_path / "file").read_text() == "flushed"


def test_a_child_that_uses_no_codec_ends_too(bundle_folder):
    body = """
        if not (child := os.fork()):
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert outcome(body, bundle_folder) == (0, "0\n", "")


def test_a_child_of_a_child_works_too(bundle_folder):
    body = """
        for generation in range(3):
            if child := os.fork():
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            assert same()
        print("third")
    """
    assert outcome(body, bundle_folder) == (0, "third\n", "")


def test_pools_of_multiprocessing_work(bundle_folder):
    body = """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(same, range(4)))
    """
    assert outcome(body, bundle_folder) == (0, "[True, True, True, True]\n", "")


class OpenedGraph:
    """Counts how often it was destroyed."""

    destroyed = 0

    def __del__(self):
        OpenedGraph.destroyed += 1


class CountingBackend:
    name = granted = "counting"
    opened = 0

    def open(self, path, graph):
        self.opened += 1
        return OpenedGraph()


def in_child(check):
    """Return whether ``check`` holds in a forked child."""
    child = os.fork()
    if not child:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_graphs_are_opened_again_in_a_child_and_the_old_ones_never_destroyed():
    backend = CountingBackend()
    graph = LazyGraph(backend, Path("g.onnx"), GraphFile(GraphSpec("g", {}, {}, True), "g.onnx", "", "fp32"))
    graph.open()

    def check():
        nonlocal graph
        fresh = not graph.is_open
        graph.open()
        del graph
        return fresh and backend.opened == 2 and OpenedGraph.destroyed == 1  # the child's own

    assert in_child(check)
    assert graph.is_open
    assert backend.opened == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_lock_that_was_held_while_forking_is_free_in_the_child():
    graph = LazyGraph(CountingBackend(), Path("g.onnx"), GraphFile(GraphSpec("g", {}, {}, True), "g.onnx", "", "fp32"))
    with graph._lock:
        assert in_child(lambda: graph._lock.acquire(timeout=1))


def test_threads_share_a_codec_in_both_directions(bundle_folder, make_photo):
    """Also the opening of its graphs, which the first calls find closed."""
    pictures = [make_photo(64 + 32 * number, 100, seed=number) for number in range(4)]
    alone = Codec.load(bundle_folder, threads=1)
    files = [alone.encode(picture) for picture in pictures]
    decoded = [alone.decode(data).tobytes() for data in files]
    shared = Codec.load(bundle_folder, threads=2)

    def job(number):
        which = number % 4
        if number % 2:
            return shared.encode(pictures[which]) == files[which]
        return shared.decode(files[which]).tobytes() == decoded[which]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(job, range(64), timeout=SECONDS))
