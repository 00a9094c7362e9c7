"""How long a run still takes, by what is left to do and how fast it has gone so far."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

_ENOUGH = 2.0
"""Seconds that must have been measured before anything is said."""
_MEMORY = 600.0
"""Seconds over which speed is measured: a machine that got slower shows after that."""


class TimeLeft:
    """Estimates the seconds to the end of a run of pictures.

    Work is counted in windows that the network evaluates. Of the picture at work their number is
    planned exactly. Of those ahead it is taken in proportion to the size of their output, as it
    was in the pictures planned so far. Speed is windows by the clock on the wall, so the reading
    and writing that sampling waited for is in it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        clock: seconds from any start.
        """
        self._clock = clock
        self._ahead: dict[int, float] | None = {}
        self._sizes: dict[int, float] = {}
        self._plans: dict[int, int] = {}
        self._begun: set[int] = set()
        self._current: dict[int, int] = {}
        self._calls: dict[int, int] = {}
        self._total: dict[int, int] = {}
        self._worked: dict[int, int] = {}
        self._done = 0
        self._samples: deque[tuple[float, int]] = deque()

    def wait_for_sizes(self) -> None:
        """Say nothing until `expect` has told what is ahead."""
        self._ahead = None

    def expect(self, sizes: Mapping[int, float]) -> None:
        """Tell how large the pictures are.

        Args:
            sizes: output pixels of each picture by its number; those that will not be made, or
                cannot be read, are left out.
        """
        self._sizes = dict(sizes)
        self._ahead = {each: size for each, size in sizes.items() if each not in self._begun}

    def begin(self, number: int, worker: int = 0) -> None:
        """A picture has its turn; the one before it, at that worker, is drawn, or has failed."""
        self._done += self._worked.get(worker, 0)
        self._calls[worker] = self._total[worker] = self._worked[worker] = 0
        self._current[worker] = number
        self._begun.add(number)
        if self._ahead is not None:
            self._ahead.pop(number, None)

    def step(self, calls: int, total: int, worker: int = 0, known: int = 0) -> None:
        """So many windows of a worker's current picture are evaluated, of so many; those that an
        earlier run evaluated tell nothing of the speed."""
        before = self._calls.get(worker, 0)
        if self._total.get(worker, 0) == 0 and worker in self._current:
            self._plans[self._current[worker]] = total
        # A picture that is begun anew, for want of memory, has its first windows still ahead.
        if calls < before:
            self._done += self._worked.get(worker, 0)
        self._calls[worker], self._total[worker] = calls, total
        self._worked[worker] = calls - known
        now = self._clock()
        self._samples.append((now, self._done + sum(self._worked.values())))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _MEMORY:
            self._samples.popleft()

    def seconds(self) -> float | None:
        """Seconds to the end; None while there is nothing to go by."""
        if self._ahead is None or len(self._samples) < 2:
            return None
        (began, before), (latest, done) = self._samples[0], self._samples[-1]
        if latest - began < _ENOUGH or done == before:
            return None
        left: float = sum(self._total.values()) - sum(self._calls.values())
        if self._ahead:
            known = self._plans.keys() & self._sizes.keys()
            if not known:
                return None
            calls, size = (sum(of[each] for each in known) for of in (self._plans, self._sizes))
            left += calls / size * sum(self._ahead.values())
        return max(0.0, left * (latest - began) / (done - before) - (self._clock() - latest))


def lasting(seconds: float) -> str:
    """How long something takes, as a person would say it: `a few seconds`, `about 4 min`."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds / 5) * 5} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} min"
    hours = minutes / 60
    return f"about {hours:.1f} h" if hours < 10 else f"about {round(hours)} h"


def in_words(seconds: float | None) -> str:
    """Seconds as a person would say them; empty for None."""
    if seconds is None:
        return ""
    return f"{lasting(seconds)} left"
