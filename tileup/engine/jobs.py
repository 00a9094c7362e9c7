"""What there is to do: inputs from outside become jobs, with every clash found before any work."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tileup.engine import naming
from tileup.engine.inputs import find_inputs
from tileup.engine.journals import has_journal
from tileup.engine.locks import remove_stale
from tileup.engine.output_checks import (
    check_absent,
    check_shape,
    inputs_stay,
    stay_apart,
    writable,
)
from tileup.engine.outputs import ends_as_folder, is_folder, make_job
from tileup.engine.request import STREAM, Input, Job, Request, Standing
from tileup.engine.resume import marked
from tileup.engine.shards import parse_shard
from tileup.errors import OutputError
from tileup.settings.values import Settings
from tileup.storage.remote import Remote, believing_listings, files_below, place

log = logging.getLogger(__name__)


def find_jobs(request: Request, settings: Settings, model: Path | None = None) -> list[Job]:
    """Everything there is to do, in natural order, checked as far as it can be.

    Of a request for a shard, its share, which may be empty.

    Args:
        request: what the user asked for.
        settings: of all pictures.
        model: the checkpoint's file, for telling what was made with another one.

    Raises:
        UsageError: the combination cannot be: no input has an output of its own, the only output
            would replace the input, one file for several pictures, a template with unknown fields.
        NoInputError: there is no picture among the inputs.
        OutputExistsError: the only output is there already and may not be replaced.
        OutputError: no folder can be written to.
    """
    naming.fields_of(naming.template_of(settings))
    with believing_listings():
        return _found_jobs(request, settings, model)


def _found_jobs(request: Request, settings: Settings, model: Path | None) -> list[Job]:
    found = find_inputs(request)
    many = len(found) > 1 or found[0].root is not None
    check_shape(request, found, many)
    _tell_folder(request.output, many)
    jobs = [make_job(each, request, settings, many) for each in found]
    shard = None if request.shard is None else parse_shard(request.shard)
    mine = [
        replace(job, home=_home(each, job, request))
        for each, job in zip(found, jobs, strict=True)
        if shard is None or shard.holds(each)
    ]
    _list_outputs(mine)
    mine = inputs_stay(marked(mine, request.policy, settings, model), jobs, settings)
    mine = stay_apart(mine, jobs)
    if not many and mine and mine[0].standing is Standing.NEW and not request.overwrite:
        check_absent(mine[0].targets)
    mine = writable(mine)
    for job in mine:
        if job.finished and job.output is not None and not job.decided:
            remove_stale(job.output, job.targets)
    return mine


_FEW = 8
"""Outputs that are rather looked at one by one than by a list of all that lies beside them."""


def _list_outputs(jobs: Sequence[Job]) -> None:
    """List the folders in stores that many outputs go to, in place of a look at each output.

    Raises:
        OutputError: one cannot be listed.
    """
    homes = Counter(job.home for job in jobs if isinstance(job.home, Remote))
    for home, count in homes.items():
        if count > _FEW:
            try:
                files_below(home, deep=True)
            except OSError as error:
                raise OutputError(f"{home} cannot be read: {error.strerror}") from error


def _tell_folder(output: str | None, many: bool) -> None:
    """Say that a name that could be a file's is taken for a folder's."""
    if output is None or output == STREAM or many or ends_as_folder(output):
        return
    if is_folder(output, many) and not place(output).is_dir():
        log.warning("%s has no extension, so it is taken for a folder", place(output))


def _home(each: Input, job: Job, request: Request) -> Path | None:
    """The folder whose journal a picture belongs to. One alone keeps a journal that is there."""
    if job.output is None or job.decided:
        return None
    if not job.batch:
        return next((each for each in job.output.parents if has_journal(each)), None)
    if request.output is not None:
        return place(request.output)
    return each.root or (each.path and each.path.parent)
