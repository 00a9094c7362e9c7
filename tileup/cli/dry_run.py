"""What `tileup upscale --dry-run` shows: what would be made and what would be left alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer

from tileup.cli.tables import print_text
from tileup.engine.values import Job, Standing
from tileup.errors import ExitCode


def show_intentions(jobs: Sequence[Job], json_lines: bool) -> int:
    """Print a line for each picture; returns 1 where failures are on record, else 0."""
    for job in jobs:
        if json_lines:
            typer.echo(json.dumps(_values(job)))
        else:
            print_text(f"{job.shown_input} -> {job.shown_output}  {job.standing.value}")
    failed = any(job.standing is Standing.FAILED for job in jobs)
    return ExitCode.SOME_FAILED if failed else ExitCode.OK


def _values(job: Job) -> dict[str, object]:
    return {
        "input": job.shown_input,
        "output": job.shown_output,
        "standing": job.standing.value,
        "finished": job.finished,
        "error": job.past_error,
    }
