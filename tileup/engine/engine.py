"""What an engine is: jobs in, outcomes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from tileup.engine.models import Load
from tileup.engine.outcomes import OnEvent, Outcome
from tileup.engine.values import Job
from tileup.settings.values import Settings


class Engine(Protocol):
    """Makes pictures, wherever it does so. It never changes a byte of them.

    Jobs, settings, events and outcomes are values that survive `pickle`; models, locks and
    journals stay where the work is done.
    """

    def __call__(
        self,
        jobs: Sequence[Job],
        settings: Settings,
        load: Load,
        on_event: OnEvent,
        *,
        fail_fast: bool = False,
    ) -> Iterator[Outcome]:
        """One outcome for each job; see `tileup.engine.local.run`."""
        ...
