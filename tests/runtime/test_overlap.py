"""Jobs in two halves, one item ahead."""

from __future__ import annotations

import threading

import pytest

from mlic.runtime.overlap import overlapped


def test_results_come_in_order_and_items_are_taken_one_ahead():
    taken: list[int] = []

    def items():
        for item in range(5):
            taken.append(item)
            yield item

    results = overlapped(items(), lambda item: item + 1, lambda item: item * 10)
    assert taken == []  # nothing begins before the first result is asked for
    assert next(results) == 10
    assert taken == [0, 1]
    assert list(results) == [20, 30, 40, 50]


def test_nothing_gives_nothing():
    assert list(overlapped([], lambda item: item, lambda item: item)) == []


def test_second_half_of_one_runs_beside_the_first_half_of_the_next():
    meeting = threading.Barrier(2, timeout=20)

    def first(item: int) -> int:
        if item:
            meeting.wait()
        return item

    def second(item: int) -> int:
        if not item:
            meeting.wait()
        return item

    assert list(overlapped([0, 1], first, second)) == [0, 1]


@pytest.mark.parametrize("half", ["first", "second"])
def test_failure_comes_after_the_results_before_it(half: str):
    def fail_at_two(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    halves = {"first": lambda item: item, "second": lambda item: item} | {half: fail_at_two}
    results = overlapped(range(4), halves["first"], halves["second"])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_reader_that_stops_early_leaves_no_thread_behind():
    before = threading.active_count()
    results = overlapped(range(100), lambda item: item, lambda item: item)
    next(results)
    results.close()
    assert threading.active_count() == before
