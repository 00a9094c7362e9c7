"""What must be the same on every machine of a run, asked before anything is drawn."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tileup.checkpoints.find import find_model
from tileup.engine.request import Job
from tileup.engine.resume import contents_of, named_files
from tileup.errors import ModelError
from tileup.settings.values import Settings
from tileup.storage.copies import given_file
from tileup.storage.remote import Remote, takes_turns
from tileup.storage.urls import is_url, told_url


@dataclass(frozen=True, slots=True)
class Here:
    """What every node must have, as it is where the run was started."""

    versions: Mapping[str, str]
    folder: Path
    """The working folder: relative names count from it."""
    files: Mapping[str, str]
    """Hashes of the model and of all else that the settings name, by path."""
    homes: tuple[Path, ...]
    """Folders that outputs go to."""
    source: Path | None
    """One of the inputs."""
    probe: str | None = None
    """Name of a file that lies in each of those folders just now."""


def versions() -> dict[str, str]:
    """What must be the same everywhere."""
    import ray

    from tileup import __version__

    return {"tileup": __version__, "Ray": ray.__version__, "Python": platform.python_version()}


def differences(here: Here) -> list[str]:
    """What is not here as it was where the run was started, in words. Goes to the working folder.

    Args:
        here: how it was there.
    """
    found = [
        f"{name} is {own}, and {here.versions.get(name)} where the run was started"
        for name, own in versions().items()
        if own != here.versions.get(name)
    ]
    try:
        os.chdir(here.folder)
    except OSError as error:
        if not all(path.is_absolute() for path in _paths(here)):
            return [*found, f"the working folder {here.folder} is not there ({error.strerror})"]
    for file, content in here.files.items():
        found.extend(_wrong_with_file(file, content))
    if here.source is not None and not _is_readable(here.source):
        found.append(f"the input {here.source} cannot be read")
    for home in here.homes:
        found.extend(_wrong_with(home, here.probe))
    return found


def _wrong_with_file(name: str, content: str) -> Iterator[str]:
    try:
        file = given_file(name)  # fetched now, where it lies in a store
    except ModelError as error:
        yield str(error)
        return
    if not file.exists():
        yield f"{file} is not there"
    elif contents_of(file) != content:
        yield f"{told_url(name)} is another file"


def _is_readable(source: Path) -> bool:
    if not isinstance(source, Remote):
        return os.access(source, os.R_OK)
    try:
        return source.exists()
    except OSError:
        return False


def _paths(here: Here) -> list[Path]:
    source = [] if here.source is None else [here.source]
    files = (name for name in here.files if not is_url(name))
    return [*map(Path, files), *here.homes, *source]


def _wrong_with(home: Path, probe: str | None) -> Iterator[str]:
    if probe is not None and not (home / probe).exists():
        yield f"the output folder {home} is another one, or not there"
        return
    try:
        if isinstance(home, Remote):
            takes_turns(home)
            return
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        yield f"the output folder {home} cannot be written to ({error.strerror})"


@contextlib.contextmanager
def probes(jobs: Sequence[Job]) -> Generator[str]:
    """A file in each output folder, by which nodes tell whether they see the same disk."""
    name, folders = f".tileup-{uuid.uuid4().hex}.part", homes(jobs)
    try:
        for home in folders:
            home.mkdir(parents=True, exist_ok=True)
            (home / name).touch()
        yield name
    finally:
        for home in folders:
            (home / name).unlink(missing_ok=True)


def homes(jobs: Sequence[Job]) -> tuple[Path, ...]:
    places = {job.home or job.output.parent for job in jobs if job.output is not None}
    return tuple(sorted(places))


def files_of(settings: Settings) -> dict[str, str]:
    """Hashes of the model and of the files that settings name."""
    model, name = find_model(settings.model), settings.model or ""
    named = {name if is_url(name) else str(model): model, **named_files(settings)}
    return {name: contents_of(path) for name, path in named.items() if path.exists()}
