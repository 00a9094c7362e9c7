"""The work of `tileup plan`: what would be done to pictures, without a model and torch."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from tileup.cli.console import NOTICE
from tileup.cli.flags import config_text, resolved
from tileup.cli.options import PlanOptions
from tileup.cli.pace import known_pace
from tileup.cli.parameters import Given
from tileup.cli.plan_tables import PictureRow, show_many, show_one
from tileup.engine.companions import plan_to_dict, save_heatmap
from tileup.engine.inputs import find_inputs
from tileup.engine.naming import HEATMAP
from tileup.engine.output_checks import (
    check_absent,
    check_shape,
    inputs_stay,
    stay_apart,
    writable,
)
from tileup.engine.outputs import is_large
from tileup.engine.request import AUTO, Input, Job, Request, Standing
from tileup.engine.standard_output import say
from tileup.errors import ExitCode, InputError, NoInputError, TileupError, UsageError
from tileup.images.reading import open_picture
from tileup.model_settings import Resolved
from tileup.plan.planning import Planned, plan_picture
from tileup.storage.remote import place

log = logging.getLogger(__name__)


def plan_command(options: PlanOptions, given: Given) -> int:
    """Show plans as the flags say; returns the exit code."""
    found = resolved(options, given)
    if options.print_config:
        say(config_text(found), end="")
        return ExitCode.OK
    request = Request(options.inputs, recursive=options.recursive, heatmap=options.heatmap)
    inputs = find_inputs(request)
    many = len(inputs) > 1 or inputs[0].root is not None
    check_shape(request, inputs, many)
    jobs = [_job(each, options, found, many) for each in inputs]
    jobs = _checked(jobs, options, found)
    found.check_files()
    jobs = _without_large(jobs)
    if not jobs:
        return ExitCode.OK
    return _plan_many(jobs, options, found) if many else _plan_one(jobs[0], options, found)


def _without_large(jobs: Sequence[Job]) -> list[Job]:
    """The jobs without what `tileup upscale` would pass over, which is said."""
    for job in jobs:
        if job.standing is Standing.LARGE:
            log.log(NOTICE, "%s  %s, skipped", job.shown_input, job.standing.value)
    return [job for job in jobs if job.standing is not Standing.LARGE]


def _beside(picture: Path) -> Path:
    return picture.with_name(picture.stem + HEATMAP)


def _job(each: Input, options: PlanOptions, found: Resolved, many: bool) -> Job:
    heatmap = _heatmap_path(each, options.heatmap, many)
    seed = found.settings.seed
    placed = (each.path, None, each.relative, seed, heatmap)
    job = Job(*placed, overwrite=options.overwrite, batch=many)
    if each.refusal is not None:
        return replace(job, standing=Standing.IMPOSSIBLE, refusal=each.refusal)
    large = each.path is not None and is_large(each.path, found.settings)
    return replace(job, standing=Standing.LARGE) if large else job


def _heatmap_path(each: Input, wanted: str | None, many: bool) -> Path | None:
    if wanted is None:
        return None
    if wanted == AUTO:
        if each.path is None:
            raise UsageError("standard input has no place beside it for 'auto'; name a file")
        return _beside(each.path)
    if many and each.path is not None:
        return place(wanted) / each.below / (each.path.stem + HEATMAP)
    return place(wanted)


def _checked(jobs: Sequence[Job], options: PlanOptions, found: Resolved) -> list[Job]:
    """The jobs, of several those refused whose heatmap cannot be."""
    apart = stay_apart(jobs, jobs)
    if not options.overwrite and not jobs[0].batch:
        check_absent(jobs[0].targets)
    return writable(inputs_stay(apart, jobs, found.settings))


def _plan_one(job: Job, options: PlanOptions, found: Resolved) -> int:
    try:
        planned, row = _planned(job, found)
    except InputError as error:
        # It was the only one, so nothing is left.
        raise NoInputError(str(error)) from error
    for warning in planned.warnings:
        log.warning("%s", warning)
    if options.json:
        say(json.dumps(plan_to_dict(planned.plan, planned.cost)))
    elif not options.quiet:
        show_one(row, planned, found, known_pace(found))
    return ExitCode.OK


def _plan_many(jobs: Sequence[Job], options: PlanOptions, found: Resolved) -> int:
    """Plan what can be planned; what cannot is named."""
    rows: list[PictureRow] = []
    warned: set[str] = set()
    failed: set[ExitCode] = set()
    for job in jobs:
        try:
            planned, row = _planned(job, found)
        except TileupError as error:
            told = str(error)
            shown = job.shown_input
            log.error("%s", told if shown in told else f"{shown}: {told}")
            failed.add(error.exit_code)
            continue
        rows.append(row)
        for warning in planned.warnings:
            if warning not in warned:
                log.warning("%s", warning)
        warned.update(planned.warnings)
        if options.json:
            plan = plan_to_dict(planned.plan, planned.cost)
            say(json.dumps({"input": job.shown_input, **plan}))
    if rows and not (options.json or options.quiet):
        show_many(rows, known_pace(found))
    if not rows:
        return ExitCode.CANNOT_WRITE if failed == {ExitCode.CANNOT_WRITE} else ExitCode.NO_INPUT
    return ExitCode.SOME_FAILED if failed else ExitCode.OK


def _planned(job: Job, found: Resolved) -> tuple[Planned, PictureRow]:
    """The plan of one picture, its heatmap written where one is wanted.

    Raises:
        TileupError: it cannot be read, planned, or its heatmap written.
    """
    if job.refusal is not None:
        raise job.refusal
    limit = found.settings.max_input_pixels
    picture = open_picture(job.input or BytesIO(sys.stdin.buffer.read()), limit)
    planned = plan_picture(picture, found.spec, found.settings)
    plan = planned.plan
    if job.heatmap is not None:
        save_heatmap(job.heatmap, picture, plan, found.settings, job.overwrite)
    made = (plan.width, plan.height)
    return planned, PictureRow(job, (picture.width, picture.height), made, planned.cost)
