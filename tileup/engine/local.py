"""Pictures one after the other, in this process: one model, one outcome for each.

While one picture is drawn, the next is read and enlarged and the last is encoded and written, in
a thread each. There is never more than one picture in each of the three places.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import TypeVar

from tileup.contracts import Step
from tileup.engine import memory
from tileup.engine import picture as making
from tileup.engine.checks import check_absent
from tileup.engine.locks import OutputLock
from tileup.engine.models import Load, Models
from tileup.engine.outcomes import Begun, Finished, Loading, OnEvent, Outcome
from tileup.engine.picture import Drawn, Read, settings_of
from tileup.engine.resume import failure_of, with_standing
from tileup.engine.values import Job, Standing
from tileup.errors import OutOfMemoryError, OutputError
from tileup.settings.values import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")
_POLL = 0.1
"""Seconds between looks at a lock that another process has."""


def run(
    jobs: Sequence[Job],
    settings: Settings,
    load: Load,
    on_event: OnEvent = lambda event: None,
    *,
    fail_fast: bool = False,
    overlap: bool = True,
) -> Iterator[Outcome]:
    """Make pictures; yields what became of each, in order.

    An outcome is told as an event as soon as it is known, which may be while the next picture
    is drawn, and yielded after that.

    Args:
        jobs: from `find_jobs`.
        settings: of all of them; each job has its own seed.
        load: loads the model.
        on_event: told what happens, always in the caller's thread; it may raise to stop the run.
        fail_fast: whether the first picture that fails ends the run.
        overlap: whether reading and writing go on beside drawing.

    Raises:
        ModelError: the model cannot be loaded. A picture that fails raises nothing.
    """
    line = _Line(settings, load, on_event, overlap and not fail_fast)
    try:
        for outcome in line.outcomes(jobs):
            yield outcome
            if fail_fast and outcome.outcome == "failed" and not outcome.job.past_error:
                return
    finally:
        line.close()


class _Line:
    """The pictures of a run that are being read, drawn and written."""

    def __init__(self, settings: Settings, load: Load, on_event: OnEvent, overlap: bool) -> None:
        self.settings = settings
        self.models = Models(load, lambda: on_event(Loading()))
        self.on_event = on_event
        self.overlap = overlap
        self.reader = ThreadPoolExecutor(1, "tileup-read")
        self.writer = ThreadPoolExecutor(1, "tileup-write")
        self.reading: tuple[Job, Future[Read | Outcome | None]] | None = None
        self.writing: Future[Outcome] | None = None
        self.told: Outcome | None = None
        self.locks: set[OutputLock] = set()

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """All outcomes, in order; jobs that another process is at come last."""
        busy: list[tuple[int, Job]] = []
        for number, job in enumerate(jobs, 1):
            if job.finished:
                yield from self.settled()
                yield self.tell(_known(job))
                continue
            self.on_event(Begun(job, number, len(jobs)))
            given = self.read_now(job)
            following = next((each for each in jobs[number:] if not each.finished), None)
            if given is None:  # another process is at it
                busy.append((number, job))
                continue
            yield from self.go_on(given, following)
        yield from self.settled()
        for number, job in busy:
            self.on_event(Begun(job, number, len(jobs)))
            while (given := self.read_now(job)) is None:
                time.sleep(_POLL)
            yield from self.go_on(given, None)
            yield from self.settled()

    def go_on(self, given: Read | Outcome, following: Job | None) -> Iterator[Outcome]:
        """Draw a picture that was read, and hand it to the writer."""
        if isinstance(given, Outcome):
            yield from self.settled()
            yield self.tell(given)
            return
        # Loading is no picture's fault, so it is not tried as part of one.
        self.models.of(self.settings)
        if following is not None and self.overlap:
            self.start_reading(following)
        drawn = _attempt(partial(memory.draw, given, self.models, self.on_step))
        if isinstance(drawn, Exception):
            yield from self.settled()
            yield self.tell(self.dropped(given.job, given.lock, drawn))
            return
        yield from self.settled()
        self.writing = self.writer.submit(self.write, given, drawn)
        del given, drawn
        if not self.overlap:
            yield from self.settled()

    def on_step(self, step: Step) -> None:
        """Told while a picture is drawn: the one before it may have been written meanwhile."""
        if self.writing is not None and self.writing.done() and self.told is None:
            self.told = self.tell(self.writing.result())
        self.on_event(step)

    def settled(self) -> Iterator[Outcome]:
        """The outcome of the picture being written, once it is known."""
        if self.writing is not None:
            outcome = self.writing.result()
            known, self.writing, self.told = self.told, None, None
            yield known or self.tell(outcome)

    def tell(self, outcome: Outcome) -> Outcome:
        self.on_event(Finished(outcome))
        return outcome

    # --- reading ------------------------------------------------------------------------

    def start_reading(self, job: Job) -> None:
        """Read a picture ahead, unless that is being done."""
        if job.input is not None and self.reading is None:
            self.reading = (job, self.reader.submit(self.read, job))

    def read_now(self, job: Job) -> Read | Outcome | None:
        """What was read ahead, or else is read now; None while another process is at it."""
        if self.reading is not None and self.reading[0] is job:
            future, self.reading = self.reading[1], None
            given = future.result()
            ahead = isinstance(given, Outcome) and isinstance(given.error, OutOfMemoryError)
            if not ahead:
                return given
            # There was no room beside another picture; there may be now.
        return self.read(job)

    def read(self, job: Job) -> Read | Outcome | None:
        """Lock the output, look once more whether it is done, and read the input."""
        lock = None if job.output is None else OutputLock(job.output)
        given = _attempt(partial(self.read_locked, job, lock))
        return self.dropped(job, lock, given) if isinstance(given, Exception) else given

    def read_locked(self, job: Job, lock: OutputLock | None) -> Read | Outcome | None:
        if lock is not None:
            if not lock.acquire():
                return self.is_busy(job)
            self.locks.add(lock)
            job = with_standing(job)
            if job.finished:
                self.release(lock)
                return _known(job)
            if job.home is None and not job.overwrite:
                check_absent(job.targets)
        source = job.input or BytesIO(sys.stdin.buffer.read())
        return making.read(job, settings_of(job, self.settings), source, lock, self.models.spec)

    def is_busy(self, job: Job) -> Outcome | None:
        """A picture of a batch is put off; one alone has nothing to wait for."""
        if job.home is not None:
            return None
        error = OutputError(f"{job.shown_output} is being made by another tileup process")
        return Outcome(job, "failed", error=error)

    # --- writing ------------------------------------------------------------------------

    def write(self, given: Read, drawn: Drawn) -> Outcome:
        outcome = _attempt(partial(making.write, given, drawn))
        if isinstance(outcome, Exception):
            return self.dropped(given.job, given.lock, outcome)
        self.release(given.lock)
        return outcome

    def dropped(self, job: Job, lock: OutputLock | None, error: Exception) -> Outcome:
        """A picture that failed: its lock is given back when the failure is on record."""
        outcome = making.failed(job, error)
        self.release(lock)
        return outcome

    def release(self, lock: OutputLock | None) -> None:
        if lock is not None:
            lock.release()
            self.locks.discard(lock)

    def close(self) -> None:
        """Let the picture being written be finished, drop the others, and give back all locks."""
        self.reader.shutdown(wait=True, cancel_futures=True)
        self.writer.shutdown(wait=True)
        if self.writing is not None and self.told is None:
            self.told = self.tell(self.writing.result())
        held = list(self.locks)
        for lock in held:
            lock.release()
        for lock in held:  # the first was not alone in a folder made for it
            lock.remove_folders()


def _attempt(work: Callable[[], T]) -> T | Exception:
    """What the work gives, or why it failed."""
    try:
        return work()
    except Exception as error:  # One bad picture must never stop the rest.
        log.debug("a picture failed", exc_info=error)
        return error


def _known(job: Job) -> Outcome:
    """The outcome of a picture that is left alone."""
    if job.standing is Standing.FAILED:
        return Outcome(job, "failed", error=failure_of(job))
    return Outcome(job, "skipped")
