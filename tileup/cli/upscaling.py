"""The work of `tileup upscale`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from typing import cast

import typer

from tileup.cli.console import NOTICE
from tileup.cli.flags import Given, config_text, resolved
from tileup.cli.intentions import show_intentions
from tileup.cli.progress import Reporter
from tileup.contracts import Model
from tileup.engine.jobs import find_jobs
from tileup.engine.local import run
from tileup.engine.outcomes import exit_code
from tileup.engine.resume import counted
from tileup.engine.values import Job, Request
from tileup.enlarge.enlargers import SHARED
from tileup.errors import UsageError
from tileup.plan.edits import read_drawn
from tileup.resolving import Resolved
from tileup.settings.values import Settings

log = logging.getLogger(__name__)


def upscale_command(given: Given) -> int:
    """Enlarge pictures as the flags say; returns the exit code."""
    found = resolved(given)
    if given["overwrite"] and given["skip_existing"]:
        raise UsageError("--overwrite and --skip-existing contradict each other; leave one away")
    if given["print_config"]:
        typer.echo(config_text(found), nl=False)
        return 0
    jobs = find_jobs(_request(given), found.settings, found.model)
    read_drawn(found.settings)  # refused now, not when the model is loaded
    if given["dry_run"]:
        return show_intentions(jobs, bool(given["json"]))
    _check_standard_output(jobs, bool(given["json"]))
    reporter = Reporter(
        jobs,
        found.settings,
        json_lines=bool(given["json"]),
        bar=not (given["quiet"] or given["no_progress"] or given["json"]),
    )
    standing = counted(jobs)
    if standing:
        log.log(NOTICE, "%d pictures: %s", len(jobs), standing)
    with reporter:
        outcomes = list(
            run(
                jobs,
                found.settings,
                partial(_load, found),
                reporter.event,
                fail_fast=bool(given["fail_fast"]),
            )
        )
    reporter.close_with(outcomes)
    return exit_code(outcomes)


def _request(given: Given) -> Request:
    return Request(
        inputs=tuple(cast("Sequence[str] | None", given["inputs"]) or ()),
        output=cast("str | None", given["output"]),
        recursive=bool(given["recursive"]),
        heatmap=cast("str | None", given["heatmap"]),
        plan_json=cast("str | None", given["plan_json"]),
        overwrite=bool(given["overwrite"]),
        skip_existing=bool(given["skip_existing"]),
        retry_failed=bool(given["retry_failed"]),
    )


def _check_standard_output(jobs: Sequence[Job], json_lines: bool) -> None:
    if all(job.output is not None for job in jobs):
        return
    if json_lines:
        raise UsageError("--json and a picture cannot both go to standard output; give -o FILE")
    if sys.stdout.isatty():
        raise UsageError("a picture is not written to a terminal; give -o FILE, or a pipe")


def _load(found: Resolved, settings: Settings) -> Model:
    # Imported here because this is where torch comes in.
    from tileup.checkpoints.load import load_model

    SHARED.of(settings)  # a file that is no upscaler ends the run, as one that is no model does
    return load_model(found.model, settings)
