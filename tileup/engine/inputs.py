"""Which pictures the user means: files, folders, patterns, standard input."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tileup.engine import journal, naming
from tileup.engine.values import AUTO, STREAM, Input, Request
from tileup.errors import NoInputError, UsageError
from tileup.images.formats import READ_IN_WORDS, SUFFIXES

log = logging.getLogger(__name__)


def find_inputs(request: Request, template: str) -> list[Input]:
    """The pictures of a request, each once; those of a folder in natural order.

    Args:
        request: what the user asked for.
        template: how outputs are named, so that a folder's own outputs are passed over.

    Raises:
        UsageError: there is no input at all.
        NoInputError: nothing among the inputs is there.
    """
    if not request.inputs:
        raise UsageError("no input given; name a picture or a folder, or - for standard input")
    found: dict[Path | None, Input] = {}
    for text in request.inputs:
        for each in _expanded(text, request, template):
            found.setdefault(each.path and real(each.path), each)
    result = list(found.values())
    if not any(each.path is None or _is(each.path.exists) for each in result):
        names = " and ".join(str(each.path) for each in result[:2])
        verb = "do" if len(result) > 1 else "does"
        raise NoInputError(f"{names} {verb} not exist; check the name and the folder")
    return result


def _expanded(text: str, request: Request, template: str) -> Iterable[Input]:
    """The inputs that one word of the command line stands for."""
    if text == STREAM:
        return [Input(None)]
    path = Path(text)
    if _is(path.is_dir):
        return [Input(file, path) for file in _pictures(path, request, template)]
    if glob.has_magic(text) and not _is(path.exists):
        return _matching(text)
    return [Input(path)]


def _is(question: Callable[[], bool]) -> bool:
    """The answer about a path; no for a name that the disk cannot even look for."""
    try:
        return question()
    except (OSError, ValueError):
        return False


def _matching(pattern: str) -> list[Input]:
    names = (Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
    files = sorted((name for name in names if name.is_file()), key=naming.natural)
    if not files:
        raise NoInputError(f"no file matches {pattern!r}")
    return [Input(file) for file in files]


def _pictures(folder: Path, request: Request, template: str) -> list[Path]:
    """Pictures of a folder, without hidden files and without what tileup made itself.

    Folders below it that cannot be read are among them: each becomes one picture that fails,
    so that the others are made and the run does not end as if all were well.
    """
    unreadable: list[OSError] = []
    found = list(_files(folder, request.recursive, unreadable.append))
    closed = [Path(error.filename) for error in unreadable]
    if folder in closed:
        raise NoInputError(f"{folder} cannot be read: {unreadable[0].strerror}")
    files = _not_ours([file for file in found if _is_picture(file)], folder, request, template)
    files += closed
    if not files:
        deeper = "" if request.recursive else " (folders below it need --recursive)"
        raise NoInputError(f"no picture ({READ_IN_WORDS}) in {folder}{deeper}")
    return sorted(files, key=naming.natural)


def _files(folder: Path, recursive: bool, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    for here, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        yield from (Path(here) / name for name in names if not name.startswith("."))


def _is_picture(file: Path) -> bool:
    if file.suffix.lower() in SUFFIXES and file.is_file():
        return True
    log.info("passed over %s: not named like a picture", file)
    return False


def _not_ours(files: list[Path], folder: Path, request: Request, template: str) -> list[Path]:
    """Without what earlier runs made: beside the inputs, or in an output folder below them."""
    made, here = real(Path(request.output or folder)), real(folder)
    folders = [
        real(Path(text)) for text in (request.heatmap, request.plan_json) if text != AUTO and text
    ]
    for below in (made, *folders):
        if below != here and below.is_relative_to(here):
            files = [file for file in files if not real(file).is_relative_to(below)]
    recorded = _recorded(files, folder, in_place=made == here)
    files = [file for file in files if real(file) not in recorded]
    if made != here:
        return files
    is_own = naming.own_output(template, files)
    return [file for file in files if not is_own(file)]


def _recorded(files: Iterable[Path], folder: Path, in_place: bool) -> set[Path]:
    """Outputs of earlier runs into folders below, by their journals.

    The journal of the folder itself counts only when outputs lie beside inputs: else the user
    wants to enlarge results once more.
    """
    homes = {parent for file in files for parent in file.parents if parent.is_relative_to(folder)}
    if not in_place:
        homes.discard(folder)
    homes = {home for home in homes if (home / journal.NAME).is_file()}
    return {path for home in homes for path in journal.Journal(home).outputs()}


def real(path: Path) -> Path:
    """The one name of a file, whichever way it was reached; it need not exist."""
    return Path(os.path.realpath(path))
