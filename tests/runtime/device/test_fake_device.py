"""The device made of numpy: that it notices what it is there to notice."""

import numpy as np
import pytest

from mlic.runtime.device.device import OutOfDeviceMemoryError
from mlic.runtime.errors import BackendError
from tests.fake_device import FakeDevice


@pytest.fixture
def stream(device):
    return device.open_stream()


@pytest.fixture
def pinned(device):
    return device.allocate_pinned(16)


def test_a_copy_happens_when_somebody_waits(device, stream, pinned):
    address = device.allocate(16)
    pinned[:] = np.arange(16)
    device.copy_in(address, pinned, stream)
    target = device.allocate_pinned(16)
    device.copy_out(target, address, stream)
    assert (target == 0xFF).all()
    device.synchronise(stream)
    assert np.array_equal(target, np.arange(16))
    assert (device.bytes_in, device.bytes_out) == (16, 16)


def test_pinned_memory_that_changes_before_it_is_copied_is_noticed(device, stream, pinned):
    device.copy_in(device.allocate(16), pinned, stream)
    pinned[3] = 1
    with pytest.raises(AssertionError, match="written to before it was copied"):
        device.synchronise(stream)


def test_ordinary_memory_is_no_pinned_memory(device, stream):
    with pytest.raises(AssertionError, match="not pinned"):
        device.copy_in(device.allocate(16), np.zeros(16, np.uint8), stream)


def test_memory_that_was_given_back_is_not_to_be_used(device, stream, pinned):
    address = device.allocate(16)
    device.free(address)
    with pytest.raises(AssertionError, match="given back"):
        device.copy_in(address, pinned, stream)
    with pytest.raises(AssertionError, match="twice"):
        device.free(address)


def test_memory_is_not_to_be_given_back_under_work(device, stream, pinned):
    address = device.allocate(16)
    device.copy_in(address, pinned, stream)
    with pytest.raises(AssertionError, match="under way"):
        device.free(address)


def test_reaching_beyond_the_end_is_noticed(device, stream, pinned):
    address = device.allocate(8)
    device.allocate(64)
    with pytest.raises(AssertionError, match="beyond its end"):
        device.copy_in(address, pinned, stream)


def test_a_stream_that_follows_another_waits_for_what_was_on_it(device, stream, pinned):
    address, other = device.allocate(16), device.open_stream()
    target = device.allocate_pinned(16)
    device.copy_in(address, pinned, stream)
    device.copy_out(target, address, other)  # does not wait
    device.synchronise(other)
    assert (target == 0xFF).all()
    device.follow(other, stream)
    device.copy_out(target, address, other)
    device.synchronise(other)
    assert (target == 0).all()


def test_recorded_work_happens_when_it_is_launched_and_as_often(device, stream, pinned):
    address = device.allocate(16)
    device.begin_capture(stream)
    device.copy_in(address, pinned, stream)
    with pytest.raises(BackendError, match="recording"):
        device.synchronise(stream)
    with pytest.raises(BackendError, match="records"):
        device.allocate(1)
    recording = device.end_capture(stream)
    device.synchronise(stream)
    assert (device.view(address, 16) == 0xFF).all()
    for _ in range(2):
        device.launch(recording, stream)
        device.synchronise(stream)
        assert (device.view(address, 16) == 0).all()
    device.drop(recording)
    with pytest.raises(KeyError):
        device.launch(recording, stream)


def test_a_thread_has_to_choose_its_device():
    with pytest.raises(AssertionError, match="chosen no device"):
        FakeDevice().open_stream()


def test_memory_has_an_end(device):
    small = FakeDevice(capacity=100)
    small.use()
    small.allocate(60)
    with pytest.raises(OutOfDeviceMemoryError):
        small.allocate(60)
