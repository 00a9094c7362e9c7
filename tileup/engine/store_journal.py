"""The journal of a folder in a store, where nothing can be appended to.

Every run writes objects of its own: so none needs to be locked, and none is written by two. A
record is added by writing the newest object of the run once more, with one more line; one that is
full is left, and another begun. All objects together are the journal.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tileup.engine.journal import Record, file_of, key_of, read_record
from tileup.errors import OutputError
from tileup.storage.remote import Remote, contents_below, put_whole
from tileup.storage.stores import Info

IN_STORE = ".tileup-journal"
"""Name of the folder of a journal."""
_FULL = 256
"""Lines of an object: so many are written again for each record, at most, and as many fewer objects
are read in a rerun."""
_AT = "at"
"""What a line calls the time of its record."""


@dataclass(frozen=True, slots=True)
class _Timed:
    """A record, and which of several of an output it is."""

    at: int
    """Nanoseconds, and later than that of any record that was known when it was made: clocks of
    several machines may differ."""
    record: Record

    def to_line(self) -> bytes:
        return json.dumps({**json.loads(self.record.to_line()), _AT: self.at}).encode() + b"\n"


class StoreJournal:
    """The records of one folder in a store, shared by all that write there."""

    def __init__(self, folder: Remote) -> None:
        """Args:
        folder: of the outputs; neither it nor the journal need be there.
        """
        self.folder: Path = folder
        self.path = folder / IN_STORE
        self._records: dict[str, _Timed] = {}
        self._read: dict[str, Info] = {}
        """What the objects were that have been read, by name."""
        self._lock = threading.Lock()
        self._run = f"{time.time_ns() // 10**6:013}-{uuid.uuid4().hex[:12]}"
        self._number = 0
        self._lines: list[bytes] = []

    def latest(self, output: Path) -> Record | None:
        """The last record of an output, those of other processes included."""
        with self._lock:
            self._catch_up()
            found = self._records.get(key_of(output, self.folder))
            return found and found.record

    def records(self) -> list[Record]:
        """The last record of each output, in the order in which they came first."""
        with self._lock:
            self._catch_up()
            return [each.record for each in self._records.values()]

    def outputs(self) -> set[Path]:
        """All files that are recorded."""
        names = (name for each in self.records() for name in (each.output, *each.also))
        return {file_of(name, self.folder) for name in names}

    def _catch_up(self) -> None:
        """Read the objects that are new, or have become longer."""
        found: list[_Timed] = []
        try:
            for file, info in contents_below(self.path).items():
                if self._read.get(file.name) != info and not file.name.startswith(self._run):
                    found += _records_in(file.read_bytes())
                    self._read[file.name] = info
        except OSError as error:
            raise OutputError(f"{self.path} cannot be read: {error.strerror}") from error
        for each in sorted(found, key=lambda each: each.at):
            self._keep(each)

    def _keep(self, found: _Timed) -> None:
        known = self._records.get(found.record.output)
        if known is None or found.at >= known.at:
            self._records[found.record.output] = found

    def append(self, record: Record) -> None:
        """Add a record, in the store when this returns; see `Ledger.append`."""
        with self._lock:
            known = self._records.get(record.output)
            timed = _Timed(max(time.time_ns(), known.at + 1 if known else 0), record)
            if len(self._lines) >= _FULL:
                self._number, self._lines = self._number + 1, []
            lines = [*self._lines, timed.to_line()]
            target = self.path / f"{self._run}-{self._number:06}.jsonl"
            try:
                put_whole(target, b"".join(lines))
            except OSError as error:
                raise OutputError(
                    f"{self.path} cannot be written ({error.strerror}); "
                    f"check the address and the rights to write there"
                ) from error
            self._lines = lines
            self._keep(timed)


def _records_in(data: bytes) -> Iterator[_Timed]:
    for line in data.splitlines():
        record = read_record(line)
        if record is not None:
            yield _Timed(_time_of(line), record)


def _time_of(line: bytes) -> int:
    try:
        return int(json.loads(line)[_AT])
    except (ValueError, LookupError, TypeError):
        return 0
