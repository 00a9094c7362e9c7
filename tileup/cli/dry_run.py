"""What `tileup upscale --dry-run` shows: what would be made and what would be left alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tileup.cli.tables import print_text
from tileup.engine.request import Job, Standing
from tileup.engine.standard_output import say
from tileup.errors import ExitCode


def show_intentions(jobs: Sequence[Job], json_lines: bool) -> int:
    """Print a line for each picture; returns 1 where some will not be there, else 0."""
    for job in jobs:
        if json_lines:
            say(json.dumps(_values(job)))
        else:
            print_text(_line(job))
    refused = any(job.refusal is not None for job in jobs)
    return ExitCode.SOME_FAILED if refused else ExitCode.OK


def _line(job: Job) -> str:
    target = "" if job.decided else f" -> {job.shown_output}"
    why = f": {job.refusal}" if job.standing is Standing.IMPOSSIBLE else ""
    return f"{job.shown_input}{target}  {job.standing.value}{why}"


def _values(job: Job) -> dict[str, object]:
    return {
        "input": job.shown_input,
        "output": None if job.decided else job.shown_output,
        "standing": job.standing.value,
        "finished": job.finished,
        "error": None if job.refusal is None else str(job.refusal),
    }
