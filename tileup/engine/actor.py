"""A worker that is held by a handle, as in Ray: told what to do by one call, heard by another."""

from __future__ import annotations

import logging
import platform
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tileup.contracts import Step
from tileup.engine.messages import FromWorker, LogLine, Stop, ToWorker, WorkerEvent, WorkerIdle
from tileup.engine.models import Load
from tileup.engine.outcomes import Begun
from tileup.engine.preflight import Here, differences
from tileup.engine.ray_assistants import Helpers, spread_on_ray
from tileup.engine.spread import Spread
from tileup.engine.worker import Bench, Inbox, forward_words, work
from tileup.settings.values import Settings

_EVERY = 0.5
"""Seconds between two windows that a worker tells of: each word takes Ray a millisecond or so."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What an actor is made with."""

    here: Here
    settings: Settings
    load: Load
    overlap: bool
    level: int
    """From which on words are sent."""
    helpers: Helpers | None = None
    """Who helps to draw each picture; None: nobody."""


class Actor:
    """What runs in Ray: a worker, told what to do by `put`, and heard by `serve`."""

    def __init__(self, errand: Errand) -> None:
        """Args:
        errand: what there is to do.
        """
        self._errand = errand
        self._inbox = Inbox()
        self._words: queue.Queue[FromWorker | None] = queue.Queue()
        self._bench = Bench(errand.settings, self._inbox, self._words.put)
        self._spoken = 0.0
        self._spread: Spread | None = None

    def put(self, message: ToWorker) -> None:
        """Something came from the run."""
        if isinstance(message, Stop):
            self._bench.finish()
            self._words.put(None)
            return
        if self._spread is not None and isinstance(message, Begun) and message.alone:
            self._spread.close()  # those who help would take memory beside it
        self._inbox.put(message)

    def serve(self) -> Iterator[FromWorker]:
        """All that the worker says, to its end."""
        forward_words(self._words.put, self._errand.level)
        wrong = differences(self._errand.here)
        if wrong:
            text = f"{platform.node()} is left out: {'; '.join(wrong)}"
            yield LogLine(__name__, logging.WARNING, text)
            return
        errand = self._errand
        if errand.helpers is not None:
            self._spread = spread_on_ray(errand.helpers, errand.here, errand.settings, errand.load)
        yield WorkerIdle()
        threading.Thread(target=self._work, daemon=True).start()
        while (message := self._words.get()) is not None:
            if not self._is_chatter(message):
                yield message

    def _work(self) -> None:
        errand, bench, tell = self._errand, self._bench, self._words.put
        work(bench, self._inbox, tell, errand.settings, errand.load, errand.overlap, self._spread)

    def _is_chatter(self, message: FromWorker) -> bool:
        """Whether it tells of a window so soon after another that nobody misses it."""
        if not (isinstance(message, WorkerEvent) and isinstance(message.event, Step)):
            return False
        now, step = time.monotonic(), message.event
        if now < self._spoken + _EVERY and 1 < step.calls < step.total_calls:
            return True
        self._spoken = now
        return False
