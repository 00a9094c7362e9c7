"""What of a picture's story is told ahead, while the picture before it is drawn; without torch."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tileup.contracts import ModelSpec
from tileup.enlarge.enlargers import SHARED
from tileup.enlarge.lanczos import Gradual, gradual
from tileup.images.picture import Picture
from tileup.plan.by_rows import is_drawn_by_rows, is_drawn_in_bands
from tileup.plan.planning import Planned, plan_picture
from tileup.plan.tiles import TilePlan
from tileup.resources import room_for_canvas
from tileup.settings.values import LANCZOS, Settings


@dataclass(frozen=True, slots=True)
class Ready:
    """What is done already; nothing, unless given."""

    planned: Planned | None = None
    """What will be done to the picture."""
    enlarged: Picture | None = None
    """The picture at its final size."""
    timings: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds of each part of the work."""


NOTHING = Ready()


def make_ready(picture: Picture, spec: ModelSpec, settings: Settings) -> Ready:
    """The first two steps of `tileup.upscaling.upscale_picture`, by themselves.

    Raises:
        UsageError: as `plan_picture`.
        ModelError, MissingExtraError: as `enlarge`.
    """
    clock = Clock()
    with clock("plan"):
        planned = plan_picture(picture, spec, settings)
    if enlarged_by_rows(picture, planned, spec, settings) is not None:
        return Ready(planned, None, clock.seconds)
    with clock("enlarge"):
        enlarged = enlarge(picture, planned.plan, settings)
    return Ready(planned, enlarged, clock.seconds)


def enlarged_by_rows(
    picture: Picture, planned: Planned, spec: ModelSpec, settings: Settings
) -> Gradual | None:
    """The picture, to be enlarged while it is drawn; None where it is enlarged before."""
    plan = planned.plan
    by_rows = is_drawn_by_rows(planned, spec, settings)
    if settings.upscaler != LANCZOS or not (by_rows or is_drawn_in_bands(planned, spec)):
        return None
    return gradual(picture, plan.width, plan.height)


def enlarge(picture: Picture, plan: TilePlan, settings: Settings) -> Picture:
    """The picture at the size that is planned, by what the settings name.

    Raises:
        ModelError, MissingExtraError: as `tileup.enlarge.enlargers.Enlargers.of`.
        CanvasMemoryError: there is no room for it.
    """
    if settings.upscaler != LANCZOS:  # a network, which can be shown less at once
        return SHARED.of(settings)(picture, plan.width, plan.height)
    with room_for_canvas(plan.width, plan.height):
        return SHARED.of(settings)(picture, plan.width, plan.height)


@dataclass(slots=True)
class Clock:
    """Times named parts of the work."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def __call__(self, part: str) -> Generator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
