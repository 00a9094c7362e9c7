"""What there is to do: inputs from outside become jobs, with every clash found before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tileup.engine import naming
from tileup.engine.checks import check_absent, check_clashes, check_shape, check_writable
from tileup.engine.inputs import find_inputs
from tileup.engine.locks import remove_stale
from tileup.engine.outputs import make_job
from tileup.engine.resume import marked
from tileup.engine.values import Input, Job, Request, Standing
from tileup.settings.values import Settings


def find_jobs(request: Request, settings: Settings, model: Path | None = None) -> list[Job]:
    """Everything there is to do, in natural order, checked as far as it can be.

    Args:
        request: what the user asked for.
        settings: of all pictures.
        model: the checkpoint's file, for telling what was made with another one.

    Raises:
        UsageError: the combination cannot be: two outputs of one name, an output that would
            replace an input, one file for several pictures, a template with unknown fields.
        NoInputError: there is no picture among the inputs.
        OutputExistsError: the only output is there already and may not be replaced.
        OutputError: a folder cannot be written to.
    """
    template = naming.template_of(settings)
    naming.fields_of(template)
    found = find_inputs(request, template)
    many = len(found) > 1 or found[0].root is not None
    check_shape(request, found, many)
    jobs = [make_job(each, request, settings, many) for each in found]
    check_clashes(jobs, settings)
    if many:
        homes = [
            replace(job, home=_home(each, request)) for each, job in zip(found, jobs, strict=True)
        ]
        jobs = marked(homes, request.policy, settings, model)
    elif request.skip_existing and jobs[0].output is not None and jobs[0].output.is_file():
        jobs = [replace(jobs[0], standing=Standing.PRESENT)]
    elif not request.overwrite:
        check_absent(jobs[0].targets)
    check_writable(path for job in jobs if not job.finished for path in job.targets)
    for job in jobs:
        if job.finished and job.output is not None:
            remove_stale(job.output)
    return jobs


def _home(each: Input, request: Request) -> Path | None:
    """The folder whose journal a picture belongs to."""
    if request.output is not None:
        return Path(request.output)
    return each.root or (each.path and each.path.parent)
