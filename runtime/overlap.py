"""Two halves of a job for many items: the second half of one runs beside the first half of the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Middle = TypeVar("Middle")
Result = TypeVar("Result")


def overlapped(
    items: Iterable[Item], first: Callable[[Item], Middle], second: Callable[[Middle], Result]
) -> Iterator[Result]:
    """Yield ``second(first(item))`` for each item, in order.

    ``first`` and the iteration over ``items`` happen in the caller's thread, ``second`` in one other; at most two items
    are under way. Results of items before a failure are yielded before it is raised.

    Args:
        items: taken one at a time, one ahead of what has been yielded.
        first: of an item.
        second: of what ``first`` gave.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="mlic") as worker:
        behind: Future[Result] | None = None
        source = iter(items)
        while True:
            try:
                middle = first(next(source))
            except StopIteration:
                break
            except BaseException:
                if behind is not None:
                    yield behind.result()
                raise
            ahead = worker.submit(second, middle)
            if behind is not None:
                yield behind.result()
            behind = ahead
        if behind is not None:
            yield behind.result()
