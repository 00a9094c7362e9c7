"""A worker, as the run knows it that tells it what to draw."""

from __future__ import annotations

from pathlib import Path

from tileup.engine.outcomes import Begun


class Seat:
    """A worker, as the run knows it."""

    def __init__(self, there: bool = False) -> None:
        self.there = there
        """Whether it was started, and is not lost."""
        self.ready = False
        """Whether it waits for pictures, or has some."""
        self.drawn = False
        """Whether it has drawn anything since it was started."""
        self.loading = False
        """Whether it loads the model just now."""
        self.leaving = False
        """Whether it was told to stop."""
        self.held: dict[Path, Begun] = {}
        """What it was given and has not finished, by output."""
        self.begun: set[int] = set()
        """Numbers of the pictures that it has taken up."""
