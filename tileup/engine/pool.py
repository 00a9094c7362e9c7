"""Work that several do and one takes in order, who does some of it and does not wait for others.

What comes out does not depend on who did what, on how many there are, nor on whether some of them
are lost on the way: a piece of work whose doer is lost is done by another.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

AHEAD = 3
"""Pieces that are ready for each doer, so that none waits while the one who takes is at work."""
STARTS = 3
"""How often a doer is started."""


class PoolWorkerLostError(Exception):
    """A doer has ended; says how, in words that fit behind "was"."""


class PoolWorker(Protocol[T_contra, R_co]):
    """Does pieces of work elsewhere, one at a time. Each has a thread here that waits for it."""

    def start(self) -> None:
        """Start it, or start it anew after it was lost; returns when it can take work.

        Raises:
            PoolWorkerLostError: it ended before that.
            Exception: it cannot be started, and will not be.
        """
        ...

    def do(self, piece: T_contra) -> R_co:
        """What becomes of a piece.

        Raises:
            PoolWorkerLostError: it has ended, and may be started again.
            Exception: it cannot do this piece; it takes no more.
        """
        ...

    def end(self) -> None:
        """End it now, whatever it is doing; called by any thread, and more than once."""
        ...


class _WaitingPiece(Generic[T]):
    def __init__(self, number: int, piece: T) -> None:
        self.number, self.piece = number, piece


class WorkerPool(Generic[T, R]):
    """Doers, and what they have to do. Made and used by one thread."""

    def __init__(self, doers: Iterable[PoolWorker[T, R]]) -> None:
        """Args:
        doers: not started yet.
        """
        self._doers = [*doers]
        self._changed = threading.Condition()
        self._waiting: deque[_WaitingPiece[T]] = deque()
        self._done: dict[int, R] = {}
        self._round = 0
        """Which call of `in_order` it is: what comes of an earlier one counts for nothing."""
        self._at_work = 0
        """How many doers take pieces just now."""
        self._closed = False

    def start(self) -> None:
        """Start all doers; returns at once, and they take part when they can."""
        for number, doer in enumerate(self._doers, 1):
            threading.Thread(
                target=self._serve, args=(doer, number), name=f"tileup-doer-{number}", daemon=True
            ).start()

    def in_order(self, pieces: Iterable[T], mine: Callable[[T], R]) -> Iterator[R]:
        """What becomes of each piece, in order.

        Args:
            pieces: taken in the caller's thread, as many ahead as the doers need.
            mine: does a piece here, in the caller's thread.
        """
        source, taken, given = iter(pieces), 0, 0
        with self._changed:
            self._round += 1
        try:
            while True:
                taken += self._take(source, taken, AHEAD * (1 + self._at_work) - (taken - given))
                if taken == given:
                    return
                with self._changed:
                    self._changed.wait_for(lambda: given in self._done or self._waiting)  # noqa: B023
                    answer = [self._done.pop(given)] if given in self._done else []
                    job = None if answer else self._waiting.popleft()
                if job is not None:
                    result = mine(job.piece)
                    with self._changed:
                        self._done[job.number] = result
                else:
                    given += 1
                    yield answer.pop()
        finally:
            with self._changed:
                self._round += 1
                self._waiting.clear()
                self._done.clear()

    def _take(self, source: Iterator[T], first: int, count: int) -> int:
        """Have pieces waiting: how many there were, at most `count`."""
        for number in range(count):
            try:
                job = _WaitingPiece(first + number, next(source))
            except StopIteration:
                return number
            with self._changed:
                self._waiting.append(job)
                self._changed.notify()
        return max(count, 0)

    def _serve(self, doer: PoolWorker[T, R], number: int) -> None:
        """What the thread of a doer does, to its end."""
        for _ in range(STARTS):
            try:
                doer.start()
                with self._changed:
                    self._at_work += 1
                try:
                    self._work(doer)
                    return
                finally:
                    with self._changed:
                        self._at_work -= 1
            except PoolWorkerLostError as error:
                if self._closed:
                    return
                log.warning("worker %d was %s: others do what it had", number + 1, error)
            except Exception as error:
                if self._closed:
                    return
                log.warning("worker %d takes no part: %s", number + 1, error)
                log.debug("a worker takes no part", exc_info=error)
                doer.end()
                return

    def _work(self, doer: PoolWorker[T, R]) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job, mine = self._waiting.popleft(), self._round
            try:
                result = doer.do(job.piece)
            except BaseException:
                with self._changed:
                    if mine == self._round:
                        self._waiting.appendleft(job)
                        self._changed.notify_all()
                raise
            with self._changed:
                if mine == self._round:
                    self._done[job.number] = result
                    self._changed.notify_all()

    def close(self) -> None:
        """End all doers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for doer in self._doers:
            doer.end()
