"""What an engine is: jobs in, outcomes out. And the table of engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from tileup.errors import UsageError
from tileup.settings.values import did_you_mean

if TYPE_CHECKING:  # help lists the engines, and answers at once
    from tileup.engine.models import Load
    from tileup.engine.outcomes import OnEvent, Outcome
    from tileup.engine.request import Job
    from tileup.settings.values import Settings


@dataclass(frozen=True, slots=True)
class Team:
    """Who draws, as it was asked for.

    Raises:
        UsageError: a number cannot be right.
    """

    workers: int | None = None
    """How many pictures are drawn at once, 1 or more; None: as many as the engine finds right."""

    address: str | None = None
    """Of a cluster, `HOST:PORT` or `auto`; None: this machine."""
    gpus_per_worker: float | None = None
    """GPUs of a cluster for each worker, more than 0: half of one for two workers on each; None:
    one, where there are any."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers must be at least 1, got {self.workers}")
        share = self.gpus_per_worker
        if share is not None and not (0 < share < 1 or (share >= 1 and share == int(share))):
            raise UsageError(f"gpus-per-worker must be a part of 1, or whole, got {share:g}")


class Engine(Protocol):
    """Makes pictures, wherever it does so. It never changes a byte of them.

    Jobs, settings, teams, events and outcomes are values that survive `pickle`; models, locks and
    journals stay where the work is done.
    """

    def __call__(
        self,
        jobs: Sequence[Job],
        settings: Settings,
        load: Load,
        on_event: OnEvent,
        *,
        team: Team = ...,
        fail_fast: bool = False,
    ) -> Iterator[Outcome]:
        """One outcome for each job, in order.

        An outcome is told as an event as soon as it is known, and yielded once those before it
        are known too.

        Args:
            jobs: from `find_jobs`.
            settings: of all of them; each job has its own seed.
            load: loads the model. It survives `pickle` where there is more than one worker.
            on_event: told what happens, always in the caller's thread; it may raise to stop the
                run.
            team: who draws.
            fail_fast: whether the first picture that fails ends the run.

        Raises:
            ModelError: the model cannot be loaded. A picture that fails raises nothing.
        """
        ...


ENGINES = {
    "local": "tileup.engine.local",
    "ray": "tileup.engine.on_ray",
}
"""Where each engine lives: a module whose `run` is one. It is imported when it is asked for."""


def engine_named(name: str) -> Engine:
    """The engine of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in ENGINES:
        raise UsageError(f"engine {name!r} is not known{did_you_mean(name, [*ENGINES])}")
    return import_module(ENGINES[name]).run  # pyright: ignore[reportAny]
