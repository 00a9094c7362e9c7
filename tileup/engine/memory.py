"""Drawing a picture with the memory there is: what is tried when it does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from tileup.contracts import Model, ModelSpec, OnStep, Step
from tileup.engine.failures import is_out_of_memory
from tileup.engine.file_to_file import Drawable, Finishable, metadata_of
from tileup.engine.keeping import finished_rows, kept_work
from tileup.engine.left_off import InFloat32, Resumed, Try, batches_of, left_off
from tileup.engine.models import Models, free_memory
from tileup.engine.spread import Spread
from tileup.engine.work_log import WorkLog
from tileup.enlarge.enlargers import SHARED
from tileup.errors import CanvasMemoryError, NotFiniteError, OutOfMemoryError
from tileup.meanwhile import Beside, in_turn
from tileup.plan.itinerary import window_size, windows_at_once
from tileup.ready import NOTHING, make_ready
from tileup.settings.values import DTYPES, LANCZOS, Settings

log = logging.getLogger(__name__)

_FEWER = 4
"""How many times fewer windows are tried at once."""
_SMALLEST_WINDOW = 64
"""Windows smaller than this, output pixels, show a network too little to draw from."""


def draw(
    given: Drawable,
    models: Models,
    on_step: OnStep,
    alone: bool = True,
    spread: Spread | None = None,
    *,
    keep: bool = False,
    beside: Beside = in_turn,
) -> Finishable:
    """Draw a picture; with less at once where memory does not suffice, and once more in float32
    where half precision gives values that are no numbers.

    Args:
        given: the picture.
        models: of the run.
        on_step: told after each batch of windows.
        alone: whether the memory is for this picture alone. Where others are drawn beside it, it
            is not changed for want of memory: it may suffice later.
        spread: who helps; None: nobody.
        keep: whether what is made of a large picture may lie beside its output, whose lock the
            caller holds.
        beside: who finishes rows that are drawn while others are.

    Raises:
        OutOfMemoryError: memory did not suffice on any try.
        NotFiniteError: the model gave no picture.
    """
    if spread is not None:
        on_step = spread.watching(on_step)
    model = models.of(given.settings)
    used = models.precision
    ways = () if not keep or used == "float32" else batches_of(model, _wide(given.settings))
    if _left_off(given, InFloat32(model), ways, alone) is None:
        model = None
        try:
            return _with_less_memory(
                given, given.settings, models, on_step, alone, spread, keep, beside
            )
        except NotFiniteError:
            used = models.precision
            if "float32" in (used, given.settings.dtype):
                raise
            log.debug("values that are no numbers in %s", used, exc_info=True)
    # Outside the handler: its error holds on to the memory that the next try needs.
    model = None
    wide = _wide(given.settings)
    drawn = _with_less_memory(given, wide, models, on_step, alone, spread, keep, beside)
    note = (
        f"the model gave values that are no numbers in {used or 'half precision'}: "
        f"went on in float32"
    )
    return replace(drawn, notes=(note, *drawn.notes))


def _wide(settings: Settings) -> Settings:
    """The same in float32, of settings whose model computes in half precision: a runtime may go
    with no other precision than its own."""
    return replace(settings, dtype="float32")


def _with_less_memory(
    given: Drawable,
    settings: Settings,
    models: Models,
    on_step: OnStep,
    alone: bool,
    spread: Spread | None,
    keep: bool,
    beside: Beside,
) -> Finishable:
    # Imported here because this is where torch comes in.
    from tileup.denoise.worked_out import LoggedModel
    from tileup.upscaling import draw_picture

    asked, settings = settings, models.with_batch(settings)
    model = models.of(settings)
    ways = (settings, *batches_of(model, asked)) if keep else ()
    whole = list(_smaller(settings, model.spec, alone))
    tries, notes = _left_off(given, model, ways, alone) or (whole, ())
    ready, planned_for = given.ready, given.settings.window
    watched = Resumed(on_step)
    for chosen, note in tries:
        notes = (*notes, note) if note else notes
        try:
            model = models.of(chosen)
            if chosen.window != planned_for:
                ready, planned_for = replace(ready, planned=None), chosen.window
            if ready == NOTHING:  # kept for the next try
                ready = make_ready(given.picture, model.spec, chosen)
            shown = model if spread is None else spread.over(model, chosen, models.seconds)
            kept = partial(finished_rows, given, model, chosen, on_disk=keep)
            work = kept_work(given, model, chosen) if keep else None
            shown = shown if work is None else LoggedModel(shown, work)
            told = watched if work is None else _telling_known(watched, work)
            drawn = draw_picture(given.picture, shown, chosen, told, ready, kept, beside)
            # Only where it is written: the hash of a large checkpoint takes as long as a picture.
            metadata = metadata_of(drawn.planned, given, model, chosen) if chosen.metadata else None
            resumed = watched.resumed(drawn.planned.cost.model_calls)
            return Finishable(drawn, chosen, metadata, notes, resumed, computed_by(model, chosen))
        except CanvasMemoryError:
            raise  # showing the network less at once, which takes as long again, makes no room
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.debug("out of memory with batch %s", chosen.batch, exc_info=error)
        # Outside the handler: its error holds on to the memory that the next try needs.
        model = shown = kept = None
        SHARED.drop()
        free_memory()
    raise OutOfMemoryError(
        "out of memory on every try, the last with one small window at once and everything else "
        "out of the way; try a smaller --scale or --max-pixels"
    )


def computed_by(model: Model, settings: Settings) -> dict[str, str]:
    """As `Record.computed`; torch and ncnn, which differ by rounding, are not told apart."""
    if model.device != "cpu" or settings.dtype != "auto":
        return {}
    if model.runtime == "int8":
        return {"device": model.device, "runtime": model.runtime}
    dtype = str(model.dtype).removeprefix("torch.")
    return {"dtype": dtype} if dtype in DTYPES else {}


def _left_off(
    given: Drawable, model: Model, ways: Iterable[Settings], alone: bool
) -> tuple[list[Try], tuple[str, ...]] | None:
    """What is left to try where a run was stopped whose work is kept, and what is said about what
    it tried before: that found too little memory, and would write over what it left. None: no work
    is kept.

    Args:
        given: the picture.
        model: with which it was drawn.
        ways: settings with which that run may have begun.
        alone: as of `draw`.
    """
    for way in ways:
        tries = list(_smaller(way, model.spec, alone))
        number = left_off(given, model, tries)
        if number is not None:
            return tries[number:], tuple(note for _, note in tries[:number] if note)
    return None


def _telling_known(on_step: OnStep, work: WorkLog) -> OnStep:
    """The same, told how many windows came out of what is kept."""
    known = 0

    def told(step: Step) -> None:
        nonlocal known
        known = step.calls if work.known else known
        on_step(replace(step, known=known))

    return told


def _smaller(settings: Settings, spec: ModelSpec, alone: bool) -> Iterator[Try]:
    """The settings, then ones that need less memory, each with what is said about it."""
    yield settings, ""
    if settings.upscaler != LANCZOS:  # which is dropped by now
        yield settings, ""
    at_once = windows_at_once(spec, settings)
    while at_once > 1:
        at_once = at_once // _FEWER if at_once >= 2 * _FEWER else 1
        settings = replace(settings, batch=at_once)
        how = f"with {at_once} at once" if at_once > 1 else "one by one"
        yield settings, f"memory did not suffice for several windows at once: went on {how}"
    if not alone:
        return
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
