"""Progress bars, for whoever looks at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tileup.cli.watch import Watch
from tileup.contracts import Step
from tileup.engine.outcomes import Begun, ByWorker, Event, Finished, Loading
from tileup.engine.standard_output import unheard

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


MOST = 12
"""Bars of pictures at work at once."""


class Bars:
    """Progress bars on standard error: of the pictures, where there are several, and of the
    pictures at work, as many as a screen holds; with the time that is left."""

    def __init__(self, watch: Watch) -> None:
        """Args:
        watch: what is shown.
        """
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._watch = watch
        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._all: TaskID | None = None
        if watch.total > 1:
            self._all = self._progress.add_task("pictures", note="", total=watch.total)
        self._tasks: dict[int, TaskID] = {}
        self._at(0)

    def _at(self, worker: int) -> TaskID:
        """The bar of a worker; those that find no room share the last."""
        worker = min(worker, MOST - 1)
        if worker not in self._tasks:
            self._tasks[worker] = self._progress.add_task("", note="", total=None)
        return self._tasks[worker]

    def start(self) -> None:
        """Appear."""
        with unheard():
            self._progress.start()

    def stop(self) -> None:
        """Leave nothing behind."""
        with unheard():
            self._progress.stop()

    def event(self, event: Event) -> None:
        """Show what the watch, which was told before, knows now."""
        with unheard():
            self._show(event)

    def _show(self, event: Event) -> None:
        if isinstance(event, ByWorker):
            self._show(event.event)
        elif isinstance(event, Loading):
            self._progress.update(self._at(self._watch.worker), description=self._watch.picture)
        elif isinstance(event, Begun):
            task, picture = self._at(self._watch.worker), self._watch.picture
            self._progress.reset(task, total=None, description=picture, note="")
        elif isinstance(event, Finished):
            if self._all is not None:
                self._progress.advance(self._all)
        else:
            self._step(event)

    def _step(self, step: Step) -> None:
        windows, left = self._watch.windows, self._watch.left
        if self._all is not None:
            self._progress.update(self._all, note=left)
        elif left:
            windows = f"{windows}  {left}"
        self._progress.update(
            self._at(self._watch.worker),
            description=f"{self._watch.picture}  phase {step.phase}/{step.phases}",
            note=windows,
            total=step.total_calls,
            completed=step.calls,
        )
