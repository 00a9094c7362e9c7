"""Pictures one after the other, in one process: one model, one outcome for each.

While one picture is drawn, the next is read and enlarged and the last is finished, encoded and
written, in a thread each. There is never more than one picture in each of the three places; bands
of one that is being drawn are finished in a fourth.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol

from tileup.contracts import ModelSpec, Step
from tileup.engine import memory
from tileup.engine.desk import Busy, Look, Settled, attempt, known
from tileup.engine.failures import is_out_of_memory
from tileup.engine.file_to_file import Drawable, Finishable, Made
from tileup.engine.models import Load, Models
from tileup.engine.outcomes import Begun, Finished, Loading, OnEvent, Outcome
from tileup.engine.request import Job
from tileup.engine.spread import Spread
from tileup.errors import OutOfMemoryError
from tileup.meanwhile import InThread, in_turn
from tileup.settings.values import Settings

Draw = Callable[[], Finishable]
"""Draws a picture."""
Later = Callable[[], Outcome]
"""What is to be done in the caller's thread, when nothing else is."""
_POLL = 0.1
"""Seconds between looks at a lock that another process has."""


class JobQueue(Protocol):
    """Where a pipeline gets its pictures from."""

    def take(self) -> Begun | None:
        """The next one, once there is one; None at the end."""
        ...

    def following(self) -> Job | None:
        """The next one that is to be made, where it is known already."""
        ...


class InOrder:
    """The jobs of a list."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._left = deque(Begun(job, number, len(jobs)) for number, job in enumerate(jobs, 1))
        self._to_make = deque(job for job in jobs if not job.finished)

    def take(self) -> Begun | None:
        if not self._left:
            return None
        turn = self._left.popleft()
        if not turn.job.finished:
            self._to_make.popleft()
        return turn

    def following(self) -> Job | None:
        return self._to_make[0] if self._to_make else None


class AtDesk(Protocol):
    """Where a pipeline takes pictures up and puts them down; threads share it."""

    def look(self, job: Job, spec: ModelSpec | None) -> Look:
        """Take a picture up, and read it."""
        ...

    def write(self, opened: Drawable, made: Made) -> Outcome:
        """Write a picture."""
        ...

    def failed(self, job: Job, error: Exception) -> Outcome:
        """A picture that failed."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class Pipeline:
    """Draws one picture while the next is read and the last is written."""

    def __init__(
        self,
        settings: Settings,
        load: Load,
        on_event: OnEvent,
        desk: AtDesk,
        overlap: bool,
        spread: Spread | None = None,
    ) -> None:
        """Args:
        settings: of all pictures; each job has its own seed.
        load: loads the model.
        on_event: told what happens, always in the caller's thread; it may raise to stop.
        desk: where pictures are taken up and put down.
        overlap: whether reading and writing go on beside drawing.
        spread: who helps to draw each picture; None: nobody.
        """
        self._settings = settings
        self._on_event = on_event
        self._desk = desk
        self._queue: JobQueue = InOrder(())
        self._models = Models(load, lambda: on_event(Loading()))
        self._overlap = overlap
        self._spread = spread
        self._reading = ReadAhead(self._look)
        self._writing = WriteBehind(on_event)
        self._finishing = _one_thread("tileup-finish")

    def outcomes(self, queue: JobQueue) -> Iterator[Outcome]:
        """All outcomes, in order; pictures that another process is at come last."""
        self._queue, busy = queue, list[Begun]()
        while (turn := queue.take()) is not None:
            look = self._looked_at(turn)
            if isinstance(look, Busy):
                busy.append(turn)
            else:
                yield from self._go_on(look, turn)
        for turn in busy:
            yield from self._writing.settled()
            yield from self._go_on(self._waited_for(turn), turn)
        yield from self._writing.settled()

    def _looked_at(self, turn: Begun) -> Look:
        if turn.job.finished:
            return Settled(known(turn.job))
        self._on_event(turn)
        return self._reading.result(turn.job)

    def _waited_for(self, turn: Begun) -> Drawable | Settled:
        """The same once the other process is through with it."""
        self._on_event(turn)
        while isinstance(look := self._look(turn.job), Busy):
            time.sleep(_POLL)
        return look

    def _look(self, job: Job) -> Look:
        return self._desk.look(job, self._models.spec)

    def _following(self) -> Job | None:
        return self._queue.following() if self._overlap else None

    def _go_on(self, look: Drawable | Settled, turn: Begun) -> Iterator[Outcome]:
        """Draw a picture that can be drawn, and hand it on to be written."""
        if isinstance(look, Settled):
            yield from self._writing.settled()
            yield self._told(look.outcome)
            return
        # Loading is no picture's fault, so it is not tried as part of one.
        self._models.of(self._settings)
        self._reading.start(self._following())
        draw = partial(memory.draw, look, self._models, alone=turn.alone, spread=self._spread)
        draw = partial(draw, keep=True)
        beside = InThread(self._finishing) if self._overlap else in_turn
        drawn = attempt(partial(draw, on_step=self._on_step, beside=beside))
        yield from self._writing.settled()
        if isinstance(drawn, Exception):
            yield self._told(self._desk.failed(look.job, drawn))
            return
        again = partial(draw, on_step=_silent)
        self._writing.start(partial(self._made, look, drawn, again))
        del look, drawn, draw, again
        if self._following() is None:  # nothing is to be drawn meanwhile
            yield from self._writing.settled()

    def _made(self, look: Drawable, drawn: Finishable, draw: Draw) -> Outcome | Later:
        """Finish and write a picture; drawn once more, in its turn, where memory did not suffice
        to finish it beside another."""
        made = attempt(drawn.finish)
        if isinstance(made, Exception) and is_out_of_memory(made):
            return partial(self._made_in_turn, look, draw)
        return self._written(look, made)

    def _made_in_turn(self, look: Drawable, draw: Draw) -> Outcome:
        return self._written(look, attempt(lambda: draw().finish()))

    def _written(self, look: Drawable, made: Made | Exception) -> Outcome:
        if isinstance(made, Exception):
            return self._desk.failed(look.job, made)
        return self._desk.write(look, made)

    def _on_step(self, step: Step) -> None:
        self._writing.look()
        self._reading.start(self._following())  # which may have become known just now
        self._on_event(step)

    def _told(self, outcome: Outcome) -> Outcome:
        self._on_event(Finished(outcome))
        return outcome

    def close(self) -> None:
        """Let the picture being written be finished, drop the others, and give back all locks."""
        if self._spread is not None:
            self._spread.close()
        self._reading.close()
        self._finishing.shutdown(wait=True)
        self._writing.close()
        self._desk.close()


def _silent(step: Step) -> None:
    """Of a picture that is drawn once more nothing is told."""


def _one_thread(name: str) -> ThreadPoolExecutor:
    """A thread that is there before it has anything to do: an executor does not wait in the end
    for one that an interruption found just being started."""
    executor = ThreadPoolExecutor(1, name)
    executor.submit(bool)
    return executor


class ReadAhead:
    """Reads a picture while the one before it is drawn."""

    def __init__(self, look: Callable[[Job], Look]) -> None:
        """Args:
        look: reads a picture.
        """
        self._look = look
        self._thread = _one_thread("tileup-read")
        self._ahead: tuple[Job, Future[Look]] | None = None

    def start(self, job: Job | None) -> None:
        """Read a picture ahead, unless that is being done."""
        # Standard input is not read ahead: what is to be drawn first may come from there too.
        if job is not None and job.input is not None and self._ahead is None:
            self._ahead = (job, self._thread.submit(self._look, job))

    def result(self, job: Job) -> Look:
        """What was read ahead, or else is read now."""
        if self._ahead is not None and self._ahead[0] is job:
            future, self._ahead = self._ahead[1], None
            if not _lacked_memory(look := future.result()):
                return look
            # There was no room beside another picture; there may be now.
        return self._look(job)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


def _lacked_memory(look: Look) -> bool:
    return isinstance(look, Settled) and isinstance(look.outcome.error, OutOfMemoryError)


class WriteBehind:
    """Finishes and writes a picture while the one after it is drawn."""

    def __init__(self, on_event: OnEvent) -> None:
        """Args:
        on_event: told of each outcome, once, in the caller's thread.
        """
        self._on_event = on_event
        self._thread = _one_thread("tileup-write")
        self._at: Future[Outcome | Later] | None = None
        self._told = False

    def start(self, write: Callable[[], Outcome | Later]) -> None:
        """Write a picture; the one before it is settled."""
        self._at, self._told = self._thread.submit(write), False

    def look(self) -> None:
        """Tell the outcome where it is known by now."""
        if self._at is not None and self._at.done():
            outcome = self._at.result()
            if isinstance(outcome, Outcome):
                self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if not self._told:
            self._told = True
            self._on_event(Finished(outcome))

    def settled(self) -> Iterator[Outcome]:
        """The outcome of the picture being written, once it is known and told."""
        if self._at is not None:
            outcome = self._at.result()
            if not isinstance(outcome, Outcome):
                outcome = outcome()
            self._tell(outcome)
            self._at = None
            yield outcome

    def close(self) -> None:
        """Wait for what is being written, and tell its outcome."""
        self._thread.shutdown(wait=True)
        self.look()
