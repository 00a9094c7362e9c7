"""One picture of a run, from file to file: read and enlarge, then write what was drawn of it."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tileup.contracts import Model, ModelSpec
from tileup.engine.companions import save_companions
from tileup.engine.failures import as_tileup_error
from tileup.engine.journal import Fingerprint, Ledger, Record, fingerprint_of, key_of
from tileup.engine.outcomes import Outcome
from tileup.engine.request import Job
from tileup.engine.room import check_room
from tileup.engine.stamp import KEY, stamp_for
from tileup.engine.standard_output import write_bytes
from tileup.errors import (
    InputError,
    OutOfMemoryError,
    OutputError,
    TileupError,
    UnreachableError,
    WorkerLostError,
)
from tileup.images.kept import can_be_kept, forget
from tileup.images.metadata import Metadata, told_settings
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.images.sizes import check_format_limit, output_size
from tileup.images.whole import OnWritten
from tileup.images.writing import resolve_format, save_picture
from tileup.plan.planning import Planned
from tileup.ready import NOTHING, Ready, make_ready
from tileup.settings.values import Settings
from tileup.storage.patience import StoreError
from tileup.storage.remote import held
from tileup.storage.stores import TooLargeError
from tileup.storage.urls import told_values
from tileup.text.prompts import prompt_of

if TYPE_CHECKING:
    from tileup.upscaling import DrawnPicture, Upscaled

log = logging.getLogger(__name__)


def settings_of(job: Job, settings: Settings) -> Settings:
    """The settings of one picture of a run: its own seed, and the prompt in the file beside it.

    Raises:
        InputError: that file cannot be read as text.
    """
    return replace(settings, seed=job.seed, prompt=prompt_of(job.input, settings))


@dataclass(frozen=True, slots=True)
class Drawable:
    """A picture that can be drawn."""

    job: Job
    settings: Settings
    """Of this picture: with its own seed and prompt."""
    picture: Picture
    format: str
    """File format of the output."""
    mark: Fingerprint | None
    """Of the input; None where it is no file."""
    ready: Ready
    """What of it is planned and enlarged already."""


def read(job: Job, settings: Settings, source: Path | BinaryIO, spec: ModelSpec | None) -> Drawable:
    """Open a picture, and prepare it where the model is known.

    Raises:
        TileupError: it cannot be made.
    """
    with ExitStack() as stack:
        _hold(stack, job.input, settings.max_input_pixels)
        mark = None if job.input is None else fingerprint_of(job.input)
        picture = open_picture(source, settings.max_input_pixels)
    if settings.strip_exif:
        picture = picture.impersonal()
    format = resolve_format(job.output, settings.format, picture.format)
    size = output_size(picture.width, picture.height, settings)
    check_format_limit(*size, format)
    kept, channels = can_be_kept(job.output, format, *size), 1 if picture.grey else 3
    check_room(*size, kept=kept, output=job.output, channels=channels)
    ready = NOTHING if spec is None else make_ready(picture, spec, settings)
    return Drawable(job, settings, picture, format, mark, ready)


def _hold(stack: ExitStack, source: Path | None, max_pixels: int) -> None:
    """Have an input here for as long as it is read, where it lies in a store."""
    try:
        stack.enter_context(held(source, _SMALLEST + _PER_PIXEL * max_pixels))
    except TooLargeError:
        raise InputError(
            f"{source} has more bytes than a picture within the limit; "
            f"raise --max-input-pixels if it is meant to be this large"
        ) from None
    except StoreError as error:
        if error.errno == errno.ENOENT:
            raise InputError(f"{source} does not exist; check the name and the folder") from None
        raise as_tileup_error(error) from None


_SMALLEST = 64 * 2**20
_PER_PIXEL = 16
"""Bytes that no picture takes more of: twice those of four channels of 16 bits, and what else may
lie in a file."""


@dataclass(frozen=True, slots=True)
class Finishable:
    """A picture that the model is done with. It holds no model."""

    drawn: DrawnPicture
    settings: Settings
    """With which it was drawn in the end."""
    metadata: Metadata | None
    """What the file will say about that."""
    notes: tuple[str, ...] = ()
    """What had to be done in another way than was asked for, besides what the picture tells."""
    resumed: bool = False
    """As `Outcome.resumed`."""
    computed: Mapping[str, str] = field(default_factory=dict[str, str])
    """As `Record.computed`."""

    def finish(self) -> Made:
        """Do the rest, once, in any thread."""
        upscaled = self.drawn.finish()
        upscaled = replace(upscaled, notes=(*self.notes, *upscaled.notes))
        return Made(upscaled, self.settings, self.metadata, self.resumed, self.computed)


@dataclass(frozen=True, slots=True)
class Made:
    """A picture that can be written. It holds no model."""

    upscaled: Upscaled
    settings: Settings
    """With which it was drawn in the end."""
    metadata: Metadata | None
    """What the file will say about that."""
    resumed: bool = False
    """As `Outcome.resumed`."""
    computed: Mapping[str, str] = field(default_factory=dict[str, str])
    """As `Record.computed`."""


def write(given: Drawable, drawn: Made, journal: Ledger | None) -> Outcome:
    """Write a picture and what goes with it, on record before it appears.

    Raises:
        OutputError: a file cannot be written.
        OutputLost: standard output takes nothing more.
    """
    start = time.perf_counter()
    job, upscaled = given.job, drawn.upscaled
    save_companions(job, given.picture, upscaled.plan, upscaled.cost, drawn.settings)
    before = time.perf_counter() - start + sum(upscaled.timings.values())
    stream = BytesIO()
    # Last, so that a picture in place means that everything about it is.
    record = partial(_record_done, given, drawn, journal, before)
    told = save(given, drawn, job.output or stream, record)
    if job.output is None:
        write_bytes(stream.getvalue())
    else:
        forget(job.output)
    return Outcome(
        job,
        "done",
        seconds=time.perf_counter() - start + sum(upscaled.timings.values()),
        size=(upscaled.picture.width, upscaled.picture.height),
        cost=upscaled.cost,
        warnings=(*given.picture.warnings, *upscaled.warnings, *told),
        resumed=drawn.resumed,
    )


def save(
    given: Drawable, drawn: Made, target: Path | BinaryIO, on_written: OnWritten | None = None
) -> tuple[str, ...]:
    """Write a picture alone; as `tileup.images.writing.save_picture`."""
    return save_picture(
        drawn.upscaled.picture,
        target,
        given.format,
        quality=drawn.settings.quality,
        compression=drawn.settings.compression,
        lossless=drawn.settings.lossless,
        metadata=drawn.metadata,
        overwrite=given.job.overwrite,
        on_written=on_written,
    )


def _record_done(
    given: Drawable, drawn: Made, journal: Ledger | None, seconds: float, written: Path
) -> None:
    """Put an output on record that is about to take its name.

    In this order a kill in between leaves a record without an output, which is made again, and
    never an output of unknown origin.
    """
    job = given.job
    if journal is None or job.output is None:
        return
    journal.append(
        Record(
            output=key_of(job.output, journal.folder),
            input=job.shown_input,
            outcome="done",
            settings=job.fingerprint,
            source=given.mark,
            result=fingerprint_of(written),
            also=tuple(key_of(path, journal.folder) for path in job.targets[1:]),
            seconds=round(seconds, 3),
            drawn=told_values(drawn.settings.changed()),
            computed=drawn.computed,
        )
    )


def failed(job: Job, error: Exception, journal: Ledger | None) -> Outcome:
    """The outcome of a picture that failed, put on record."""
    told = as_tileup_error(error)
    _forget_frames(told)
    if job.output is not None and not isinstance(told, _PASSING):
        forget(job.output)
    says_nothing = isinstance(told, UnreachableError)  # of the picture: a rerun tries it again
    if journal is not None and job.output is not None and not says_nothing:
        record = Record(
            output=key_of(job.output, journal.folder),
            input=job.shown_input,
            outcome="failed",
            settings=job.fingerprint,
            source=None if job.input is None else fingerprint_of(job.input),
            error=str(told),
            code=int(told.exit_code),
        )
        try:
            journal.append(record)
        except TileupError as unwritten:
            log.warning("%s", unwritten)
    return Outcome(job, "failed", error=told)


_PASSING = OutOfMemoryError | OutputError | WorkerLostError | UnreachableError
"""Failures after which a rerun goes on with the rows that are there."""


def _forget_frames(error: BaseException | None) -> None:
    """Let go of the pixels that the frames of a traceback hold: outcomes are kept to the end."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def metadata_of(planned: Planned, given: Drawable, model: Model, settings: Settings) -> Metadata:
    """What a file will say about how it was made."""
    stamp = stamp_for(given.job, given.mark)
    return Metadata(
        prompt=settings.prompt,
        negative=settings.negative,
        steps=settings.steps,
        sampler=settings.sampler,
        scheduler=settings.scheduler,
        cfg=settings.cfg,
        seed=settings.seed,
        width=planned.plan.width,
        height=planned.plan.height,
        model=model.spec.name,
        model_hash=model.digest,
        denoise=settings.max_denoise,
        extra={
            "tileup min denoise": settings.min_denoise,
            "tileup max denoise": settings.max_denoise,
            "tileup denoise mode": settings.denoise_mode,
            **({} if settings.clip_skip is None else {"Clip skip": settings.clip_skip}),
            **({"tileup texture": settings.texture} if model.spec.textured else {}),
            **({"tileup deblock": True} if planned.deblock else {}),
            **({} if model.runtime == "torch" else {"tileup runtime": model.runtime}),
            "tileup tiles": planned.cost.tiles,
            "tileup scale": round(planned.plan.scale, 4),
        },
        settings=told_settings(settings) | ({} if stamp is None else {KEY: stamp.to_dict()}),
        source_parameters=given.picture.text.get("parameters"),
    )
