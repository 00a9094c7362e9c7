"""One picture of a run, in three parts: read and enlarge, draw, write. Each knows no other one."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tileup.contracts import Model, ModelSpec, OnStep
from tileup.engine.companions import save_companions
from tileup.engine.failures import as_tileup_error, is_out_of_memory
from tileup.engine.journal import Mark, Record, key_of, mark_of
from tileup.engine.locks import OutputLock
from tileup.engine.models import Models, free_memory
from tileup.engine.outcomes import Outcome
from tileup.engine.values import Job
from tileup.errors import NotFiniteError, OutOfMemoryError, TileupError
from tileup.images.metadata import Metadata
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.images.sizes import check_format_limit, output_size
from tileup.images.writing import resolve_format, save_picture
from tileup.plan.itinerary import window_size
from tileup.ready import Ready, make_ready
from tileup.settings.values import Settings
from tileup.text.prompts import prompt_of

if TYPE_CHECKING:
    from tileup.upscaling import Upscaled

log = logging.getLogger(__name__)

_SMALLEST_WINDOW = 64
"""Windows smaller than this, output pixels, show a network too little to draw from."""


def settings_of(job: Job, settings: Settings) -> Settings:
    """The settings of one picture of a run: its own seed, and the prompt in the file beside it.

    Raises:
        InputError: that file cannot be read as text.
    """
    return replace(settings, seed=job.seed, prompt=prompt_of(job.input, settings))


@dataclass(frozen=True, slots=True)
class Read:
    """A picture that can be drawn, and the lock on its output."""

    job: Job
    settings: Settings
    """Of this picture: with its own seed and prompt."""
    picture: Picture
    format: str
    """File format of the output."""
    mark: Mark | None
    """Of the input, where a journal will hold it."""
    lock: OutputLock | None
    ready: Ready | None
    """Planned and enlarged; None where that is still to do."""


def read(
    job: Job,
    settings: Settings,
    source: Path | BinaryIO,
    lock: OutputLock | None,
    spec: ModelSpec | None,
) -> Read:
    """Open a picture, and prepare it where the model is known.

    Raises:
        TileupError: it cannot be made.
    """
    mark = None if job.input is None or job.journal is None else mark_of(job.input)
    picture = open_picture(source, settings.max_input_pixels)
    if settings.strip_exif:
        picture = replace(picture, exif=None, xmp=None)
    format = resolve_format(job.output, settings.format, picture.format)
    check_format_limit(*output_size(picture.width, picture.height, settings), format)
    ready = None if spec is None else make_ready(picture, spec, settings)
    return Read(job, settings, picture, format, mark, lock, ready)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture that can be written. It holds no model."""

    upscaled: Upscaled
    settings: Settings
    """With which it was drawn in the end."""
    metadata: Metadata | None
    """What the file will say about that."""


def draw(given: Read, models: Models, on_step: OnStep) -> Drawn:
    """Draw a picture; with less at once where memory does not suffice, and once more in float32
    where half precision gives values that are no numbers.

    Raises:
        OutOfMemoryError: memory did not suffice on any try.
        NotFiniteError: the model gave no picture.
    """
    try:
        return _with_less_memory(given, given.settings, models, on_step)
    except NotFiniteError:
        used = models.precision
        if "float32" in (used, given.settings.dtype):
            raise
        log.debug("values that are no numbers in %s", used, exc_info=True)
    # Outside the handler: its error holds on to the memory that the next try needs.
    settings = replace(given.settings, dtype="float32")
    drawn = _with_less_memory(given, settings, models, on_step)
    note = (
        f"the model gave values that are no numbers in {used or 'half precision'}: "
        f"went on in float32"
    )
    upscaled = replace(drawn.upscaled, notes=(note, *drawn.upscaled.notes))
    return replace(drawn, upscaled=upscaled)


def _with_less_memory(given: Read, settings: Settings, models: Models, on_step: OnStep) -> Drawn:
    # Imported here because this is where torch comes in.
    from tileup.upscaling import draw

    notes: tuple[str, ...] = ()
    ready = given.ready
    for chosen, note in _smaller(settings, models.of(settings).spec):
        notes = (*notes, note) if note else notes
        try:
            model = models.of(chosen)
            if ready is None or chosen.window != given.settings.window:
                ready = make_ready(given.picture, model.spec, chosen)
            upscaled = draw(ready, model, chosen, on_step)
            upscaled = replace(upscaled, notes=(*notes, *upscaled.notes))
            metadata = _metadata(upscaled, given.picture, model, chosen)
            return Drawn(upscaled, chosen, metadata if chosen.metadata else None)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.debug("out of memory with batch %d", chosen.batch, exc_info=error)
        # Outside the handler: its error holds on to the memory that the next try needs.
        ready = model = None
        free_memory()
    raise OutOfMemoryError(
        "out of memory on every try, the last with one small window at once and everything else "
        "out of the way; try a smaller --scale or --max-pixels"
    )


def _smaller(settings: Settings, spec: ModelSpec) -> Iterator[tuple[Settings, str]]:
    """The settings, then ones that need less memory, each with what is said about it."""
    yield settings, ""
    if settings.batch > 1:
        settings = replace(settings, batch=1)
        yield settings, "memory did not suffice for several windows at once: went on one by one"
    sides = list(_window_sides(settings, spec))
    for side in sides:
        yield replace(settings, window=side), _ABOUT_WINDOWS.format(side=side)
    if not settings.low_memory:
        settings = replace(settings, low_memory=True)
        yield (
            settings,
            "memory did not suffice: went on with only the part of the model that is at work on "
            "the device, which is slow; --low-memory does so from the start",
        )
        for side in sides[-1:]:
            yield replace(settings, window=side), _ABOUT_WINDOWS.format(side=side)


_ABOUT_WINDOWS = (
    "memory did not suffice: went on with windows of {side} pixels, "
    "so the picture differs from one made with enough memory"
)


def _window_sides(settings: Settings, spec: ModelSpec) -> Iterator[int]:
    """Smaller and smaller windows, output pixels."""
    side = window_size(spec, settings).side * spec.stride
    while side // 2 >= max(_SMALLEST_WINDOW, settings.overlap + spec.multiple):
        side = side // 2 // spec.multiple * spec.multiple
        yield side


def write(given: Read, drawn: Drawn) -> Outcome:
    """Write a picture and what goes with it, on record before it appears.

    Raises:
        OutputError: a file cannot be written.
    """
    start = time.perf_counter()
    job, upscaled, settings = given.job, drawn.upscaled, drawn.settings
    save_companions(job, given.picture, upscaled.plan, upscaled.cost, settings)
    before = time.perf_counter() - start + sum(upscaled.timings.values())
    # Last, so that a picture in place means that everything about it is.
    save_picture(
        upscaled.picture,
        job.output or sys.stdout.buffer,
        given.format,
        quality=settings.quality,
        metadata=drawn.metadata,
        overwrite=job.overwrite,
        on_written=partial(_record_done, given, before),
    )
    return Outcome(
        job,
        "done",
        seconds=time.perf_counter() - start + sum(upscaled.timings.values()),
        size=(upscaled.picture.width, upscaled.picture.height),
        cost=upscaled.cost,
        warnings=(*given.picture.warnings, *upscaled.warnings),
    )


def _record_done(given: Read, seconds: float, written: Path) -> None:
    """Put an output on record that is about to take its name.

    In this order a kill in between leaves a record without an output, which is made again, and
    never an output of unknown origin.
    """
    job = given.job
    if job.journal is None or job.output is None:
        return
    folder = job.journal.folder
    job.journal.append(
        Record(
            output=key_of(job.output, folder),
            input=job.shown_input,
            outcome="done",
            settings=job.fingerprint,
            source=given.mark,
            result=mark_of(written),
            also=tuple(key_of(path, folder) for path in job.targets[1:]),
            seconds=round(seconds, 3),
        )
    )


def failed(job: Job, error: Exception) -> Outcome:
    """The outcome of a picture that failed, put on record."""
    told = as_tileup_error(error)
    _forget_frames(told)
    if job.journal is not None and job.output is not None:
        record = Record(
            output=key_of(job.output, job.journal.folder),
            input=job.shown_input,
            outcome="failed",
            settings=job.fingerprint,
            source=None if job.input is None else mark_of(job.input),
            error=str(told),
            code=int(told.exit_code),
        )
        try:
            job.journal.append(record)
        except TileupError as unwritten:
            log.warning("%s", unwritten)
    return Outcome(job, "failed", error=told)


def _forget_frames(error: BaseException | None) -> None:
    """Let go of the pixels that the frames of a traceback hold: outcomes are kept to the end."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _metadata(upscaled: Upscaled, before: Picture, model: Model, settings: Settings) -> Metadata:
    return Metadata(
        prompt=settings.prompt,
        negative=settings.negative,
        steps=settings.steps,
        sampler=settings.sampler,
        scheduler=settings.scheduler,
        cfg=settings.cfg,
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
