"""What there is to do: inputs from outside become jobs, with every clash found before any work."""

from __future__ import annotations

from dataclasses import replace

from tileup.engine import naming
from tileup.engine.checks import check_absent, check_clashes, check_shape, check_writable
from tileup.engine.inputs import find_inputs
from tileup.engine.outputs import make_job
from tileup.engine.values import Job, Request
from tileup.settings import Settings


def find_jobs(request: Request, settings: Settings) -> list[Job]:
    """Everything there is to do, in natural order, checked as far as it can be.

    Raises:
        UsageError: the combination cannot be: two outputs of one name, an output that would
            replace an input, one file for several pictures, a template with unknown fields.
        NoInputError: there is no picture among the inputs.
        OutputExistsError: the only output is there already and may not be replaced.
        OutputError: a folder cannot be written to.
    """
    naming.fields_of(settings.name)
    found = find_inputs(request, settings.name)
    many = len(found) > 1 or found[0].root is not None
    check_shape(request, found, many)
    jobs = [make_job(each, request, settings, many) for each in found]
    check_clashes(jobs, settings)
    if many:
        jobs = [_marked(job) for job in jobs]
    elif not request.overwrite:
        check_absent(jobs[0].targets)
    check_writable(path for job in jobs if not job.finished for path in job.targets)
    return jobs


def _marked(job: Job) -> Job:
    there = job.output is not None and job.output.exists()
    return replace(job, finished=there and not job.overwrite)
