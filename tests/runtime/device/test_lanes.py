"""Arrays on a device: what goes up and comes down, whose memory is whose, and several threads."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlic.runtime.device import lanes as lanes_module
from mlic.runtime.device.device import OutOfDeviceMemoryError
from mlic.runtime.device.lanes import Lanes
from mlic.runtime.device.lifetime import Stream
from mlic.runtime.device.pool import MAX_SIZES, Memory, Pool
from tests.fake_device import FakeDevice

SIZE = (64, 64)


def values(count=12, seed=0):
    return np.random.default_rng(seed).random((3, count // 3), np.float32)


def test_what_goes_up_comes_down(lanes, device):
    array = values()
    found = lanes.current().upload(array, SIZE, "a")
    assert (found.shape, found.dtype, found.nbytes) == (array.shape, array.dtype, array.nbytes)
    assert np.array_equal(np.asarray(found), array)
    assert (device.bytes_in, device.bytes_out) == (array.nbytes, array.nbytes)


def test_the_copy_on_the_host_is_made_once(lanes, device):
    found = lanes.current().upload(values(), SIZE, "a")
    assert np.asarray(found) is np.asarray(found)
    assert np.array_equal(np.ascontiguousarray(found), values())
    assert device.counts["copy_out"] == 1


def test_other_dtypes_and_copies_are_made_on_the_host(lanes):
    found = lanes.current().upload(values(), SIZE, "a")
    assert np.asarray(found, np.float64).dtype == np.float64
    copy = np.array(found)
    copy[:] = 0
    assert np.array_equal(np.asarray(found), values())


def test_strided_and_empty_arrays_go_up(lanes):
    lane = lanes.current()
    turned = np.asfortranarray(values())
    assert np.array_equal(lane.upload(turned, SIZE, ""), values())
    assert np.asarray(lane.upload(np.zeros((0, 3), np.float32), SIZE, "")).shape == (0, 3)


def test_the_callers_array_may_change_as_soon_as_it_is_handed_over(lanes):
    array = values()
    found = lanes.current().upload(array, SIZE, "a")
    array[:] = 0
    assert np.array_equal(np.asarray(found), values())


def test_many_and_large_arrays_go_through_little_staging_memory(lanes, device, monkeypatch):
    monkeypatch.setattr(lanes_module, "STAGING_BYTES", 1000)
    lane = lanes.current()
    arrays = [values(3 * count, seed) for seed, count in enumerate((1, 80, 200, 1000, 10))]
    found = [lane.upload(array, SIZE, "") for array in arrays]
    for array, expected in zip(found, arrays, strict=True):
        assert np.array_equal(array, expected)
    assert device.held["pinned"] == 2
    assert device.counts["allocate_pinned"] == 2


def test_an_array_stays_as_it_is_as_long_as_somebody_holds_it(lanes):
    lane = lanes.current()
    held = [lane.upload(values(seed=seed), SIZE, "same") for seed in range(3)]
    assert len({array.address for array in held}) == 3
    for seed, array in enumerate(held):
        assert np.array_equal(array, values(seed=seed))


def test_memory_is_used_again_at_the_same_place(lanes, device):
    lane = lanes.current()
    places = []
    for picture in range(3):
        first, second = (lane.upload(values(seed=picture), SIZE, slot) for slot in ("first", "second"))
        places.append((first.address, second.address))
        del second, first  # in the other order: they must not swap
    assert len(set(places)) == 1
    assert device.counts["allocate"] == 2


def test_work_under_way_is_not_disturbed_by_what_uses_its_memory_next(lanes, device):
    """Nothing happened yet when the array is dropped; the copies happen in order."""
    lane = lanes.current()
    seen = device.allocate_pinned(48)
    array = lane.upload(values(seed=1), SIZE, "a")
    device.copy_out(seen, array.address, lane.stream)
    address = array.address
    del array
    assert lane.upload(values(seed=2), SIZE, "a").address == address
    lane.synchronise()
    assert np.array_equal(seen.view(np.float32).reshape(3, 4), values(seed=1))


def test_memory_of_few_sizes_is_kept(lanes, device):
    lane = lanes.current()
    sizes = [(64 * number, 64) for number in range(1, MAX_SIZES + 3)]
    for size in sizes:
        lane.upload(values(), size, "a")
    assert device.held["memory"] == MAX_SIZES
    allocated = device.counts["allocate"]
    for size in sizes[-MAX_SIZES:] * 2:
        lane.upload(values(), size, "a")
    assert device.counts["allocate"] == allocated
    lane.upload(values(), sizes[0], "a")
    assert device.held["memory"] == MAX_SIZES


def test_an_array_of_a_forgotten_size_is_freed_when_it_comes_back(lanes, device):
    lane = lanes.current()
    array = lane.upload(values(), (1, 1), "a")
    for number in range(2, MAX_SIZES + 3):
        lane.upload(values(), (number, 1), "a")
    assert np.array_equal(array, values())
    del array
    lane.upload(values(), (number, 1), "a")
    assert device.held["memory"] == MAX_SIZES


def test_where_memory_is_short_what_was_kept_is_given_back():
    device = FakeDevice(capacity=1000)
    lanes = Lanes(device)
    lane = lanes.current()
    for number in range(8):
        lane.upload(values(150), (64, 64 * (1 + number % 2)), str(number))  # 600 bytes
    held = lane.upload(values(150), SIZE, "a")
    with pytest.raises(OutOfDeviceMemoryError):
        lane.upload(values(150), SIZE, "a")
    assert np.array_equal(held, values(150))


def test_another_threads_memory_is_given_back_too():
    device = FakeDevice(capacity=1000)
    lanes = Lanes(device)

    def work(_):
        lanes.current().upload(values(150), SIZE, "a")

    with ThreadPoolExecutor(1) as other:
        for turn in range(4):
            list(other.map(work, [turn]))
            work(turn)


def test_a_thread_looks_at_another_threads_array_by_itself(lanes, device):
    array = lanes.current().upload(values(), SIZE, "a")
    with ThreadPoolExecutor(1) as other:
        assert np.array_equal(other.submit(np.asarray, array).result(), values())
    assert device.held["streams"] == 2
    assert device.counts["follow"] == 1


def test_waiting_for_an_array_copies_nothing(lanes, device):
    array = lanes.current().upload(values(), SIZE, "a")
    array.wait()
    assert np.array_equal(device.view(array.address, array.nbytes), values().reshape(-1).view(np.uint8))
    assert device.bytes_out == 0
    later = lanes.current().upload(values(seed=1), SIZE, "b")
    with ThreadPoolExecutor(1) as other:
        other.submit(later.wait).result()
    assert np.array_equal(device.view(later.address, later.nbytes), values(seed=1).reshape(-1).view(np.uint8))


def test_each_thread_has_its_lane_and_leaves_it_to_the_next(lanes, device):
    both = threading.Barrier(2)

    def lane_of_thread(_):
        both.wait()
        return id(lanes.current()), id(lanes.current())

    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            pairs = list(pool.map(lane_of_thread, range(2)))
        assert all(first == second for first, second in pairs)
        assert len(set(pairs)) == 2
    assert device.held["streams"] == 2


def test_many_threads_get_their_own_numbers(lanes):
    def there_and_back(seed):
        lane = lanes.current()
        arrays = [lane.upload(values(300, seed + number), SIZE, "a") for number in range(5)]
        return all(np.array_equal(array, values(300, seed + number)) for number, array in enumerate(arrays))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(there_and_back, range(40)))


def test_scratch_memory_grows_and_is_shared(lanes, device):
    lane = lanes.current()
    small = lane.reserve(100)
    assert lane.reserve(50) == small
    large = lane.reserve(1000)
    assert large[1] == 1000
    assert lane.reserve(100) == large
    assert device.held["memory"] == 1


def test_everything_is_given_back_in_the_end(device):
    lanes = Lanes(device)
    lane = lanes.current()
    lane.reserve(100)
    array = lane.upload(values(), SIZE, "a")
    np.asarray(array)
    left = lane.upload(values(), SIZE, "a")  # still under way
    del lane, lanes, left
    assert np.array_equal(np.asarray(array), values())
    del array
    gc.collect()
    assert device.held == {"memory": 0, "pinned": 0, "streams": 0, "work": 0}


def test_memory_that_comes_back_after_the_end_is_freed_at_once(device):
    """Where lanes and arrays are collected together, any may be first."""
    pool = Pool(Memory(device), Stream(device))
    address = pool.take(SIZE, "a", 100)
    pool.close()
    assert device.held["memory"] == 1
    pool.give_back(SIZE, "a", 100, address)
    assert device.held["memory"] == 0


def test_an_array_outlives_what_made_it(device):
    lanes = Lanes(device)
    array = lanes.current().upload(values(), SIZE, "a")
    del lanes
    gc.collect()
    assert np.array_equal(array, values())
