"""What `tileup upscale --dry-run` shows: what would be made and what would be left alone."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tileup.cli.tables import print_text
from tileup.engine.outcomes import Outcome, exit_code
from tileup.engine.request import Job, Standing
from tileup.engine.standard_output import say


def show_intentions(jobs: Sequence[Job], json_lines: bool) -> int:
    """Print a line for each picture; returns the exit code of a run in which all else goes well."""
    for job in jobs:
        if json_lines:
            say(json.dumps(_values(job)))
        else:
            print_text(_line(job))
    return exit_code([_outcome(job) for job in jobs])


def _outcome(job: Job) -> Outcome:
    return Outcome(job, "done" if job.refusal is None else "failed", error=job.refusal)


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
