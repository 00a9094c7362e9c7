"""Which pictures the user means: files, folders, patterns, standard input."""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tileup.engine import naming
from tileup.engine.heatmaps import is_heatmap
from tileup.engine.own import OwnFiles
from tileup.engine.request import AUTO, STREAM, Input, Request
from tileup.errors import InputError, NoInputError, UsageError
from tileup.images.formats.known import READ_IN_WORDS, SUFFIXES
from tileup.storage.remote import Remote, files_below, place
from tileup.storage.urls import told_url

log = logging.getLogger(__name__)


def find_inputs(request: Request) -> list[Input]:
    """The pictures of a request, each once; those of a folder in natural order.

    What a folder or pattern holds besides is passed over, and said in one line.

    Raises:
        UsageError: there is no input at all.
        NoInputError: nothing among the inputs is there.
    """
    if not request.inputs:
        raise UsageError("no input given; name a picture or a folder, or - for standard input")
    search = _Search(request)
    expanded = [each for text in request.inputs for each in search.told(text)]
    found = search.without_heatmaps(search.once(expanded))
    search.passed.tell()
    reasons = [str(each.refusal) for each in found if each.refusal is not None]
    if len(reasons) == len(found):
        raise NoInputError("; ".join(reasons[:2]))
    if not any(each.path is None or _is(each.path.exists) for each in found):
        names = " and ".join(str(each.path) for each in found[:2])
        verb = "do" if len(found) > 1 else "does"
        raise NoInputError(f"{names} {verb} not exist; check the name and the folder")
    return found


class _Search:
    """Looks for the pictures of one request, and remembers what it passes over."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.passed = PassedOver()
        self._own = OwnFiles()

    def told(self, text: str) -> Iterable[Input]:
        """As `expanded`; a word among several that stands for nothing is one input that fails."""
        try:
            return self.expanded(text)
        except NoInputError as error:
            if len(self.request.inputs) == 1:
                raise
            return [Input(place(text), refusal=InputError(str(error)))]

    def expanded(self, text: str) -> Iterable[Input]:
        """The inputs that one word of the command line stands for."""
        if text == STREAM:
            return [Input(None)]
        path = place(text)
        if isinstance(path, Remote):
            return self._in_store(text, path)
        if _is(path.is_dir):
            return [Input(file, path) for file in self._pictures(path)]
        if glob.has_magic(text) and not _is(path.exists):
            return self._matching(text)
        own = _is(path.is_file) and self._goes_beside(path)
        return [Input(path, own=own and (self._is_own(path) or is_heatmap(path)))]

    def _in_store(self, text: str, path: Remote) -> Iterable[Input]:
        """The inputs that a URL stands for."""
        try:
            if path.is_dir():
                return [Input(file, path) for file in self._pictures(path)]
            if path.writable and glob.has_magic(text) and not path.exists():
                return self._matching_in_store(text)
        except OSError as error:
            raise NoInputError(f"{path} cannot be read: {error.strerror}") from error
        own = self._goes_beside(path) and path.is_file()
        return [Input(path, own=own and (self._is_own(path) or is_heatmap(path)))]

    def _matching_in_store(self, pattern: str) -> list[Input]:
        parts = place(pattern).parts
        fixed = next(count for count, part in enumerate(parts) if glob.has_magic(part))
        root = place(pattern).parents[len(parts) - fixed - 1]
        listed = _shown(root, deep="**" in parts or len(parts) > fixed + 1)
        files = [file for file in listed if _fits(file.parts[fixed:], parts[fixed:])]
        if not files:
            raise NoInputError(f"no file matches {told_url(pattern)!r}")
        return self._named(sorted(files, key=naming.natural))

    def once(self, found: Sequence[Input]) -> list[Input]:
        """Each picture once: of links to one and the same, the picture itself or the first."""
        kept: dict[Path | None, Input] = {}
        for each in found:
            place = each.path and real(each.path)
            first = kept.setdefault(place, each)
            if first is each or each.path is None or first.path is None:
                continue
            if first.path.is_symlink() and not each.path.is_symlink():
                kept[place], each = each, first
            if each.path is not None:
                self.passed.add(each.path, "named twice or linked to a picture that is taken")
        return list(kept.values())

    def without_heatmaps(self, found: list[Input]) -> list[Input]:
        """Pictures without the heatmaps among them, as a shell's `*.png` names them too.

        What is left of nothing but heatmaps is what the user named. Of folders they are out before.
        """
        named = [each for each in found if each.root is None]
        maps = [each for each in named if each.path is not None and is_heatmap(each.path)]
        if len(maps) == len(found):
            return found
        for each in maps:
            assert each.path is not None
            self.passed.add(each.path, _HEATMAP)
        return [each for each in found if each not in maps]

    def _matching(self, pattern: str) -> list[Input]:
        names = (Path(name) for name in glob.glob(_pattern(pattern), recursive=True))  # noqa: PTH207
        files = sorted((name for name in names if name.is_file()), key=naming.natural)
        if not files:
            raise NoInputError(f"no file matches {pattern!r}")
        return self._named(files)

    def _named(self, files: Sequence[Path]) -> list[Input]:
        """Files that a pattern names; outputs among them only where there is nothing else."""
        inputs = [Input(file, own=self._is_own(file)) for file in files]
        others = [each for each in inputs if not each.own]
        return others or inputs

    def _goes_beside(self, file: Path) -> bool:
        """Whether the result of a picture that was named is to lie beside it."""
        output = self.request.output
        return output is None or real(place(output)) == real(file.parent)

    def _is_own(self, file: Path) -> bool:
        """Whether a picture that was named is an output beside its input, and results go there."""
        if not self._goes_beside(file):
            return False
        return self._own.recorded(real(file), file.parent) or self._own.beside_its_input(file)

    def _pictures(self, folder: Path) -> list[Path]:
        """Pictures of a folder, without hidden files and without what tileup made itself.

        Folders below it that cannot be read are among them: each becomes one picture that fails,
        so that the others are made and the run does not end as if all were well.
        """
        unreadable: list[OSError] = []
        found = [file for file in self._files(folder, unreadable.append) if self._is_picture(file)]
        closed = [Path(error.filename) for error in unreadable]
        if folder in closed:
            raise NoInputError(f"{folder} cannot be read: {unreadable[0].strerror}")
        files = self._not_ours(found, folder) + closed
        if not files:
            deeper = "" if self.request.recursive else " (folders below it need --recursive)"
            raise NoInputError(f"no picture ({READ_IN_WORDS}) in {folder}{deeper}")
        return sorted(files, key=naming.natural)

    def _files(self, folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
        if isinstance(folder, Remote):
            yield from _shown(folder, self.request.recursive)
            return
        for here, folders, names in os.walk(folder, onerror=on_error):
            shown = [Path(here) / name for name in folders if not name.startswith(".")]
            for below in shown:
                if below.is_symlink():
                    self.passed.add(below, "linked folder")
            folders[:] = [each.name for each in shown if self.request.recursive]
            yield from (Path(here) / name for name in names if not name.startswith("."))

    def _is_picture(self, file: Path) -> bool:
        if file.suffix.lower() not in SUFFIXES or not file.is_file():
            self.passed.add(file, _kind(file))
        elif is_heatmap(file):
            self.passed.add(file, _HEATMAP)
        else:
            return True
        return False

    def _not_ours(self, files: list[Path], folder: Path) -> list[Path]:
        """Without what earlier runs made: beside the inputs, or in an output folder below them."""
        request = self.request
        made, here = real(place(request.output or folder)), real(folder)
        maps = (request.heatmap, request.plan_json)
        folders = [real(place(text)) for text in maps if text != AUTO and text]
        for below in (made, *folders):
            if below != here and below.is_relative_to(here):
                files = [file for file in files if not real(file).is_relative_to(below)]
        in_place = made == here
        return [file for file in files if not self._was_made(file, folder, in_place)]

    def _was_made(self, file: Path, folder: Path, in_place: bool) -> bool:
        """Whether a file of a folder is an output, by the journals there or by its own words.

        What lies in the folder itself counts only when outputs lie beside inputs: else the user
        wants to enlarge results once more.
        """
        homes = [parent for parent in file.parents if parent.is_relative_to(folder)]
        if not in_place:
            homes = [home for home in homes if home != folder]
        place = real(file)
        if any(self._own.recorded(place, home) for home in homes):
            return True
        return in_place and self._own.beside_its_input(file)


def _shown(folder: Path, deep: bool) -> Iterator[Remote]:
    """Files of a folder in a store, without hidden ones and those of hidden folders."""
    for file in files_below(folder, deep):
        if not any(part.startswith(".") for part in file.parts[len(folder.parts) :]):
            yield file


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a pattern names a path; `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[count:], pattern[1:]) for count in range(len(parts) + 1))
    named = bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0])
    return named and _fits(parts[1:], pattern[1:])


_HEATMAP = "drawn by --heatmap"
"""What a heatmap is to a search."""


class PassedOver:
    """What a search came by and left alone, counted by kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, path: Path, kind: str) -> None:
        """Count a file or folder; an empty kind is nothing that anybody would miss."""
        log.info("passed over %s: %s", path, kind or "not named like a picture")
        if kind:
            self._counts[kind] += 1

    def tell(self) -> None:
        """Say how many of each kind there were, where there were some."""
        if self._counts:
            parts = [f"{count} {kind}" for kind, count in self._counts.items()]
            log.warning("passed over: %s (-v names them)", ", ".join(parts))


_UNREAD = frozenset(
    {
        *("heic", "heif", "hif", "jxl", "ppm", "pgm", "pbm", "pnm", "pam", "pfm", "tga", "psd"),
        *("exr", "hdr", "dds", "ico", "svg", "pcx", "qoi", "cr2", "cr3", "nef", "nrw", "arw"),
        *("dng", "orf", "rw2", "raf", "pef", "srw", "raw"),
    }
)
"""Extensions of pictures; those that are read are taken before this is asked."""


def _kind(file: Path) -> str:
    """What a file is that is no picture that is read; empty for what nobody would take for one."""
    extension = file.suffix.lower()[1:]
    if not file.is_file():
        if file.suffix.lower() not in SUFFIXES:
            return ""
        return "no regular file" if file.exists() else "link to nothing"
    if not extension:
        return "without extension"
    return f"{extension.upper()} (not read)" if extension in _UNREAD else ""


def _pattern(text: str) -> str:
    """A pattern in which the folders that are there under just that name are taken literally."""
    head, rest = Path(), list(Path(text).parts)
    while rest and _is((head / rest[0]).exists):
        head /= rest.pop(0)
    # The end is left out by pathlib, and a pattern may end as a folder.
    tail = "/".join(rest) + ("/" if text.endswith("/") else "")
    return str(Path(glob.escape(str(head))) / tail) if head.parts else tail


def _is(question: Callable[[], bool]) -> bool:
    """The answer about a path; no for a name that the disk cannot even look for."""
    try:
        return question()
    except (OSError, ValueError):
        return False


def real(path: Path) -> Path:
    """The one name of a file, whichever way it was reached; it need not exist."""
    return path if isinstance(path, Remote) else Path(os.path.realpath(path))
