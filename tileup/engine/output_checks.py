"""Refusals before any work: clashing names, files already there, folders that take no file."""

from __future__ import annotations

import logging
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tileup.engine.inputs import real
from tileup.engine.outputs import ends_as_folder, is_local_folder
from tileup.engine.request import AUTO, STREAM, Input, Job, Request, Standing
from tileup.errors import OutputError, OutputExistsError, UsageError
from tileup.images.formats.known import SUFFIXES
from tileup.settings.values import Settings
from tileup.storage.remote import Remote, is_there, place, takes_turns

log = logging.getLogger(__name__)


def check_shape(request: Request, found: Sequence[Input], many: bool) -> None:
    """Refuse one file, or one stream, for several pictures."""
    if not many:
        return
    if any(each.path is None for each in found):
        raise UsageError("standard input (-) cannot be combined with other inputs")
    if request.output == STREAM:
        raise UsageError("standard output takes one picture; give a folder with -o FOLDER/")
    for text in (request.output, request.heatmap, request.plan_json):
        if text is not None and text != AUTO:
            _check_may_be_folder(text)


def _check_may_be_folder(text: str) -> None:
    path = place(text)
    if isinstance(path, Remote):
        if not path.writable:
            raise UsageError(f"{path}: a web address is only read; write to s3:// or gs://")
    elif path.is_dir():
        return
    elif path.exists():
        raise UsageError(f"{path} is a file, and several pictures need a folder")
    if path.suffix.lower() in SUFFIXES | {".json"} and not ends_as_folder(text):
        raise UsageError(
            f"{path} is named like a file, and several pictures need a folder; "
            f"write {path}/ if it shall be one"
        )


def stay_apart(mine: Sequence[Job], jobs: Sequence[Job]) -> list[Job]:
    """The jobs, those refused whose files another one would write too.

    All of those are refused, in every share alike, because none is more wanted than the other;
    what is there already stays.

    Args:
        mine: what is to be made.
        jobs: of all inputs, those of other shards too.

    Raises:
        UsageError: that is all of the inputs, or one would write two of its files to one place.
    """
    clashes = _clashes(jobs)
    if clashes and all(job.decided or job.input in clashes for job in jobs):
        raise next(iter(clashes.values()))
    return [
        replace(job, standing=Standing.IMPOSSIBLE, refusal=clashes[job.input])
        if job.input in clashes and not job.finished
        else job
        for job in mine
    ]


def _clashes(jobs: Sequence[Job]) -> dict[Path | None, UsageError]:
    """By input, why it cannot have the files it would write."""
    owners: dict[Path, Job] = {}
    folded: dict[str, tuple[Path, Job]] = {}
    clashes: dict[Path | None, UsageError] = {}

    def clash(path: Path, first: Job, second: Job) -> None:
        told = UsageError(_clash(path, first, second))
        if first is second:
            raise told
        for job in (first, second):
            clashes.setdefault(job.input, told)

    for job, path in _written(jobs):
        place = real(path)
        if place in owners:
            clash(path, owners[place], job)
            continue
        owners[place] = job
        other, first = folded.setdefault(_folded(place), (path, job))
        if other is not path and _ignores_case(place.parent):
            clash(path, first, job)
    return clashes


def inputs_stay(mine: Sequence[Job], jobs: Iterable[Job], settings: Settings) -> list[Job]:
    """The jobs, of several those refused that would replace an input, a mask or a map.

    Args:
        mine: what is to be made.
        jobs: of all inputs, those of other shards too.
        settings: of the run.

    Raises:
        UsageError: the only picture would.
    """
    drawn = [place(each) for each in (settings.mask, settings.denoise_map) if each]
    inputs = {real(path): path for path in [*(job.input for job in jobs if job.input), *drawn]}
    return [_kept_from(job, inputs) for job in mine]


def _kept_from(job: Job, inputs: Mapping[Path, Path]) -> Job:
    for _, path in _written([job]):
        # One of several that is there already is left alone, whatever else it is.
        if real(path) not in inputs or (job.batch and job.finished):
            continue
        told = UsageError(
            f"{path} would replace the input {inputs[real(path)]}; choose another name"
        )
        if not job.batch:
            raise told
        return replace(job, standing=Standing.IMPOSSIBLE, refusal=told)
    return job


def _written(jobs: Sequence[Job]) -> Iterator[tuple[Job, Path]]:
    return ((job, path) for job in jobs if not job.decided for path in job.targets)


def _folded(path: Path) -> str:
    """A name as disks see it that know no case and one spelling of accents."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _ignores_case(folder: Path) -> bool:
    """Whether `a.png` and `A.png` are one file in a folder that need not be there yet."""
    if isinstance(folder, Remote):
        return False
    try:
        with tempfile.NamedTemporaryFile(prefix=".tileup-case-", dir=_nearest(folder)) as probe:
            path = Path(probe.name)
            return path.with_name(path.name.upper()).exists()
    except OSError:
        return False  # told by the check whether files can be made there


def _clash(path: Path, first: Job, second: Job) -> str:
    if first is second:
        return f"{path} is asked for twice; give picture, heatmap and plan names of their own"
    return (
        f"{path} would be written for both {first.shown_input} and {second.shown_input}; "
        f"{_told_apart(first.input, second.input)}"
    )


def _told_apart(first: Path | None, second: Path | None) -> str:
    """What gives two inputs outputs of their own."""
    if first is None or second is None or first.stem != second.stem:
        return "put {stem} into --name"
    if first.absolute().parent.name != second.absolute().parent.name:
        return "tell them apart with --name, such as --name '{parent}_{stem}.{ext}'"
    return (
        "rename one, leave --format away if it is given, or run them one after the other with"
        " different --suffix"
    )


def check_absent(paths: Iterable[Path]) -> None:
    """Refuse to replace files.

    Raises:
        OutputExistsError: one of them is there.
    """
    for path in paths:
        if is_local_folder(path):
            raise OutputError(f"{path} is a folder; name a file in it")
        if is_there(path):
            raise OutputExistsError(
                f"{path} is there already; use --overwrite, or name another output"
            )


def writable(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, those refused whose files cannot be made; found out before any work.

    Raises:
        OutputError: that is all of them.
    """
    folders: dict[object, Path] = {}
    for path in (path for job in jobs if not job.finished for path in job.targets):
        folders.setdefault(_space(path), path.parent)
    told = {space: error for space, folder in folders.items() if (error := _closed(folder))}
    checked = [_where_it_can_be(job, told) for job in jobs]
    refused = next((each.refusal for each in checked if each.standing is Standing.IMPOSSIBLE), None)
    if told and refused is not None and all(each.finished for each in checked):
        raise refused
    return checked


def _space(path: Path) -> object:
    """What takes a file or does not: its folder, or the bucket of a store."""
    return path.parts[:2] if isinstance(path, Remote) else path.parent


def _where_it_can_be(job: Job, told: Mapping[object, OutputError]) -> Job:
    spaces = () if job.finished else map(_space, job.targets)
    error = next((told[each] for each in spaces if each in told), None)
    return job if error is None else replace(job, standing=Standing.IMPOSSIBLE, refusal=error)


def _closed_store(folder: Remote) -> OutputError | None:
    """Why a store takes no file; what says besides where it does not let runs take turns."""
    try:
        if not takes_turns(folder):
            log.warning("%s: this store has no conditional writes, so run one process", folder)
    except OSError as error:
        return OutputError(f"cannot write to {folder}: {error.strerror}")
    return None


def _closed(folder: Path) -> OutputError | None:
    """Why no file can be made in a folder; None where it can."""
    if isinstance(folder, Remote):
        return _closed_store(folder)
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)):
            return None
    except OSError as error:
        return OutputError(f"cannot write to {folder}: {error.strerror}")


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
