"""Pictures on this machine: one after the other in this process, or shared out among several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tileup.engine.assistants import spread_here
from tileup.engine.crew import share_out
from tileup.engine.desk import Desk
from tileup.engine.engine import Team
from tileup.engine.models import Load
from tileup.engine.outcomes import OnEvent, Outcome
from tileup.engine.pipeline import InOrder, Pipeline
from tileup.engine.processes import Processes
from tileup.engine.request import Job
from tileup.engine.spread import is_spread
from tileup.errors import UsageError
from tileup.settings.values import Settings


def run(
    jobs: Sequence[Job],
    settings: Settings,
    load: Load,
    on_event: OnEvent = lambda event: None,
    *,
    team: Team = Team(),  # noqa: B008  A frozen value.
    fail_fast: bool = False,
    overlap: bool = True,
) -> Iterator[Outcome]:
    """Make pictures; arguments and errors as `tileup.engine.engine.Engine`.

    Where there are fewer pictures than workers, and not several small ones, they are drawn one
    after the other, and the workers share the windows of each as soon as that pays.

    Args:
        overlap: whether reading and writing go on beside drawing.
    """
    if team.address is not None or team.gpus_per_worker is not None:
        raise UsageError("--address and --gpus-per-worker are for --engine ray")
    overlap = overlap and not fail_fast
    asked = team.workers or 1
    shared = is_spread(jobs, asked, settings)
    workers = min(asked, sum(not job.finished for job in jobs))
    if workers > 1 and not shared:
        hands = Processes(workers, settings, load, overlap)
        yield from share_out(jobs, settings, hands, on_event, fail_fast)
        return
    spread = spread_here(asked, settings, load) if shared else None
    pipeline = Pipeline(settings, load, on_event, Desk(settings), overlap, spread)
    try:
        for outcome in pipeline.outcomes(InOrder(jobs)):
            yield outcome
            if fail_fast and outcome.is_new_failure:
                return
    finally:
        pipeline.close()
