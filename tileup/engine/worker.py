"""The worker's side of a run with several: it draws what it is given, and tells what becomes of it.

It takes no locks and writes no journal. A picture that it has written takes its name when the run
has answered that it is on record.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tileup.contracts import Model, ModelSpec
from tileup.engine import file_to_file
from tileup.engine.desk import Look, Settled, attempt
from tileup.engine.failures import as_tileup_error
from tileup.engine.file_to_file import Drawable, Made, settings_of
from tileup.engine.journal import Record
from tileup.engine.messages import (
    Broken,
    Done,
    FromWorker,
    Loaded,
    LogLine,
    PictureWritten,
    Recorded,
    ToWorker,
    WorkerEvent,
)
from tileup.engine.models import Load
from tileup.engine.outcomes import Begun, ByWorker, Event, Finished, Outcome
from tileup.engine.pipeline import Pipeline
from tileup.engine.request import Job
from tileup.engine.spread import Spread
from tileup.settings.values import Settings

log = logging.getLogger(__name__)

Tell = Callable[[FromWorker], None]
"""Tells the run something; called by any thread."""


class Inbox:
    """What a worker was given, until it takes it up. Threads share it."""

    def __init__(self) -> None:
        self._turns: deque[Begun] = deque()
        self._answers: dict[Path, Recorded] = {}
        self._stopped = False
        self._changed = threading.Condition()

    def put(self, message: ToWorker) -> None:
        """Something came from the run."""
        with self._changed:
            if isinstance(message, Begun):
                self._turns.append(message)
            elif isinstance(message, Recorded):
                self._answers[message.output] = message
            else:
                self._stopped = True
            self._changed.notify_all()

    def take(self) -> Begun | None:
        """The next picture, once there is one; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._turns or self._stopped)
            return None if self._stopped else self._turns.popleft()

    def following(self) -> Job | None:
        """The next picture, where it is there already."""
        with self._changed:
            return self._turns[0].job if self._turns and not self._stopped else None

    def answer(self, output: Path) -> Recorded:
        """Whether a picture is on record, once that is known."""
        with self._changed:
            self._changed.wait_for(lambda: output in self._answers)
            return self._answers.pop(output)


@dataclass(frozen=True, slots=True)
class _RemoteLedger:
    """A journal that lies with the run: what is appended to it is told, and an answer awaited."""

    folder: Path
    output: Path
    inbox: Inbox
    tell: Tell

    def append(self, record: Record) -> None:
        """Add a record, on the disk when this returns.

        Raises:
            TileupError: it cannot be written.
        """
        self.tell(PictureWritten(self.output, record))
        error = self.inbox.answer(self.output).error
        if error is not None:
            raise error


class Bench:
    """Where a worker takes pictures up and puts them down."""

    def __init__(self, settings: Settings, inbox: Inbox, tell: Tell) -> None:
        """Args:
        settings: of all pictures.
        inbox: where answers come.
        tell: tells the run what was made.
        """
        self._settings = settings
        self._inbox = inbox
        self._tell = tell
        self._writing = threading.Lock()

    def look(self, job: Job, spec: ModelSpec | None) -> Look:
        """Read a picture; its lock is the run's."""
        found = attempt(partial(self._read, job, spec))
        return Settled(self.failed(job, found)) if isinstance(found, Exception) else found

    def _read(self, job: Job, spec: ModelSpec | None) -> Drawable:
        assert job.input is not None  # of several pictures none is standard input
        return file_to_file.read(job, settings_of(job, self._settings), job.input, spec)

    def write(self, opened: Drawable, made: Made) -> Outcome:
        """Write a picture, and tell the run that it is there."""
        with self._writing:
            outcome = attempt(partial(file_to_file.write, opened, made, self._ledger(opened.job)))
            if isinstance(outcome, Exception):
                return self.failed(opened.job, outcome)
            self._tell(Done(outcome))
            return outcome

    def _ledger(self, job: Job) -> _RemoteLedger | None:
        if job.home is None or job.output is None:
            return None
        return _RemoteLedger(job.home, job.output, self._inbox, self._tell)

    def failed(self, job: Job, error: Exception) -> Outcome:
        """A picture that failed; the run puts it on record."""
        return file_to_file.failed(job, error, None)

    def close(self) -> None:
        """Nothing is held here."""

    def finish(self) -> None:
        """Wait for what is being written; nothing is written after that."""
        self._writing.acquire()


def work(
    bench: Bench,
    inbox: Inbox,
    tell: Tell,
    settings: Settings,
    load: Load,
    overlap: bool,
    spread: Spread | None = None,
) -> None:
    """Draw what is given until there will be nothing more.

    Args:
        bench: of this worker.
        inbox: what it is given.
        tell: tells the run what happens.
        settings: of all pictures.
        load: loads the model.
        overlap: whether reading and writing go on beside drawing.
        spread: who helps to draw each picture; None: nobody.
    """
    loading, event = partial(_loaded, load, tell), partial(_event, tell)
    pipeline = Pipeline(settings, loading, event, bench, overlap, spread)
    try:
        for _ in pipeline.outcomes(inbox):
            pass
    except Exception as error:  # No picture's fault, so it ends the run.
        log.debug("a worker broke", exc_info=error)
        tell(Broken(as_tileup_error(error)))
    finally:
        pipeline.close()


def _loaded(load: Load, tell: Tell, settings: Settings) -> Model:
    model = load(settings)
    tell(Loaded())
    return model


def _event(tell: Tell, event: Event) -> None:
    if not isinstance(event, Finished):
        assert not isinstance(event, ByWorker)
        tell(WorkerEvent(event))
    elif event.outcome.outcome == "failed":  # what was written is told by the bench
        tell(Done(event.outcome))


class Forwarding(logging.Handler):
    """Sends what a worker logs to the run."""

    def __init__(self, tell: Tell, level: int) -> None:
        super().__init__(level)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{''.join(traceback.format_exception(*record.exc_info)).rstrip()}"
        self._tell(LogLine(record.name, record.levelno, text))


def forward_words(tell: Tell, level: int) -> None:
    """Send what is logged from this level on to the run, in this process, from now on."""
    root = logging.getLogger("tileup")
    root.addHandler(Forwarding(tell, level))
    root.setLevel(level)
    root.propagate = False
    if not sys.warnoptions:  # as where pictures are drawn without workers
        warnings.simplefilter("ignore")
