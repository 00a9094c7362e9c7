"""A picture planned and enlarged: all that can be done ahead of sampling, without torch."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tileup.contracts import ModelSpec
from tileup.enlarge.enlargers import SHARED, Enlargers
from tileup.images.picture import Picture
from tileup.plan.planning import Planned, plan_picture
from tileup.settings.values import Settings


@dataclass(frozen=True, slots=True)
class Ready:
    """A picture that only a model is wanting for."""

    planned: Planned
    """What will be done to it."""
    enlarged: Picture
    """The picture at its final size."""
    timings: Mapping[str, float]
    """Seconds of each part of the work."""


def make_ready(
    picture: Picture, spec: ModelSpec, settings: Settings, enlargers: Enlargers = SHARED
) -> Ready:
    """Plan and enlarge a picture: all that can be done ahead of sampling, without torch.

    Raises:
        UsageError: as `plan_picture`.
        ModelError, MissingExtraError: as `Enlargers.of`.
    """
    clock = Clock()
    with clock("plan"):
        planned = plan_picture(picture, spec, settings)
    with clock("enlarge"):
        enlarged = enlargers.of(settings)(picture, planned.plan.width, planned.plan.height)
    return Ready(planned, enlarged, clock.seconds)


@dataclass(slots=True)
class Clock:
    """Times named parts of the work."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def __call__(self, part: str) -> Generator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start
