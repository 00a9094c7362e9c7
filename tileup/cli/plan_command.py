"""The work of `tileup plan`: what would be done to one picture, without a model and torch."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from tileup.cli.flags import config_text, resolved
from tileup.cli.options import PlanOptions
from tileup.cli.signatures import Given
from tileup.cli.tables import print_table, print_text
from tileup.engine.checks import check_absent, check_clashes, check_writable
from tileup.engine.companions import plan_to_dict, save_heatmap
from tileup.engine.naming import HEATMAP
from tileup.engine.standard_output import say
from tileup.engine.values import AUTO, STREAM, Job
from tileup.errors import ExitCode, InputError, NoInputError, UsageError
from tileup.images.reading import open_picture
from tileup.plan.planning import Planned, plan_picture
from tileup.wording import counted

if TYPE_CHECKING:
    from tileup.images.picture import Picture
    from tileup.resolving import Resolved
    from tileup.settings.values import Settings

log = logging.getLogger(__name__)


def plan_command(options: PlanOptions, given: Given) -> int:
    """Show a plan as the flags say; returns the exit code."""
    found = resolved(options, given)
    if options.print_config:
        say(config_text(found), end="")
        return ExitCode.OK
    if options.input is None:
        raise UsageError("no input given; name a picture, or - for standard input")
    job = _job(options.input, options, found.settings)
    picture = _opened(job, found.settings.max_input_pixels)
    planned = plan_picture(picture, found.spec, found.settings)
    if job.heatmap is not None:
        save_heatmap(job.heatmap, picture, planned.plan, found.settings, job.overwrite)
    for warning in planned.warnings:
        log.warning("%s", warning)
    if options.json:
        say(json.dumps(plan_to_dict(planned.plan, planned.cost)))
    elif not options.quiet:
        _show(job, picture, planned, found)
    return ExitCode.OK


def _job(source: str, options: PlanOptions, settings: Settings) -> Job:
    """What there is to read and write, with the checks that every job gets."""
    path = None if source == STREAM else Path(source)
    heatmap = _heatmap_path(path, options.heatmap)
    job = Job(path, None, None, settings.seed, heatmap, overwrite=options.overwrite)
    check_clashes([job], settings)
    if not job.overwrite:
        check_absent(job.targets)
    check_writable(job.targets)
    return job


def _heatmap_path(source: Path | None, wanted: str | None) -> Path | None:
    if wanted != AUTO:
        return None if wanted is None else Path(wanted)
    if source is None:
        raise UsageError("standard input has no place beside it for 'auto'; name a file")
    return source.with_name(source.stem + HEATMAP)


def _opened(job: Job, max_pixels: int) -> Picture:
    try:
        return open_picture(job.input or BytesIO(sys.stdin.buffer.read()), max_pixels)
    except InputError as error:
        # It was the only one, so nothing is left.
        raise NoInputError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Level:
    """All tiles of one strength."""

    strength: float
    tiles: int
    area: float
    """Share of the picture, in [0, 1]."""
    start: int | None
    """First step at which they are at work; None: they are kept."""
    steps: int
    """Steps they take."""


def levels(planned: Planned) -> Iterator[Level]:
    """The strengths of a plan, strongest first, kept tiles last."""
    plan, schedule = planned.plan, planned.itinerary.schedule
    kept = [0.0] if any(tile.denoise == 0 for tile in plan.tiles) else []
    for strength in (*plan.strengths, *kept):
        tiles = [tile for tile in plan.tiles if tile.denoise == strength]
        pixels = sum(plan.pixel_box(tile).area for tile in tiles)
        start = _start(planned, schedule.merged.get(strength, strength))
        steps = 0 if start is None else schedule.steps - start
        yield Level(strength, len(tiles), pixels / (plan.width * plan.height), start, steps)


def _start(planned: Planned, strength: float) -> int | None:
    """The first step at which tiles of a strength are at work."""
    phases = planned.itinerary.phases
    return min((phase.start for phase in phases if strength in phase.strengths), default=None)


def _show(job: Job, picture: Picture, planned: Planned, found: Resolved) -> None:
    plan, cost, settings = planned.plan, planned.cost, found.settings
    steps = counted(planned.itinerary.schedule.steps, "step")
    print_text(
        f"{job.shown_input}  {picture.width}x{picture.height} -> {plan.width}x{plan.height}, "
        f"model {found.spec.name}, {settings.sampler}, {steps}"
    )
    print_table(
        ("strength", "tiles", "area", "from step", "steps"),
        [
            (
                f"{level.strength:.3g}",
                str(level.tiles),
                f"{level.area:.1%}",
                "kept" if level.start is None else str(level.start + 1),
                str(level.steps),
            )
            for level in levels(planned)
        ],
    )
    auto = " (auto)" if settings.detail_threshold == AUTO else ""
    print_text(
        f"{counted(cost.tiles, 'tile')}, "
        f"{settings.detail_metric} threshold {plan.threshold:.4g}{auto}\n"
        f"{counted(cost.windows, 'window')}, {counted(cost.model_calls, 'model call')}\n"
        f"{cost.megapixel_steps:.2f} megapixel-steps, {cost.uniform_megapixel_steps:.2f} with "
        f"{settings.max_denoise:g} everywhere: saves {cost.saving:.0%}"
    )
