"""Pictures one after the other, in this process: one model, one outcome for each."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from tileup.contracts import Model
from tileup.engine.companions import save_companions
from tileup.engine.failures import as_tileup_error
from tileup.engine.outcomes import Begun, Loading, OnEvent, Outcome
from tileup.engine.values import Job
from tileup.images.metadata import Metadata
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.images.sizes import check_format_limit, output_size
from tileup.images.writing import resolve_format, save_picture
from tileup.settings import Settings

if TYPE_CHECKING:
    from tileup.upscaling import Upscaled

log = logging.getLogger(__name__)

T = TypeVar("T")
Load = Callable[[], Model]
"""Loads the model; called at most once, when the first input has turned out to be a picture."""


def run(
    jobs: Sequence[Job], settings: Settings, load: Load, on_event: OnEvent = lambda event: None
) -> Iterator[Outcome]:
    """Make pictures; yields what became of each as soon as it is known.

    Args:
        jobs: from `find_jobs`.
        settings: of all of them; each job has its own seed.
        load: loads the model.
        on_event: told what happens; it may raise to stop the run.

    Raises:
        ModelError: the model cannot be loaded. A picture that fails raises nothing.
    """
    model: Model | None = None
    for number, job in enumerate(jobs, 1):
        if job.finished:
            yield Outcome(job, "skipped")
            continue
        on_event(Begun(job, number, len(jobs)))
        opened = _attempt(job, partial(_open, job, settings))
        if isinstance(opened, Outcome):
            yield opened
            continue
        if model is None:
            on_event(Loading())
            model = load()
        make = partial(_make, opened, replace(settings, seed=job.seed), model, on_event)
        yield _attempt(job, make)


def _attempt(job: Job, work: Callable[[], T]) -> T | Outcome:
    """What the work gives, or the outcome of a picture that failed."""
    try:
        return work()
    except Exception as error:  # One bad picture must never stop the rest.
        log.debug("%s failed", job.shown_input, exc_info=error)
        return Outcome(job, "failed", error=as_tileup_error(error))


@dataclass(frozen=True, slots=True)
class _Opened:
    """An input that can be worked on."""

    job: Job
    picture: Picture
    format: str
    """File format of the output."""


def _open(job: Job, settings: Settings) -> _Opened:
    source = job.input or BytesIO(sys.stdin.buffer.read())
    picture = open_picture(source, settings.max_input_pixels)
    format = resolve_format(job.output, settings.format, picture.format)
    check_format_limit(*output_size(picture.width, picture.height, settings), format)
    return _Opened(job, picture, format)


def _make(opened: _Opened, settings: Settings, model: Model, on_event: OnEvent) -> Outcome:
    # Imported here because this is where torch comes in.
    from tileup.upscaling import upscale_picture

    start = time.perf_counter()
    job, before = opened.job, opened.picture
    upscaled = upscale_picture(before, model, settings, on_event)
    save_companions(job, before, upscaled.plan, upscaled.cost, settings)
    # Last, so that a picture in place means that everything about it is.
    save_picture(
        upscaled.picture,
        job.output or sys.stdout.buffer,
        opened.format,
        quality=settings.quality,
        metadata=_metadata(upscaled, before, model, settings) if settings.metadata else None,
        overwrite=job.overwrite,
    )
    return Outcome(
        job,
        "done",
        seconds=time.perf_counter() - start,
        size=(upscaled.picture.width, upscaled.picture.height),
        cost=upscaled.cost,
        warnings=upscaled.warnings,
    )


def _metadata(upscaled: Upscaled, before: Picture, model: Model, settings: Settings) -> Metadata:
    return Metadata(
        prompt="",
        negative="",
        steps=settings.steps,
        sampler=settings.sampler,
        scheduler=settings.scheduler,
        cfg=1.0,
        seed=settings.seed,
        width=upscaled.picture.width,
        height=upscaled.picture.height,
        model=model.spec.name,
        model_hash=model.digest,
        denoise=settings.max_denoise,
        extra={
            "tileup min denoise": settings.min_denoise,
            "tileup max denoise": settings.max_denoise,
            "tileup denoise mode": settings.denoise_mode,
            "tileup tiles": upscaled.cost.tiles,
            "tileup scale": round(upscaled.plan.scale, 4),
        },
        settings=settings.to_dict(),
        source_parameters=before.text.get("parameters"),
    )
