"""What became of each picture, kept beside the outputs: lines of JSON, only ever appended to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import stat
import threading
import typing
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tileup.errors import OutputError
from tileup.storage.remote import Remote, held, place
from tileup.storage.urls import is_url

NAME = ".tileup-journal.jsonl"
"""Name of a journal; hidden, so that folders of pictures look as they should."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one content of a file from another."""

    size: int
    """Bytes."""
    changed: int
    """Time of the last change, nanoseconds. In a store, a number that stands for the ETag; 0 where
    there is none, and then only the digest counts."""
    digest: str
    """BLAKE2 of the content, hexadecimal."""

    def fits(self, path: Path) -> bool:
        """Whether a file has this content; it is read only when its time has changed."""
        try:
            there = path.stat()
            if not stat.S_ISREG(there.st_mode) or there.st_size != self.size:
                return False
            if there.st_mtime_ns == self.changed and self.changed:
                return True
            return _digest(path) == self.digest
        except OSError:
            return False


def fingerprint_of(path: Path) -> Fingerprint | None:
    """The mark of a regular file; None where there is none that can be read."""
    try:
        with held(path):
            there = path.stat()
            if not stat.S_ISREG(there.st_mode):
                return None
            return Fingerprint(there.st_size, there.st_mtime_ns, _digest(path))
    except (OSError, ValueError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one picture."""

    output: str
    """Path of the output below the journal's folder, parts joined by `/`."""
    input: str
    """The input, as it was named."""
    outcome: str
    """done or failed."""
    settings: str
    """Hash of all that decides what the picture becomes, besides the input."""
    source: Fingerprint | None
    """The input; None where it could not be read."""
    result: Fingerprint | None = None
    """The output, where it is done."""
    also: tuple[str, ...] = ()
    """Heatmap and plan that were written with it."""
    seconds: float = 0.0
    """From planning to the last file written."""
    error: str | None = None
    """Why it failed."""
    code: int = 0
    """Exit code of that error."""
    drawn: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings with which it was drawn, those at their defaults left out; files as they were named.
    Empty in records of versions that told none."""
    computed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Settings by name that say how a CPU computed it, where these leave that open: on another
    machine they may mean another way, and another picture."""

    def to_line(self) -> bytes:
        """As the journal holds it."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"


def read_record(line: bytes) -> Record | None:
    """A record of one line; None for what is no record, such as the end of a torn write."""
    try:
        content: Any = {"drawn": {}, "computed": {}} | json.loads(line)
        values = {name: content[name] for name in _HINTS}
        for name in ("source", "result"):
            values[name] = None if values[name] is None else Fingerprint(**values[name])
        values["also"] = tuple(values["also"])
        return Record(**values) if isinstance(values["output"], str) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


_HINTS = typing.get_type_hints(Record)


def key_of(output: Path, folder: Path) -> str:
    """What a record calls an output, the same on disks that spell accents in another way."""
    if isinstance(output, Remote) or isinstance(folder, Remote):
        below = output.is_relative_to(folder)
        return unicodedata.normalize("NFC", str(output.relative_to(folder) if below else output))
    relative = os.path.relpath(os.path.realpath(output), os.path.realpath(folder))
    return unicodedata.normalize("NFC", Path(relative).as_posix())


def file_of(name: str, folder: Path) -> Path:
    """The file that a record calls so."""
    return place(name) if is_url(name) or Path(name).is_absolute() else folder / name


class Ledger(Protocol):
    """Where a finished picture is put on record."""

    @property
    def folder(self) -> Path:
        """Of the outputs."""
        ...

    def append(self, record: Record) -> None:
        """Add a record, there for good when this returns.

        Raises:
            OutputError: it cannot be written.
        """
        ...


class Journal:
    """The records of one folder, shared by all threads and processes that write there."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: of the outputs; neither it nor the journal need be there.
        """
        self.folder = folder
        self.path = folder / NAME
        self._records: dict[str, Record] = {}
        self._read = 0
        self._lock = threading.Lock()

    def latest(self, output: Path) -> Record | None:
        """The last record of an output, those of other processes included."""
        with self._lock:
            self._catch_up()
            return self._records.get(key_of(output, self.folder))

    def records(self) -> list[Record]:
        """The last record of each output, in the order in which they came first."""
        with self._lock:
            self._catch_up()
            return list(self._records.values())

    def outputs(self) -> set[Path]:
        """All files that are recorded, by their real paths."""
        with self._lock:
            self._catch_up()
            here = Path(os.path.realpath(self.folder))
            names = (name for each in self._records.values() for name in (each.output, *each.also))
            files = (file_of(name, here) for name in names)
            return {
                each if isinstance(each, Remote) else Path(os.path.normpath(each)) for each in files
            }

    def _catch_up(self) -> None:
        """Read what was appended since the last time; a line still being written is left."""
        try:
            if self.path.stat().st_size <= self._read:
                return
            with self.path.open("rb") as stream:
                stream.seek(self._read)
                data = stream.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"{self.path} cannot be read: {error.strerror}") from error
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            record = read_record(line)
            if record is not None:
                self._records[record.output] = record

    def append(self, record: Record) -> None:
        """Add a record, on the disk when this returns; see `Ledger.append`."""
        with self._lock:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                _append(self.path, record.to_line())
            except OSError as error:
                raise OutputError(
                    f"{self.path} cannot be written ({error.strerror}); "
                    f"check the folder, its permissions and the free space"
                ) from error


def _append(path: Path, line: bytes) -> None:
    """One write, so that lines of several processes do not mix."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        size = os.fstat(file).st_size
        if size:
            # A write torn by a full disk or a kill must not take this line with it.
            os.lseek(file, size - 1, os.SEEK_SET)
            line = line if os.read(file, 1) == b"\n" else b"\n" + line
        while line:
            line = line[os.write(file, line) :]
        os.fsync(file)
    finally:
        os.close(file)
