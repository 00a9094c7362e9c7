"""The story of one picture: plan, enlarge, encode, sample, decode, paste."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from PIL import Image

from tileup.canvas import (
    ByRows,
    FinishedRows,
    RowsInMemory,
    arrived,
    decode,
    draw_bands,
    draw_by_rows,
    finish_bands,
    padded,
    pasted,
    rows_of,
)
from tileup.contracts import Model, OnStep
from tileup.denoise.run import sample_canvas, scene_of
from tileup.images.picture import Picture
from tileup.images.planes import to_image
from tileup.meanwhile import Beside, MadeParts, in_turn
from tileup.plan.by_rows import is_drawn_by_rows, is_drawn_in_bands
from tileup.plan.cost import Cost
from tileup.plan.planning import Planned, plan_picture
from tileup.plan.tiles import TilePlan
from tileup.ready import NOTHING, Clock, Ready, enlarge
from tileup.settings.values import Settings

log = logging.getLogger(__name__)

Keep = Callable[[Planned], FinishedRows | None]
"""Says where the rows of a planned picture are kept while it is drawn; None: in memory."""


@dataclass(frozen=True, slots=True)
class Upscaled:
    """A finished picture, and how it came about."""

    picture: Picture
    """The enlarged picture, with everything that the input carried."""
    planned: Planned
    """Its plan and cost."""
    timings: Mapping[str, float]
    """Seconds of each part of the work."""
    notes: tuple[str, ...] = ()
    """What had to be done in another way than was asked for."""

    @property
    def image(self) -> Image.Image:
        """8-bit copy of the picture."""
        return to_image(self.picture)

    @property
    def plan(self) -> TilePlan:
        return self.planned.plan

    @property
    def cost(self) -> Cost:
        return self.planned.cost

    @property
    def warnings(self) -> tuple[str, ...]:
        """Whole sentences that the user should see once."""
        return (*self.planned.warnings, *self.notes)


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A picture that the model is done with."""

    planned: Planned
    """Its plan and cost."""
    finish: Callable[[], Upscaled]
    """Does the rest, once, in any thread."""


def upscale_picture(
    picture: Picture,
    model: Model,
    settings: Settings,
    on_step: OnStep | None = None,
    ready: Ready = NOTHING,
    keep: Keep | None = None,
) -> Upscaled:
    """Enlarge one picture, redrawing each tile at its own strength.

    Args:
        picture: the input.
        model: a loaded checkpoint.
        settings: everything else.
        on_step: told after each batch of windows; raising stops the work.
        ready: what is done already, for this picture and these settings.
        keep: where rows are kept that are drawn; None: in memory.

    Raises:
        UsageError: the settings do not go together.
        NotFiniteError: the model gave values that are no numbers.
    """
    return draw_picture(picture, model, settings, on_step, ready, keep).finish()


def draw_picture(
    picture: Picture,
    model: Model,
    settings: Settings,
    on_step: OnStep | None = None,
    ready: Ready = NOTHING,
    keep: Keep | None = None,
    beside: Beside = in_turn,
) -> DrawnPicture:
    """The part of `upscale_picture` that the model is needed for.

    Args:
        picture, model, settings, on_step, ready, keep: as there.
        beside: who finishes rows that are drawn while others are.

    Raises:
        UsageError, NotFiniteError: as there.
    """
    clock = Clock(dict(ready.timings))
    with clock("plan"):
        planned = ready.planned or plan_picture(picture, model.spec, settings)
    drawing = _Drawing(picture, planned, model, settings, on_step, ready, clock)
    by_rows = is_drawn_by_rows(planned, model.spec, settings)
    if not by_rows and not is_drawn_in_bands(planned, model.spec):
        return drawing.whole()
    log.info("the canvas is drawn row by row" if by_rows else "pixels come and go in bands")
    enlarged = rows_of(picture, planned, model, settings, ready)
    finished = (keep and keep(planned)) or RowsInMemory(planned.plan.width, planned.plan.height)
    if by_rows:
        return drawing.by_rows(enlarged, finished)
    return drawing.in_bands(enlarged, finished, beside)


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What is drawn, and how."""

    picture: Picture
    planned: Planned
    model: Model
    settings: Settings
    on_step: OnStep | None
    ready: Ready
    clock: Clock

    def by_rows(self, enlarged: ByRows, finished: FinishedRows) -> DrawnPicture:
        """Row by row, from the first to the last; nothing is left to do."""
        with self.clock("sample"), closing(finished):
            draw_by_rows(enlarged, self.planned, self.model, self.settings, self.on_step, finished)
        return self._drawn(lambda: enlarged.carrying(finished.pixels))

    def in_bands(self, enlarged: ByRows, finished: FinishedRows, beside: Beside) -> DrawnPicture:
        """With latents in memory; rows are finished beside."""
        planned, settings = self.planned, self.settings

        def work(drawn: MadeParts) -> None:
            with closing(finished):
                if finished.rows < planned.plan.height:
                    finish_bands(drawn, enlarged, planned, settings, finished)

        with self.clock("sample"):
            bands = draw_bands(enlarged, planned, self.model, settings, self.on_step)
            wait = beside(bands if finished.rows < planned.plan.height else (), work)

        def rest() -> Picture:
            wait()
            return enlarged.carrying(finished.pixels)

        return self._drawn(rest)

    def whole(self) -> DrawnPicture:
        """With everything in memory; its tones and kept tiles are left to do."""
        planned, settings, model = self.planned, self.settings, self.model
        with self.clock("enlarge"):
            enlarged = self.ready.enlarged or enlarge(self.picture, planned.plan, settings)
        if not planned.plan.strengths:
            return self._drawn(lambda: enlarged)
        with self.clock("encode"):
            canvas = padded(enlarged.whole, planned, model.spec.stride).to(model.device)
            source = model.codec.encode(canvas).contiguous()
        with self.clock("sample"):
            scene = scene_of(source, canvas, planned, settings)
            latents = sample_canvas(planned, scene, model, settings, self.on_step)
        with self.clock("decode"):
            drawn = decode(latents, planned.plan.height, planned.plan.width, model)

        def rest() -> Picture:
            pixels = pasted(arrived(drawn), enlarged, planned, settings)
            return replace(enlarged, pixels=pixels)

        return self._drawn(rest)

    def _drawn(self, rest: Callable[[], Picture]) -> DrawnPicture:
        """What is left to do as the picture's last part; it holds no model."""
        planned, clock, notes = self.planned, self.clock, self.model.take_notes()

        def finish() -> Upscaled:
            with clock("finish"):
                picture = rest()
            return Upscaled(picture, planned, clock.seconds, notes)

        return DrawnPicture(planned, finish)
