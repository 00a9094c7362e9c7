"""Parts that one thread makes, while another works on those that are made."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from numpy.typing import NDArray

MadeParts = Iterator[NDArray[Any]]
"""Arrays in the order in which they are made."""
Work = Callable[[MadeParts], None]
"""Takes all parts. It ends before the last one only by raising."""
Wait = Callable[[], None]
"""Returns when some work is done; raises what that raised."""


class Beside(Protocol):
    """Who works on parts that the caller makes."""

    def __call__(self, parts: Iterable[NDArray[Any]], work: Work) -> Wait:
        """Have the work done.

        Args:
            parts: made in the caller's thread, all of them before this returns, unless the work
                fails.
            work: what is done with them.

        Returns:
            What waits for the work.

        Raises:
            Exception: what making a part raised; nothing is worked on any more by then.
        """
        ...


def in_turn(parts: Iterable[NDArray[Any]], work: Work) -> Wait:
    """Works on each part before the next is made; satisfies `Beside`. What the work raises is
    raised here."""
    work(iter(parts))
    return _done


def _done() -> None:
    """Nothing is left to wait for."""


@dataclass(frozen=True, slots=True)
class InThread:
    """Works in a thread, in which one thing is done at a time; satisfies `Beside`."""

    thread: Executor
    most: int = 2**28
    """Bytes of the parts that wait for it at once, at most; where one has more, that one."""

    def __call__(self, parts: Iterable[NDArray[Any]], work: Work) -> Wait:
        line = _Line(self.most)
        try:
            done = self.thread.submit(_worked, line, work)
            for part in parts:
                if not line.put(part):
                    break
            line.end()
        except BaseException:
            # An interruption, too, may find the work just being handed over: it comes to its end.
            line.drop()
            raise
        return partial(_result, done.result)


def _result(result: Callable[[], object]) -> None:
    result()


class _DroppedError(Exception):
    """No more parts come, and what was made of the others is of no use."""


def _worked(line: _Line, work: Work) -> None:
    try:
        work(line.taken())
    finally:
        line.leave()


class _Line:
    """Parts on their way from one thread to another."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts = deque[NDArray[Any]]()
        self._bytes = 0
        self._ended = self._dropped = self._taken = self._left = False
        self._changed = threading.Condition()

    def put(self, part: NDArray[Any]) -> bool:
        """Have a part waiting, as soon as there is room; False: nobody takes any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._left or not self._parts or self._bytes + part.nbytes <= self._most
            )
            if not self._left:
                self._parts.append(part)
                self._bytes += part.nbytes
                self._changed.notify_all()
            return not self._left

    def end(self) -> None:
        """No more parts come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def drop(self) -> None:
        """No more come, and nothing is made of those that have; returns when nobody is at them."""
        with self._changed:
            self._dropped = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._left or not self._taken)

    def leave(self) -> None:
        """Nobody takes any more."""
        with self._changed:
            self._left = True
            self._parts.clear()
            self._changed.notify_all()

    def taken(self) -> MadeParts:
        """The parts, each as soon as it is there.

        Raises:
            _DroppedError: they are dropped.
        """
        while True:
            with self._changed:
                self._taken = True
                self._changed.wait_for(lambda: self._parts or self._ended or self._dropped)
                if self._dropped:
                    raise _DroppedError
                if not self._parts:
                    return
                part = self._parts.popleft()
                self._bytes -= part.nbytes
                self._changed.notify_all()
            yield part
            del part
