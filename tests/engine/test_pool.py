"""Work that several do and one takes in order: whoever is lost, nothing is missing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles import wait_until
from tileup.engine.pool import AHEAD, STARTS, PoolWorkerLostError, WorkerPool


class Squaring:
    """Squares numbers in its thread; it is lost, or fails, when it is told to."""

    def __init__(self, fate: Callable[[int], Exception | None] = lambda number: None) -> None:
        self.fate = fate
        self.started = self.ended = 0
        self.did: list[int] = []
        self.busy = threading.Event()
        self.going = threading.Event()
        self.going.set()

    def start(self) -> None:
        self.started += 1

    def do(self, piece: int) -> int:
        self.busy.set()
        self.going.wait(30)
        wrong = self.fate(piece)
        if wrong is not None:
            raise wrong
        self.did.append(piece)
        return piece * piece

    def end(self) -> None:
        self.ended += 1


def square(piece: int) -> int:
    return piece * piece


def at_work(pool: WorkerPool[int, int], count: int) -> None:
    wait_until(lambda: pool._at_work >= count)


@given(
    rounds=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    doers=st.integers(0, 3),
    losses=st.sets(st.integers(0, 40), max_size=4),
    naps=st.lists(st.sampled_from([0.0, 0.0005]), min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_all_comes_in_order_whoever_is_lost(
    rounds: list[int], doers: int, losses: set[int], naps: list[float]
) -> None:
    left = {*losses}

    def fate(number: int) -> Exception | None:
        time.sleep(naps[number % 4])
        if number in left:
            left.discard(number)
            return PoolWorkerLostError("killed")
        return None

    pool = WorkerPool([Squaring(fate) for _ in range(doers)])
    pool.start()
    for count in rounds:
        found = [*pool.in_order(iter(range(count)), square)]
        assert found == [number * number for number in range(count)]
    pool.close()


def test_without_doers_little_is_taken_ahead() -> None:
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    for number, found in enumerate(WorkerPool[int, int]([]).in_order(pieces(), square)):
        assert found == number * number
        assert len(taken) <= number + 1 + AHEAD


def test_doers_do_their_share() -> None:
    doer = Squaring()
    pool = WorkerPool([doer])
    pool.start()
    at_work(pool, 1)

    def mine(piece: int) -> int:
        doer.busy.wait(30)  # so that it has its turn
        return piece * piece

    assert [*pool.in_order(range(9), mine)] == [number * number for number in range(9)]
    assert doer.did
    pool.close()
    assert doer.ended


def test_one_that_is_lost_is_started_again_but_not_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    doer = Squaring(lambda number: PoolWorkerLostError("killed by SIGKILL"))
    pool = WorkerPool([doer])
    pool.start()

    def mine(piece: int) -> int:
        while doer.started < STARTS or pool._at_work:
            time.sleep(0.001)
            if not pool._at_work and doer.started == STARTS:
                break
        return piece * piece

    assert [*pool.in_order(range(20), mine)] == [number * number for number in range(20)]
    assert doer.started == STARTS
    told = "worker 2 was killed by SIGKILL: others do what it had"
    wait_until(lambda: caplog.text.count(told) >= STARTS)
    assert caplog.text.count(told) == STARTS
    pool.close()


def test_one_that_cannot_do_a_piece_takes_no_more(caplog: pytest.LogCaptureFixture) -> None:
    doer = Squaring(lambda number: MemoryError("little memory"))
    pool = WorkerPool([doer])
    pool.start()
    at_work(pool, 1)

    def mine(piece: int) -> int:
        doer.busy.wait(30)
        return piece * piece

    assert [*pool.in_order(range(9), mine)] == [number * number for number in range(9)]
    assert (doer.started, doer.did) == (1, [])
    wait_until(lambda: "worker 2 takes no part: little memory" in caplog.text)  # by its thread
    pool.close()


def test_an_error_of_ones_own_is_raised_and_what_was_begun_counts_for_nothing() -> None:
    doer = Squaring()
    doer.going.clear()
    pool = WorkerPool([doer])
    pool.start()
    at_work(pool, 1)

    def fails(piece: int) -> int:
        doer.busy.wait(30)
        raise ValueError(piece)

    with pytest.raises(ValueError, match=r"\d"):
        [*pool.in_order(range(9), fails)]
    doer.going.set()  # its answer, of an earlier round, comes now
    assert [*pool.in_order(range(100, 109), square)] == [n * n for n in range(100, 109)]
    pool.close()


def test_what_is_at_work_when_all_are_ended_is_done_here() -> None:
    doer = Squaring()
    doer.going.clear()
    doer.fate = lambda number: PoolWorkerLostError("ended")
    pool = WorkerPool([doer])
    pool.start()
    at_work(pool, 1)

    def mine(piece: int) -> int:
        doer.busy.wait(30)
        pool.close()
        doer.going.set()
        return piece * piece

    assert [*pool.in_order(range(9), mine)] == [number * number for number in range(9)]
    assert doer.did == []


def test_nothing_is_said_of_those_who_are_ended(caplog: pytest.LogCaptureFixture) -> None:
    doer = Squaring(lambda number: PoolWorkerLostError("ended"))
    doer.going.clear()
    pool = WorkerPool([doer])
    with caplog.at_level(logging.INFO):
        pool.start()
        at_work(pool, 1)
        answers = pool.in_order(range(9), lambda piece: doer.busy.wait(30) * piece)
        next(answers)
        answers.close()
        pool.close()
        doer.going.set()
        while pool._at_work:
            time.sleep(0.001)
    assert not caplog.records
