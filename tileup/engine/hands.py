"""What a run asks of those who draw for it."""

from __future__ import annotations

from typing import Protocol

from tileup.engine.messages import FromWorker, ToWorker


class Hands(Protocol):
    """Workers, wherever they are. Each has a number, from 0, that it keeps when started again."""

    @property
    def count(self) -> int:
        """How many there can be."""
        ...

    def start(self, worker: int) -> None:
        """Start a worker. It says `WorkerIdle` when it waits for pictures."""
        ...

    def give(self, worker: int, message: ToWorker) -> None:
        """Tell a worker something; one that is lost hears nothing, and that is no error."""
        ...

    def hear(self, seconds: float) -> tuple[int, FromWorker] | None:
        """The next that any worker says; None: nothing came for so long."""
        ...

    def end(self, worker: int) -> None:
        """End a worker now, whatever it is doing; it is `Lost` after that."""
        ...

    def close(self) -> None:
        """End all workers that are left."""
        ...
