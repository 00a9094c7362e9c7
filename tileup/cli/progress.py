"""What the user sees while pictures are being made, and one line for each when it is."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tileup.cli.console import NOTICE, is_terminal, printable
from tileup.cli.timeleft import TimeLeft, in_words
from tileup.contracts import Step
from tileup.engine.outcomes import Begun, Event, Finished, Loading, Outcome
from tileup.engine.outputs import output_pixels
from tileup.engine.standard_output import say
from tileup.engine.values import Job
from tileup.settings.values import Settings

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

log = logging.getLogger(__name__)

_NAME_WIDTH = 60
"""Longer names push their line of the table to the right."""


class Reporter:
    """Tells the user about a run."""

    def __init__(
        self, jobs: Sequence[Job], settings: Settings, json_lines: bool, bar: bool
    ) -> None:
        """Args:
        jobs: of the run.
        settings: of all of them.
        json_lines: print each outcome as a line of JSON.
        bar: show progress, where someone is looking.
        """
        self._total = len(jobs)
        self._json_lines = json_lines
        self._bar = Bar(jobs, settings) if bar and is_terminal() else None
        self._warned: set[str] = set()

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def event(self, event: Event) -> None:
        """Told by the engine."""
        if isinstance(event, Finished):
            self._finished(event.outcome)
        if isinstance(event, Loading):
            log.info("loading the model")
        elif isinstance(event, Begun):
            log.info("%s -> %s", event.job.shown_input, event.job.shown_output)
        if self._bar:
            self._bar.event(event)

    def _finished(self, outcome: Outcome) -> None:
        """Report one outcome."""
        for warning in outcome.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                log.warning("%s", warning)
        if outcome.error is not None:
            log.error("%s", self._named(outcome.job, str(outcome.error)))
        else:
            log.log(NOTICE, "%s", _line(outcome))
        if self._json_lines:
            say(json.dumps(outcome.to_dict()))

    def close_with(self, outcomes: Sequence[Outcome]) -> None:
        """Say how a batch went: counts, and a table of what failed and why."""
        if self._total == 1:
            return
        counts = Counter(each.outcome for each in outcomes)
        parts = [f"{counts[word]} {word}" for word in ("done", "skipped", "failed") if counts[word]]
        if len(outcomes) < self._total:
            parts.append(f"{self._total - len(outcomes)} not tried")
        failed = [each for each in outcomes if each.error is not None]
        if failed:
            width = max(len(printable(each.job.shown_input)) for each in failed)
            log.log(NOTICE, "failed:")
            for each in failed:
                name = printable(each.job.shown_input).ljust(min(width, _NAME_WIDTH))
                log.log(NOTICE, "  %s  %s", name, _reason(each))
        log.log(NOTICE, "%s", ", ".join(parts))

    def _named(self, job: Job, message: str) -> str:
        """A message that says which picture it is about, where there are several."""
        if self._total == 1 or job.shown_input in message:
            return message
        return f"{job.shown_input}: {message}"


def _reason(outcome: Outcome) -> str:
    """Why a picture failed, in one line that does not begin with its name once more."""
    text = " ".join(str(outcome.error).split())
    return text.removeprefix(outcome.job.shown_input).lstrip(" :")


def _line(outcome: Outcome) -> str:
    """One finished picture: path, size, time, and what was saved."""
    if outcome.outcome == "skipped":
        job = outcome.job
        name = job.shown_input if job.decided else job.shown_output
        return f"{name}  {job.standing.value}, skipped"
    parts = [outcome.job.shown_output]
    if outcome.size is not None:
        parts.append(f"{outcome.size[0]}x{outcome.size[1]}")
    parts.append(f"{outcome.seconds:.1f} s")
    if outcome.cost is not None and outcome.cost.saving > 0:
        parts.append(f"saved {outcome.cost.saving:.0%} against uniform")
    return "  ".join(parts)


class Bar:
    """Progress bars on standard error: of the pictures, where there are several, and of the
    picture at work; with the time that is left."""

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
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._left = TimeLeft(clock)
        self._ahead = _Ahead(jobs, settings) if len(jobs) > 1 else None
        self._all: TaskID | None = None
        if self._ahead is not None:
            self._left.wait_for_sizes()
            self._all = self._progress.add_task("pictures", note="", total=len(jobs))
        self._task: TaskID = self._progress.add_task("", note="", total=None)
        self._picture = ""

    def start(self) -> None:
        self._progress.start()
        if self._ahead is not None:
            self._ahead.start()

    def stop(self) -> None:
        self._progress.stop()
        if self._ahead is not None:
            self._ahead.stop()

    def event(self, event: Event) -> None:
        """Show what is going on."""
        if isinstance(event, Loading):
            self._progress.update(self._task, description="loading the model")
        elif isinstance(event, Begun):
            count = f" ({event.number}/{event.total})" if event.total > 1 else ""
            self._picture = printable(event.job.shown_input) + count
            self._left.begin(event.number)
            self._progress.reset(self._task, total=None, description=self._picture, note="")
        elif isinstance(event, Finished):
            if self._all is not None:
                self._progress.advance(self._all)
        else:
            self._step(event)

    def _step(self, step: Step) -> None:
        if self._ahead is not None and (sizes := self._ahead.taken()) is not None:
            self._left.expect(sizes)
        self._left.step(step.calls, step.total_calls)
        left = in_words(self._left.seconds())
        windows = f"window {step.calls}/{step.total_calls}"
        if self._all is not None:
            self._progress.update(self._all, note=left)
        elif left:
            windows = f"{windows}  {left}"
        self._progress.update(
            self._task,
            description=f"{self._picture}  phase {step.phase}/{step.phases}",
            note=windows,
            total=step.total_calls,
            completed=step.calls,
        )


class _Ahead:
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
            pixels = None if job.finished else output_pixels(job, self._settings)
            if pixels is not None:
                sizes[number] = float(pixels)
        self._sizes = sizes
