"""Pictures one after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tileup.engine.line import InOrder, Line
from tileup.engine.models import Load
from tileup.engine.outcomes import OnEvent, Outcome
from tileup.engine.values import Job
from tileup.settings.values import Settings


def run(
    jobs: Sequence[Job],
    settings: Settings,
    load: Load,
    on_event: OnEvent = lambda event: None,
    *,
    fail_fast: bool = False,
    overlap: bool = True,
) -> Iterator[Outcome]:
    """Make pictures; yields what became of each, in order.

    An outcome is told as an event as soon as it is known, which may be while the next picture
    is drawn, and yielded after that.

    Args:
        jobs: from `find_jobs`.
        settings: of all of them; each job has its own seed.
        load: loads the model.
        on_event: told what happens, always in the caller's thread; it may raise to stop the run.
        fail_fast: whether the first picture that fails ends the run.
        overlap: whether reading and writing go on beside drawing.

    Raises:
        ModelError: the model cannot be loaded. A picture that fails raises nothing.
    """
    line = Line(settings, load, on_event, overlap and not fail_fast)
    try:
        for outcome in line.outcomes(InOrder(jobs)):
            yield outcome
            if fail_fast and outcome.is_new_failure:
                return
    finally:
        line.close()
