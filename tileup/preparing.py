"""A picture and settings become a plan: sizes, and the pictures that edit the plan by hand."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tileup.contracts import ModelSpec
from tileup.enlarge.enlargers import SHARED, Enlargers
from tileup.errors import InputError, UsageError
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.images.sizes import output_size
from tileup.plan.edits import Grey, HandDrawn
from tileup.plan.planning import Planned, plan_picture
from tileup.settings.values import Settings


def prepare(picture: Picture, spec: ModelSpec, settings: Settings) -> Planned:
    """Everything that will be done to a picture, without a model and without torch.

    Raises:
        UsageError: the settings do not go together, or a mask or map cannot be read.
    """
    width, height = output_size(picture.width, picture.height, settings)
    return plan_picture(picture.pixels, width, height, spec, settings, read_drawn(settings))


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
        UsageError: as `prepare`.
        ModelError, MissingExtraError: as `Enlargers.of`.
    """
    clock = Clock()
    with clock("plan"):
        planned = prepare(picture, spec, settings)
    with clock("enlarge"):
        enlarged = enlargers.of(settings)(picture, planned.plan.width, planned.plan.height)
    return Ready(planned, enlarged, clock.seconds)


def read_drawn(settings: Settings) -> HandDrawn:
    """The mask and the denoise map that the settings name.

    Raises:
        UsageError: a file is missing or no picture.
    """
    limit = settings.max_input_pixels
    return HandDrawn(
        mask=_grey("mask", settings.mask, limit),
        denoise_map=_grey("denoise-map", settings.denoise_map, limit),
    )


def _grey(name: str, path: str | None, max_pixels: int) -> Grey | None:
    if path is None:
        return None
    try:
        return open_picture(Path(path), max_pixels).pixels.mean(axis=2)
    except InputError as error:
        raise UsageError(f"{name}: {error}") from error


@dataclass(slots=True)
class Clock:
    """Times named parts of the work."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def __call__(self, part: str) -> Generator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start
