"""What the user sees while pictures are being made, and one line for each when it is."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tileup.cli.bars import Bars
from tileup.cli.console import NOTICE, is_terminal, printable
from tileup.cli.pulse import Pulse
from tileup.cli.watch import Watch
from tileup.engine.outcomes import Begun, ByWorker, Event, Finished, Loading, Outcome
from tileup.engine.request import Job
from tileup.engine.standard_output import say
from tileup.settings.values import Settings

log = logging.getLogger(__name__)

_NAME_WIDTH = 60
"""Longer names push their line of the table to the right."""


class Reporter:
    """Tells the user about a run."""

    def __init__(
        self, jobs: Sequence[Job], settings: Settings, json_lines: bool, progress: bool
    ) -> None:
        """Args:
        jobs: of the run.
        settings: of all of them.
        json_lines: print each outcome as a line of JSON.
        progress: show how far it is: with bars on a terminal, else with a line now and then.
        """
        self._total = len(jobs)
        self._json_lines = json_lines
        self._watch = Watch(jobs, settings)
        self._shown: Bars | Pulse | None = None
        if progress:
            self._shown = Bars(self._watch) if is_terminal() else Pulse(self._watch)
        self._warned: set[str] = set()

    def __enter__(self) -> Self:
        if self._shown:
            self._watch.start()
            self._shown.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._shown.stop()
            self._watch.stop()

    def event(self, event: Event) -> None:
        """Told by the engine."""
        if isinstance(event, Finished):
            self._finished(event.outcome)
        happened = event.event if isinstance(event, ByWorker) else event
        if isinstance(happened, Loading):
            log.info("loading the model")
        elif isinstance(happened, Begun):
            log.info("%s -> %s", happened.job.shown_input, happened.job.shown_output)
        self._watch.event(event)
        if self._shown:
            self._shown.event(event)

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
        """A message that says which picture it is about, unless the user named that one alone."""
        if not job.batch or job.shown_input in message:
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
