"""What one thread makes while another one uses what came before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], most: int = 3) -> Generator[T]:
    """The same items, made by a thread of their own before they are asked for, so many at most.

    Raises:
        Exception: whatever making an item raises, where that item is asked for.
    """

    def made() -> list[T]:
        return list(islice(items, 1))

    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        waiting = deque(pool.submit(made) for _ in range(most))
        while item := waiting.popleft().result():
            waiting.append(pool.submit(made))
            yield item[0]
    finally:
        pool.shutdown(cancel_futures=True)
