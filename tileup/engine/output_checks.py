"""Refusals before any work: clashing names, files already there, folders that take no file."""

from __future__ import annotations

import logging
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tileup.engine.inputs import real
from tileup.engine.outputs import ends_as_folder, is_local_folder
from tileup.engine.request import AUTO, STREAM, Input, Job, Request
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


def check_clashes(jobs: Sequence[Job], settings: Settings) -> None:
    """Refuse two files of one name, and a file that would replace an input, a mask or a map."""
    check_inputs_stay(jobs, settings)
    check_apart(jobs)


def check_apart(jobs: Sequence[Job]) -> None:
    """Refuse two files of one name."""
    owners: dict[Path, Job] = {}
    folded: dict[str, tuple[Path, Job]] = {}
    for job, path in _written(jobs):
        place = real(path)
        if place in owners:
            raise UsageError(_clash(path, owners[place], job))
        owners[place] = job
        other, first = folded.setdefault(_folded(place), (path, job))
        if other is not path and _ignores_case(place.parent):
            raise UsageError(_clash(path, first, job))


def check_inputs_stay(jobs: Sequence[Job], settings: Settings) -> None:
    """Refuse a file that would replace an input, a mask or a map."""
    drawn = [place(each) for each in (settings.mask, settings.denoise_map) if each]
    inputs = {real(path): path for path in [*(job.input for job in jobs if job.input), *drawn]}
    for job, path in _written(jobs):
        # One of several that is there already is left alone, whatever else it is.
        if real(path) in inputs and not (job.batch and job.finished):
            raise UsageError(
                f"{path} would replace the input {inputs[real(path)]}; choose another name"
            )


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
        f"{first.shown_input} and {second.shown_input} would both be written to {path}; "
        f"{_told_apart(first.input, second.input)}"
    )


def _told_apart(first: Path | None, second: Path | None) -> str:
    """What gives two inputs outputs of their own."""
    if first is None or second is None or first.stem != second.stem:
        return "put {stem} into --name"
    if first.absolute().parent.name != second.absolute().parent.name:
        return "tell them apart with --name, such as --name '{parent}_{stem}.{ext}'"
    return "leave --format away, or run them one after the other with different --suffix"


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


def check_writable(paths: Iterable[Path]) -> None:
    """Find out, before any work, whether files can be made at these places.

    Raises:
        OutputError: a folder cannot be written to, or a path names a folder.
    """
    folders: set[Path] = set()
    buckets: set[tuple[str, ...]] = set()
    for path in paths:
        if isinstance(path, Remote):
            if path.parts[:2] not in buckets:
                buckets.add(path.parts[:2])
                check_store(path.parent)
            continue
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file in it")
        folders.add(path.parent)
    for folder in sorted(folders):
        _check_folder(folder)


def check_store(folder: Remote) -> None:
    """Find out whether a store takes files, and lets runs take turns.

    Raises:
        OutputError: it takes none.
    """
    try:
        if not takes_turns(folder):
            log.warning("%s: this store has no conditional writes, so run one process", folder)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def _check_folder(folder: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=_nearest(folder)):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
