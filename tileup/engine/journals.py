"""Where records are kept: on a disk in one file, in a store in many objects."""

from __future__ import annotations

from pathlib import Path

from tileup.engine.journal import NAME, Journal
from tileup.engine.request import Job
from tileup.engine.store_journal import IN_STORE, StoreJournal
from tileup.storage.remote import Remote


def has_journal(folder: Path) -> bool:
    """Whether a folder has a journal."""
    if isinstance(folder, Remote):
        return folder.in_store and folder.writable and (folder / IN_STORE).is_dir()
    return (folder / NAME).is_file()


def journal_at(folder: Path) -> Journal | StoreJournal:
    """The journal of a folder, which need not be there."""
    return StoreJournal(folder) if isinstance(folder, Remote) else Journal(folder)


class Journals:
    """The journals of a run, each read once. It holds what was read, so it is no value."""

    def __init__(self) -> None:
        self._found: dict[Path, Journal | StoreJournal] = {}

    def of(self, job: Job) -> Journal | StoreJournal | None:
        """The journal that knows a job's output; None for a picture alone."""
        if job.home is None or job.output is None:
            return None
        return self._found.setdefault(job.home, journal_at(job.home))
