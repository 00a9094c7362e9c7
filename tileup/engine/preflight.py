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
from tileup.settings.values import Settings


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
        if not all(map(Path.is_absolute, _paths(here))):
            return [*found, f"the working folder {here.folder} is not there ({error.strerror})"]
    for file, content in here.files.items():
        if not Path(file).exists():
            found.append(f"{file} is not there")
        elif contents_of(Path(file)) != content:
            found.append(f"{file} is another file")
    if here.source is not None and not os.access(here.source, os.R_OK):
        found.append(f"the input {here.source} cannot be read")
    for home in here.homes:
        found.extend(_wrong_with(home, here.probe))
    return found


def _paths(here: Here) -> list[Path]:
    source = [] if here.source is None else [here.source]
    return [*map(Path, here.files), *here.homes, *source]


def _wrong_with(home: Path, probe: str | None) -> Iterator[str]:
    if probe is not None and not (home / probe).exists():
        yield f"the output folder {home} is another one, or not there"
        return
    try:
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
    model = find_model(settings.model)
    named = [model, *named_files(settings)]
    return {str(path): contents_of(path) for path in named if path.exists()}
