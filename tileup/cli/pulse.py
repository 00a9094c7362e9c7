"""A line now and then, where standard error is no terminal: that a run is alive, and how far."""

from __future__ import annotations

import logging
import threading

from tileup.cli.console import NOTICE
from tileup.cli.watch import Watch
from tileup.engine.outcomes import Event

log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between lines."""


class Pulse:
    """Tells how far a run is, every so many seconds, whatever it is doing."""

    def __init__(self, watch: Watch, every: float = EVERY) -> None:
        """Args:
        watch: what is told.
        every: seconds between lines.
        """
        self._watch = watch
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="tileup-pulse", daemon=True)

    def start(self) -> None:
        """The first line comes after the first interval: a short run says nothing."""
        self._thread.start()

    def stop(self) -> None:
        """No line comes after this."""
        self._over.set()
        self._thread.join()

    def event(self, event: Event) -> None:
        """The watch has been told already."""

    def _beat(self) -> None:
        while not self._over.wait(self._every):
            if line := told(self._watch):
                log.log(NOTICE, "%s", line)


def told(watch: Watch) -> str:
    """One line: pictures, windows and the time that is left, as far as they are known."""
    pictures = f"{watch.finished}/{watch.total} pictures" if watch.total > 1 else ""
    parts = (pictures, watch.picture, watch.windows, watch.left)
    return ", ".join(part for part in parts if part)
