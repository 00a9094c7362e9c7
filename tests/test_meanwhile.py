"""One thread makes parts, another works on them: order, room, and whatever fails on either side."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tileup.meanwhile import Beside, InThread, MadeParts, in_turn

PATIENCE = 20  # seconds


@pytest.fixture
def thread() -> Generator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def numbered(count: int, made: list[int]) -> Iterator[NDArray[Any]]:
    for number in range(count):
        made.append(number)
        yield np.full(10, number, np.uint8)


@pytest.mark.parametrize("most", [None, 1, 10, 25, 10**6])
def test_every_part_is_worked_on_in_order(thread: ThreadPoolExecutor, most: int | None) -> None:
    beside: Beside = in_turn if most is None else InThread(thread, most)
    found: list[int] = []
    wait = beside(numbered(50, []), lambda parts: found.extend(int(part[0]) for part in parts))
    wait()
    assert found == [*range(50)]


def test_in_turn_each_part_is_worked_on_before_the_next_is_made() -> None:
    made: list[int] = []

    def work(parts: MadeParts) -> None:
        assert made == []
        for number, part in enumerate(parts):
            assert made == [*range(number + 1)]
            assert part[0] == number

    in_turn(numbered(5, made), work)()
    assert len(made) == 5


def test_parts_are_made_while_another_is_worked_on_and_all_of_them_without_waiting(
    thread: ThreadPoolExecutor,
) -> None:
    """What makes them is free for other things while the work still goes on."""
    returned, workers, made = threading.Event(), set[str](), list[int]()

    def work(parts: MadeParts) -> None:
        next(parts)
        assert returned.wait(PATIENCE)
        workers.add(threading.current_thread().name)
        assert len([*parts]) == 7

    wait = InThread(thread)(numbered(8, made), work)
    assert len(made) == 8
    returned.set()
    wait()
    assert workers != {threading.current_thread().name}


def test_no_more_than_so_many_bytes_wait(thread: ThreadPoolExecutor) -> None:
    """Three parts of ten bytes, one that is worked on, and one that is made and finds no room."""
    made, most = list[int](), list[int]()
    full = threading.Event()

    def watched() -> Iterator[NDArray[Any]]:
        for part in numbered(20, made):
            if len(made) == 5:
                full.set()
            yield part

    def work(parts: MadeParts) -> None:
        for taken, _ in enumerate(parts, 1):
            assert full.wait(PATIENCE)
            most.append(len(made) - taken)

    InThread(thread, most=30)(watched(), work)()
    assert most[0] == 4
    assert max(most) == 4


def test_what_the_work_raises_is_raised_to_who_waits(thread: ThreadPoolExecutor) -> None:
    """And parts that nobody takes are not made."""
    made, failed = list[int](), threading.Event()

    def work(parts: MadeParts) -> None:
        next(parts)
        failed.set()
        raise ValueError("no room")

    def slow() -> Iterator[NDArray[Any]]:
        for part in numbered(100, made):
            yield part
            assert failed.wait(PATIENCE)

    wait = InThread(thread, most=10)(slow(), work)
    with pytest.raises(ValueError, match="no room"):
        wait()
    assert len(made) < 100
    found: list[int] = []
    InThread(thread)(numbered(3, []), lambda parts: found.extend(len(part) for part in parts))()
    assert found == [10, 10, 10], "the thread goes on"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_making_a_part_raises_ends_the_work_before_it_is_raised(
    thread: ThreadPoolExecutor, error: type[BaseException]
) -> None:
    """The work sees no end that could be taken for the end of the parts."""
    ends: list[str] = []
    begun = threading.Event()

    def work(parts: MadeParts) -> None:
        try:
            for _ in parts:
                begun.set()
            ends.append("whole")
        finally:
            ends.append("over")

    def breaking() -> Iterator[NDArray[Any]]:
        yield from numbered(3, [])
        assert begun.wait(PATIENCE)
        raise error

    with pytest.raises(error):
        InThread(thread)(breaking(), work)
    assert ends == ["over"]


def test_work_that_has_not_begun_is_dropped_without_waiting(thread: ThreadPoolExecutor) -> None:
    """The thread is still at the work before."""
    free, took = threading.Event(), list[int]()
    before = thread.submit(free.wait, PATIENCE)

    def breaking() -> Iterator[NDArray[Any]]:
        yield from numbered(1, [])
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        InThread(thread)(breaking(), lambda parts: took.extend(len(part) for part in parts))
    assert not before.done()
    free.set()
    assert thread.submit(bool).result(PATIENCE) is False
    assert took == []
