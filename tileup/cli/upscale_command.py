"""The work of `tileup upscale`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tileup.cli.console import NOTICE
from tileup.cli.dry_run import show_intentions
from tileup.cli.flags import config_text, resolved
from tileup.cli.options import UpscaleOptions
from tileup.cli.pace import note_pace
from tileup.cli.parameters import Given
from tileup.cli.progress import Reporter
from tileup.engine.engine import Team, engine_named
from tileup.engine.jobs import find_jobs
from tileup.engine.models import loaded
from tileup.engine.outcomes import Outcome, exit_code
from tileup.engine.outputs import foreseen
from tileup.engine.request import Job, Request
from tileup.engine.resume import counted
from tileup.engine.standard_output import say
from tileup.errors import ExitCode, UsageError
from tileup.model_settings import Resolved
from tileup.plan.edits import read_drawn

log = logging.getLogger(__name__)


def upscale_command(options: UpscaleOptions, given: Given) -> int:
    """Enlarge pictures as the flags say; returns the exit code."""
    found = resolved(options, given)
    if options.overwrite and options.skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; leave one away")
    engine = engine_named(options.engine)
    team = Team(options.workers, options.address, options.gpus_per_worker)
    if options.print_config:
        say(config_text(found), end="")
        return ExitCode.OK
    jobs = find_jobs(_request(options), found.settings, found.model)
    found.check_files()  # refused now, not when the model is loaded
    read_drawn(found.settings)
    if options.dry_run:
        return show_intentions([foreseen(job, found.settings) for job in jobs], options.json)
    if not jobs:
        log.log(NOTICE, "no picture is of shard %s", options.shard)
        return ExitCode.OK
    _check_standard_output(jobs, options.json)
    draw = partial(engine, team=team, fail_fast=options.fail_fast)
    outcomes = _run(jobs, found, options, draw)
    if options.engine == "local" and options.workers in (None, 1):  # beside others, each is slower
        note_pace(found, outcomes)
    return exit_code(outcomes)


def _run(
    jobs: Sequence[Job],
    found: Resolved,
    options: UpscaleOptions,
    draw: Callable[..., Iterator[Outcome]],
) -> Sequence[Outcome]:
    """Make the pictures, and tell the user about it."""
    silent = options.quiet or options.no_progress or options.json
    reporter = Reporter(jobs, found.settings, json_lines=options.json, progress=not silent)
    if len(jobs) > 1 and (standing := counted(jobs)):
        log.log(NOTICE, "%d pictures: %s", len(jobs), standing)
    load = partial(loaded, found.model)
    with reporter:
        outcomes = list(draw(jobs, found.settings, load, reporter.event))
    reporter.close_with(outcomes)
    return outcomes


def _request(options: UpscaleOptions) -> Request:
    return Request(
        inputs=options.inputs,
        output=options.output,
        recursive=options.recursive,
        heatmap=options.heatmap,
        plan_json=options.plan_json,
        overwrite=options.overwrite,
        skip_existing=options.skip_existing,
        retry_failed=options.retry_failed,
        shard=options.shard,
    )


def _check_standard_output(jobs: Sequence[Job], json_lines: bool) -> None:
    if all(job.output is not None for job in jobs):
        return
    if json_lines:
        raise UsageError("--json and a picture cannot both go to standard output; give -o FILE")
    if sys.stdout.isatty():
        raise UsageError("a picture is not written to a terminal; give -o FILE, or a pipe")
