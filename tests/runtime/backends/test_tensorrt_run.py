"""TensorRT on a device made of numpy, single graphs: what is checked, who holds which memory, and how it fails."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlic.runtime.device.array import DeviceArray
from mlic.runtime.errors import BackendError
from mlic.runtime.manifest import TensorSpec
from tests.tensorrt_setup import HEIGHT, WIDTH, Setup, opened_on_cpu


@pytest.fixture
def setup(bundle_folder):
    return Setup(bundle_folder)


def test_outputs_stay_as_they_are_while_forks_hold_them(setup):
    """Two readings of one step go on from one state, and all arrays of both are still there."""
    graph = setup.open("step_01")
    rng = np.random.default_rng(5)
    shared = {n: rng.random(spec.concrete(HEIGHT, WIDTH), np.float32) for n, spec in graph.spec.inputs.items()}
    expected, held = [], []
    cpu = opened_on_cpu(setup, "step_01")
    for number in range(5):
        inputs = shared | {"symbols_00": shared["symbols_00"] + number}
        expected.append(cpu.run(inputs))
        held.append(graph.run(inputs))
    for found, values in zip(held, expected, strict=True):
        for name, array in values.items():
            assert np.array_equal(found[name], array)


def test_graphs_on_the_device_take_arrays_from_it_and_from_the_host(setup):
    h_s, first = setup.open("h_s"), setup.open("step_00")
    z_symbols = np.zeros((1, 4, 2, 3), np.float32)
    on_device = h_s.run({"z_symbols": z_symbols, "other": z_symbols})
    assert isinstance(on_device["hyper"], DeviceArray)
    setup.device.counts.clear()
    found = first.run(on_device)
    assert setup.device.counts["copy_in"] == 0
    again = first.run({name: np.asarray(array) for name, array in on_device.items()})
    assert all(np.array_equal(found[name], again[name]) for name in found)
    cpu = opened_on_cpu(setup, "step_00").run(on_device)
    assert all(np.array_equal(found[name], cpu[name]) for name in found)


def test_another_devices_array_goes_by_way_of_the_host(setup, bundle_folder):
    other = Setup(bundle_folder)
    z_symbols = np.zeros((1, 4, 2, 3), np.float32)
    hyper = other.open("h_s").run({"z_symbols": z_symbols})
    found = setup.open("step_00").run(hyper)
    expected = opened_on_cpu(setup, "step_00").run(hyper)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_what_was_granted_is_said(setup, bundle_folder):
    assert setup.backend.granted == "tensorrt 99.1, Fake GPU"
    assert Setup(bundle_folder, rtx=True).backend.granted == "tensorrt-rtx 99.1, Fake GPU"
    assert setup.backend.name == "tensorrt"


def test_a_plan_that_cannot_be_loaded_is_a_backend_error_in_one_line(bundle_folder):
    setup = Setup(bundle_folder, plans=lambda *_: b"of another version")
    with pytest.raises(BackendError, match=r"^graph h_s: the plan cannot be loaded \(\[runtime.cpp\] magic tag mism"):
        setup.open("h_s")


def test_names_types_and_shapes_are_compared_with_the_manifest(setup):
    with pytest.raises(BackendError, match=r"inputs are z_symbols; the manifest names z; outputs are hyper; .* other"):
        setup.open(
            "h_s",
            inputs={"z": TensorSpec("float32", (1, 4, "height/64", "width/64"))},
            outputs={"other": TensorSpec("float32", (1,))},
        )
    for spec in (
        TensorSpec("float16", (1, 4, "height/64", "width/64")),
        TensorSpec("float32", (1, 5, "height/64", "width/64")),
        TensorSpec("float32", (1, 4, "height/64")),
    ):
        with pytest.raises(BackendError, match=r"input z_symbols is float32 \[1, 4, -1, -1\]; the manifest has"):
            setup.open("h_s", inputs={"z_symbols": spec})


def test_types_that_numpy_does_not_have_are_differences_too(setup, monkeypatch):
    types = setup.flavour.module.DataType
    monkeypatch.setattr("tests.fake_tensorrt.Engine.get_tensor_dtype", lambda self, name: types.BF16)
    with pytest.raises(BackendError, match=r"input z_symbols is DataType.BF16 .*; output hyper is DataType.BF16"):
        setup.open("h_s")


def test_arrays_that_would_have_to_lie_on_the_host_are_refused(setup, monkeypatch):
    places = setup.flavour.module.TensorLocation
    monkeypatch.setattr("tests.fake_tensorrt.Engine.get_tensor_location", lambda self, name: places.HOST)
    with pytest.raises(BackendError, match="input z_symbols has to lie on the host"):
        setup.open("h_s")


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 4, 9, 9), np.float32, r"is \[1, 4, 9, 9\]; the engine was built for \[1, 4, 1, 1\] to \[1, 4, 8, 8\]"),
        ((1, 5, 2, 3), np.float32, r"is \[1, 5, 2, 3\]; the engine was built for"),
        ((4, 2, 3), np.float32, r"is \[4, 2, 3\]; the engine was built for"),
        ((1, 4, 2, 3), np.float64, "is float64; expected float32"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_others_still_run(setup, shape, dtype, message):
    graph = setup.open("h_s")
    good = np.zeros((1, 4, 2, 3), np.float32)
    expected = np.array(graph.run({"z_symbols": good})["hyper"])
    with pytest.raises(BackendError, match="graph h_s: input z_symbols " + message):
        graph.run({"z_symbols": np.zeros(shape, dtype)})
    assert np.array_equal(graph.run({"z_symbols": good})["hyper"], expected)


def test_a_failing_run_is_a_backend_error_and_the_next_one_works(setup):
    graph = setup.open("h_s")
    z_symbols = {"z_symbols": np.zeros((1, 4, 2, 3), np.float32)}
    expected = np.array(graph.run(z_symbols)["hyper"])
    small = {"z_symbols": np.zeros((1, 4, 1, 1), np.float32)}
    setup.contexts[0].fails = True
    with pytest.raises(BackendError, match=r"^graph h_s: running failed \(something is broken\)$"):
        graph.run(small)
    setup.contexts[0].fails = False
    for _ in range(4):
        assert np.array_equal(graph.run(small)["hyper"], opened_on_cpu(setup, "h_s").run(small)["hyper"])
    for _ in range(4):
        assert np.array_equal(graph.run(z_symbols)["hyper"], expected)


def test_a_graph_may_be_dropped_with_work_under_way(setup):
    hyper = setup.open("h_s").run({"z_symbols": np.ones((1, 4, 2, 3), np.float32)})["hyper"]
    gc.collect()
    expected = opened_on_cpu(setup, "h_s").run({"z_symbols": np.ones((1, 4, 2, 3), np.float32)})["hyper"]
    assert np.array_equal(hyper, expected)


def test_a_recording_is_not_launched_where_an_array_is_held_and_its_place_is_taken(setup):
    graph, cpu = setup.open("h_s"), opened_on_cpu(setup, "h_s")

    def run(value):
        z_symbols = {"z_symbols": np.full((1, 4, 2, 3), value, np.float32)}
        found = graph.run(z_symbols)["hyper"]
        assert np.array_equal(found, cpu.run(z_symbols)["hyper"])
        return found

    for value in range(3):
        run(value)
    held = run(3)
    kept = np.array(held)
    for value in range(4, 9):
        run(value)
    held.wait()
    assert np.array_equal(setup.device.view(held.address, held.nbytes), kept.reshape(-1).view(np.uint8))
    del held
    for value in range(9, 14):
        run(value)


def test_another_threads_array_may_be_dropped_as_soon_as_it_was_taken(setup):
    """Its memory is used again by a stream that does not wait for the one that read it."""
    h_s, first = setup.open("h_s"), setup.open("step_00")
    inputs = [{"z_symbols": np.full((1, 4, 2, 3), value, np.float32)} for value in (1, 2)]
    expected = opened_on_cpu(setup, "step_00").run(opened_on_cpu(setup, "h_s").run(inputs[0]))
    with ThreadPoolExecutor(1) as other:
        hyper = h_s.run(inputs[0])
        found = other.submit(first.run, hyper).result()
        del hyper
        np.asarray(h_s.run(inputs[1])["hyper"])
        for name, array in expected.items():
            assert np.array_equal(other.submit(np.asarray, found[name]).result(), array)


def test_other_threads_keep_off_a_stream_while_it_records(setup, monkeypatch):
    graph = setup.open("h_s")
    z_symbols = {"z_symbols": np.zeros((1, 4, 2, 3), np.float32)}
    held = graph.run({"z_symbols": np.zeros((1, 4, 1, 1), np.float32)})["hyper"]
    end_capture, waited = setup.device.end_capture, []

    def slow_end(stream):
        other = threading.Thread(target=np.asarray, args=(held,))
        other.start()
        other.join(0.1)
        waited.append((other, other.is_alive()))
        return end_capture(stream)

    monkeypatch.setattr(setup.device, "end_capture", slow_end)
    for _ in range(2):
        graph.run(z_symbols)
    ((thread, was_waiting),) = waited
    thread.join()
    assert was_waiting
    assert setup.device.counts["follow"] == 1
