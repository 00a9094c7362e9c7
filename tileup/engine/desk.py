"""Where pictures are taken up and put down: it holds the locks and the journals of a run.

What becomes of a picture at the desk has one of three types: it can be drawn (`Drawable`), nothing
is left to do (`Settled`), or another process is making it (`Busy`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TypeVar

from tileup.contracts import ModelSpec
from tileup.engine import file_to_file
from tileup.engine.failures import as_tileup_error
from tileup.engine.file_to_file import Drawable, Made, settings_of
from tileup.engine.journal import Record
from tileup.engine.journals import Journals
from tileup.engine.locks import Locks
from tileup.engine.outcomes import Outcome
from tileup.engine.output_checks import check_absent
from tileup.engine.request import Job
from tileup.engine.resume import with_standing
from tileup.errors import OutputError, TileupError
from tileup.settings.values import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing is left to do: the picture was made before, or it failed."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Busy:
    """Another process is making the picture; it may be asked for again later."""


Look = Drawable | Settled | Busy
"""What became of a picture that was looked at."""


class Desk:
    """Holds the locks and journals of a run. Its methods may be called by any thread."""

    def __init__(self, settings: Settings) -> None:
        """Args:
        settings: of all pictures.
        """
        self._settings = settings
        self._journals = Journals()
        self._locks = Locks()

    def look(self, job: Job, spec: ModelSpec | None) -> Look:
        """Take a picture up, and read the input.

        Args:
            job: a picture that was not finished when it was found.
            spec: of the model; the picture is planned where it is known already.
        """
        taken = self.take(job)
        if not isinstance(taken, Job):
            return taken
        found = attempt(partial(self._read, taken, spec))
        return Settled(self.failed(job, found)) if isinstance(found, Exception) else found

    def _read(self, job: Job, spec: ModelSpec | None) -> Drawable:
        source = job.input or BytesIO(sys.stdin.buffer.read())
        return file_to_file.read(job, settings_of(job, self._settings), source, spec)

    def take(self, job: Job) -> Job | Settled | Busy:
        """Lock the output, and look once more whether it is done; the job as it stands now."""
        taken = attempt(partial(self._take, job))
        return Settled(self.failed(job, taken)) if isinstance(taken, Exception) else taken

    def _take(self, job: Job) -> Job | Settled | Busy:
        if not self._locks.take(job.output):
            return _busy(job)
        job = with_standing(job, self._journals)
        if job.finished:
            self._locks.give_back(job.output)
            return Settled(known(job))
        if not job.batch and not job.overwrite:
            check_absent(job.targets)
        return job

    def write(self, opened: Drawable, made: Made) -> Outcome:
        """Write a picture, and give its lock back."""
        job = opened.job
        outcome = attempt(partial(file_to_file.write, opened, made, self._journals.of(job)))
        if isinstance(outcome, Exception):
            return self.failed(job, outcome)
        self._locks.give_back(job.output)
        return outcome

    def record(self, job: Job, record: Record) -> TileupError | None:
        """Put a picture on record that another process has written; why that failed, if it did."""
        journal = self._journals.of(job)
        error = None if journal is None else attempt(partial(journal.append, record))
        return None if error is None else as_tileup_error(error)

    def done(self, job: Job) -> None:
        """Give the lock of a picture back that another process has written."""
        self._locks.give_back(job.output)

    def failed(self, job: Job, error: Exception) -> Outcome:
        """A picture that failed: its lock is given back when the failure is on record."""
        outcome = file_to_file.failed(job, error, self._journals.of(job))
        self._locks.give_back(job.output)
        return outcome

    def close(self) -> None:
        """Give back all locks."""
        self._locks.close()


def attempt(work: Callable[[], T]) -> T | Exception:
    """What the work gives, or why it failed."""
    try:
        return work()
    except Exception as error:  # One bad picture must never stop the rest.
        log.debug("a picture failed", exc_info=error)
        return error


def known(job: Job) -> Outcome:
    """The outcome of a picture that is left alone."""
    if job.refusal is not None:
        return Outcome(job, "failed", error=job.refusal)
    return Outcome(job, "skipped")


def _busy(job: Job) -> Settled | Busy:
    """A picture of a batch is put off; one alone has nothing to wait for."""
    if job.batch:
        return Busy()
    error = OutputError(f"{job.shown_output} is being made by another tileup process")
    return Settled(Outcome(job, "failed", error=error))
