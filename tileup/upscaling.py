"""The story of one picture: plan, enlarge, encode, sample, decode, paste."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from PIL import Image

from tileup.canvas import (
    FinishedRows,
    RowsInMemory,
    decoded,
    draw_by_rows,
    draw_in_bands,
    padded,
    pasted,
    rows_of,
)
from tileup.contracts import Model, OnStep
from tileup.denoise.run import sample_canvas, scene_of
from tileup.images.picture import Picture
from tileup.images.planes import to_image
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
    clock = Clock(dict(ready.timings))
    with clock("plan"):
        planned = ready.planned or plan_picture(picture, model.spec, settings)
    by_rows = is_drawn_by_rows(planned, model.spec, settings)
    if by_rows or is_drawn_in_bands(planned, model.spec):
        log.info("the canvas is drawn row by row" if by_rows else "pixels come and go in bands")
        draw = draw_by_rows if by_rows else draw_in_bands
        rows = rows_of(picture, planned, model, settings, ready)
        finished = (keep and keep(planned)) or RowsInMemory(planned.plan.width, planned.plan.height)
        with clock("sample"), closing(finished):
            draw(rows, planned, model, settings, on_step, finished)
        return Upscaled(rows.carrying(finished.pixels), planned, clock.seconds, model.take_notes())
    with clock("enlarge"):
        enlarged = ready.enlarged or enlarge(picture, planned.plan, settings)
    if not planned.plan.strengths:
        return Upscaled(enlarged, planned, clock.seconds)
    with clock("encode"):
        canvas = padded(enlarged.whole, planned, model.spec.stride).to(model.device)
        source = model.codec.encode(canvas).contiguous()
    with clock("sample"):
        scene = scene_of(source, canvas, planned, settings)
        latents = sample_canvas(planned, scene, model, settings, on_step)
    with clock("decode"):
        drawn = decoded(latents, planned.plan.height, planned.plan.width, model)
        pixels = pasted(drawn, enlarged, planned, settings)
    return Upscaled(replace(enlarged, pixels=pixels), planned, clock.seconds, model.take_notes())
