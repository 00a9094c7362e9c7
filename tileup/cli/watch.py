"""Where a run is, and how long it still takes: told by events, read by whoever shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tileup.cli.console import printable
from tileup.cli.timeleft import TimeLeft, in_words
from tileup.contracts import Step
from tileup.engine.outcomes import Begun, ByWorker, Event, Finished, Loading
from tileup.engine.outputs import output_pixels
from tileup.engine.request import Job
from tileup.settings.values import Settings
from tileup.storage.remote import Remote


@dataclass(frozen=True, slots=True)
class _AtWork:
    """What one worker does."""

    picture: str = ""
    """Which picture it is at, with its number where there are several."""
    loading: bool = False
    """Whether the model is being loaded for it."""
    step: Step | None = None
    """How far the picture is."""


class Watch:
    """What is known of a run at any time."""

    def __init__(
        self,
        jobs: Sequence[Job],
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        jobs: of the run.
        settings: from which the sizes of outputs follow.
        clock: seconds from any start.
        """
        self.total = len(jobs)
        """Pictures of the run."""
        self.finished = 0
        """How many of them are."""
        self.worker = 0
        """Which worker was told of last; 0 where there is one."""
        self._at_work: dict[int, _AtWork] = {}
        self.ahead = Ahead(jobs, settings) if len(jobs) > 1 else None
        self._left = TimeLeft(clock)
        if self.ahead is not None:
            self._left.wait_for_sizes()

    def start(self) -> None:
        """The run begins."""
        if self.ahead is not None:
            self.ahead.start()

    def stop(self) -> None:
        """The run is over."""
        if self.ahead is not None:
            self.ahead.stop()

    def event(self, event: Event) -> None:
        """Told by the engine."""
        if isinstance(event, ByWorker):
            self.worker = event.worker
            self.event(event.event)
        elif isinstance(event, Loading):
            self._at_work[self.worker] = replace(self._now, loading=True)
        elif isinstance(event, Begun):
            count = f" ({event.number}/{event.total})" if event.total > 1 else ""
            self._at_work[self.worker] = _AtWork(printable(event.job.shown_input) + count)
            self._left.begin(event.number, self.worker)
        elif isinstance(event, Finished):
            self.finished += 1
        else:
            self._at_work[self.worker] = replace(self._now, loading=False, step=event)
            if self.ahead is not None and (sizes := self.ahead.taken()) is not None:
                self._left.expect(sizes)
            self._left.step(event.calls, event.total_calls, self.worker, event.known)

    @property
    def _now(self) -> _AtWork:
        return self._at_work.get(self.worker, _AtWork())

    @property
    def picture(self) -> str:
        """What is at work: a picture, with its number where there are several, or the model that
        is loaded; empty before anything is. Of several workers, the one that was told of last."""
        return "loading the model" if self._now.loading else self._now.picture

    @property
    def step(self) -> Step | None:
        """How far that picture is; None before its first window."""
        return self._now.step

    @property
    def windows(self) -> str:
        """How far the picture is, in words; empty before its first window."""
        return "" if self.step is None else f"window {self.step.calls}/{self.step.total_calls}"

    @property
    def left(self) -> str:
        """How long the run still takes, in words; empty while that is not known."""
        return in_words(self._left.seconds())


class Ahead:
    """Reads the headers of all pictures of a run in a thread, so that nothing waits for it."""

    def __init__(self, jobs: Sequence[Job], settings: Settings) -> None:
        self._jobs = jobs
        self._settings = settings
        self._sizes: dict[int, float] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._read, name="tileup-sizes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True

    def taken(self) -> dict[int, float] | None:
        """Output pixels of each picture to be made, by its number; once, when all are known."""
        sizes, self._sizes = self._sizes, None
        return sizes

    def _read(self) -> None:
        sizes: dict[int, float] = {}
        for number, job in enumerate(self._jobs, 1):
            if self._stopped:
                return
            pixels = None if job.finished else self._pixels_of(job)
            if pixels is not None:
                sizes[number] = float(pixels)
        self._sizes = sizes

    def _pixels_of(self, job: Job) -> int | None:
        """Output pixels; of inputs in a store, which are not fetched for this, the same for all."""
        if isinstance(job.input, Remote):
            return _USUAL
        return output_pixels(job, self._settings)


_USUAL = 4_000_000
"""Output pixels of a picture whose size is not known."""
