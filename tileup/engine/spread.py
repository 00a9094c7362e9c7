"""One picture drawn by several: its windows go to whoever is free, and come back in order.

The process that draws the picture evaluates windows as before, and is the only one that adds them
up. So the bytes are those of one process, whoever joins or is lost on the way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tileup.contracts import Model, OnStep, Step
from tileup.engine.desk import attempt
from tileup.engine.failures import as_tileup_error, is_out_of_memory
from tileup.engine.outputs import output_pixels
from tileup.engine.pool import PoolWorker, WorkerPool
from tileup.engine.request import Job
from tileup.settings.values import Settings
from tileup.wording import counted

if TYPE_CHECKING:
    from torch import Tensor

    from tileup.denoise.window_requests import WindowRequest
    from tileup.tiling.batches import NetworkBatch

log = logging.getLogger(__name__)

STARTING = 10.0
"""Seconds that a process takes to be there, besides loading the model."""
_SEEN = 2.0
"""Seconds of drawing after which it is known how long the rest takes."""
_MANY = 1024
"""Pictures that are enough for any number of workers: the sizes of so many are not looked at."""
LARGE = 2**24
"""Output pixels of pictures that are drawn one after the other by all, rather than side by side."""


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch that may be done here, or travel."""

    batch: NetworkBatch
    pack: Callable[[NetworkBatch], WindowRequest]


class Spread:
    """Those who help to draw pictures, one after the other. Used by the thread that draws."""

    def __init__(
        self,
        doers: Sequence[PoolWorker[PendingBatch, Tensor]],
        threads: int | None = None,
        starting: float | None = None,
    ) -> None:
        """Args:
        doers: who help, not started yet.
        threads: with which this process computes while they do; None: as before.
        starting: seconds until they are there, besides loading the model; None: STARTING. A
            picture that is done in twice that is drawn without them.
        """
        self._doers = doers
        self._threads = threads
        self._before: int | None = None
        self._starting = starting
        self._pool: WorkerPool[PendingBatch, Tensor] = WorkerPool(doers)
        self._started = self._given_up = False
        self._first: tuple[float, int] | None = None
        self._evaluated = False
        self._loading = 0.0

    def over(self, model: Model, settings: Settings, loading: float = 0.0) -> Model:
        """The same model, whose windows they help to evaluate.

        Args:
            model: as it is loaded here.
            settings: with which it was.
            loading: seconds that that took.
        """
        from tileup.denoise.window_requests import SpreadModel

        self._first, self._evaluated, self._loading = None, False, loading
        return SpreadModel(model, settings, self._share)

    def watching(self, on_step: OnStep) -> OnStep:
        """The same, and those who help are started when it pays."""

        def told(step: Step) -> None:
            self._look(step)
            on_step(step)

        return told

    def _look(self, step: Step) -> None:
        if self._started or self._given_up or not self._evaluated:
            return  # what an earlier run evaluated takes no time
        now, starting = time.monotonic(), STARTING if self._starting is None else self._starting
        if self._first is None:
            self._first = now, step.calls  # the first batch is slower
        since, calls = self._first
        if now < since + _SEEN and starting:
            return
        left = (now - since) / max(1, step.calls - calls) * (step.total_calls - step.calls)
        if left >= 2 * (self._loading + starting):
            self._start(step, left)

    def _start(self, step: Step, left: float) -> None:
        log.info(
            "%s left, some %.0f s for one process: they are spread over %d",
            counted(step.total_calls - step.calls, "window"),
            left,
            len(self._doers) + 1,
        )
        self._started = True
        self._use(self._threads)
        self._pool.start()

    def _use(self, threads: int | None) -> None:
        if threads is not None:
            import torch

            self._before = self._before or torch.get_num_threads()
            torch.set_num_threads(threads)

    def _share(
        self,
        batches: Iterable[NetworkBatch],
        mine: Callable[[NetworkBatch], Tensor],
        request: Callable[[NetworkBatch], WindowRequest],
    ) -> Iterator[Tensor]:
        return self._pool.in_order(
            (PendingBatch(batch, request) for batch in batches),
            lambda pending: self._done_here(mine, pending.batch),
        )

    def _done_here(self, mine: Callable[[NetworkBatch], Tensor], batch: NetworkBatch) -> Tensor:
        self._evaluated = True
        try:
            return mine(batch)
        except Exception as error:
            if self._given_up or not self._started or not is_out_of_memory(error):
                raise
            log.debug("out of memory beside others", exc_info=error)
        log.info("memory does not suffice beside the other processes: they end")
        self.close()  # outside the handler: its error holds on to memory
        return mine(batch)

    def close(self) -> None:
        """End those who help; what they had is done here."""
        self._given_up = True
        self._pool.close()
        if self._before is not None:
            self._use(self._before)
            self._before = None


def answered(request: WindowRequest, model_of: Callable[[Settings], Model]) -> Any:  # noqa: ANN401
    """What comes back for a request: x0 as an array, or why there is none.

    Args:
        request: what came.
        model_of: gives the model as settings want it loaded.
    """
    found = attempt(lambda: request.evaluated(model_of(request.settings)))
    return as_tileup_error(found) if isinstance(found, Exception) else found


def is_spread(jobs: Sequence[Job], workers: int, settings: Settings) -> bool:
    """Whether pictures are drawn one after the other by all workers, rather than side by side.

    Args:
        jobs: of a run.
        workers: how many there may be.
        settings: from which the sizes of outputs follow.
    """
    to_make = sum(not job.finished for job in jobs)
    return 0 < to_make < workers and can_be_shared(jobs, settings)


def can_be_shared(jobs: Sequence[Job], settings: Settings) -> bool:
    """Whether each picture is worth more than one worker: there is but one, or all are large."""
    to_make = [job for job in jobs if not job.finished]
    if len(to_make) == 1:
        return True
    large = ((output_pixels(job, settings) or 0) >= LARGE for job in to_make)
    return len(to_make) < _MANY and all(large)
