"""A picture and settings become a plan: sizes, and the pictures that edit the plan by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from tileup.contracts import ModelSpec
from tileup.enlarge.lanczos import enlarge
from tileup.errors import InputError, ModelError, UsageError
from tileup.images.picture import Picture
from tileup.images.reading import open_picture
from tileup.images.sizes import output_size
from tileup.plan.edits import Drawn, Grey
from tileup.plan.planning import Planned, plan_picture
from tileup.settings.values import LANCZOS, Settings


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


def make_ready(picture: Picture, spec: ModelSpec, settings: Settings) -> Ready:
    """Plan and enlarge a picture: all that can be done ahead of sampling, without torch.

    Raises:
        UsageError: as `prepare`.
    """
    clock = Clock()
    with clock("plan"):
        planned = prepare(picture, spec, settings)
    with clock("enlarge"):
        enlarged = enlarger_of(settings)(picture, planned.plan.width, planned.plan.height)
    return Ready(planned, enlarged, clock.seconds)


Enlarge = Callable[[Picture, int, int], Picture]
"""Brings a picture to a width and a height; see `tileup.enlarge.lanczos.enlarge`."""


def enlarger_of(settings: Settings) -> Enlarge:
    """What enlarges before diffusion. An upscaler's file is loaded once for all pictures.

    Raises:
        ModelError, MissingExtraError: as `tileup.enlarge.esrgan.load_enlarger`.
        UsageError: the device is not there.
    """
    if settings.upscaler == LANCZOS:
        return enlarge
    path = Path(settings.upscaler).expanduser()
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(
            f"upscaler {path} cannot be read: {error.strerror}; give lanczos or a model's file"
        ) from error
    return _upscaler(path, settings.device, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _upscaler(path: Path, device: str, changed: int, size: int) -> Enlarge:
    """The upscaler in a file that was last changed at a time and has a size."""
    from tileup.devices import pick_device
    from tileup.enlarge.esrgan import load_enlarger

    return load_enlarger(path, pick_device(device))


def read_drawn(settings: Settings) -> Drawn:
    """The mask and the denoise map that the settings name.

    Raises:
        UsageError: a file is missing or no picture.
    """
    limit = settings.max_input_pixels
    return Drawn(
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
