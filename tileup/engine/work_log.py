"""What a run has worked out, in a file beside its output: one that was stopped goes through it.

A sampler's next step follows from what it was answered before, whichever it is, so its answers are
all that a rerun needs to be where the stopped run was, to the bit. A record that is cut or that the
disk lost has another checksum than it says, and ends what there is.
"""

from __future__ import annotations

import io
import logging
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

_HEAD = 64
"""Bytes in front of the records, which say what they are of."""
_RECORD = struct.Struct("<QI")
"""In front of each record: its bytes, and their checksum."""


class WorkLog:
    """Arrays in the order in which they were worked out; satisfies `WorkedOut`.

    Whoever makes one holds the lock of the output. Where the disk does not take more, what is
    there stays, and the run goes on without.

    Args:
        path: of the file. It comes into being with the first array.
        key: of all that decides the arrays: those that are there count if theirs is the same.
        spare: bytes of the disk that are left to others.
    """

    def __init__(self, path: Path, key: str, spare: int = 0) -> None:
        self.path, self.spare = path, spare
        self._head = f"tileup {key}".encode().ljust(_HEAD)[:_HEAD]
        self._end = _HEAD if self._is_ours() else 0
        """Where the next record begins; 0: there is no file of ours."""
        self.known = self._end > 0
        """Whether all that was asked for was there so far."""
        self._full = False

    def take(self) -> NDArray[Any] | None:
        """The next array that is there; None, now and from now on: there are no more."""
        if not self.known:
            return None
        try:
            with self.path.open("rb") as stream:
                if self._end == _HEAD:
                    log.info("going on from what is kept in %s", self.path)
                stream.seek(self._end)
                found = _read(stream)
                self._end = stream.tell() if found is not None else self._end
        except OSError:
            found = None
        self.known = found is not None
        return found

    def add(self, numbers: NDArray[Any]) -> None:
        """One more, once there are no more to take."""
        if self._full:
            return
        data = _packed(numbers)
        try:
            if shutil.disk_usage(self.path.parent).free < len(data) + self.spare:
                raise OSError("the disk has no room")
            with self.path.open("r+b" if self._end else "wb") as stream:
                if not self._end:
                    log.info("what is worked out is kept in %s", self.path)
                    stream.write(self._head)
                stream.seek(self._end or _HEAD)
                stream.truncate()
                stream.write(data)
                stream.flush()
                self._end = stream.tell()
        except OSError as error:
            self._full = True
            kept = "nothing more" if self._end else "nothing"
            later = "goes on from there" if self._end else "begins anew"
            log.warning(
                "%s: %s is kept there (%s); the picture is made all the same, and a run that is "
                "stopped %s",
                self.path,
                kept,
                error.strerror or error,
                later,
            )

    def _is_ours(self) -> bool:
        try:
            with self.path.open("rb") as stream:
                return stream.read(_HEAD) == self._head
        except OSError:
            return False


def _packed(numbers: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(numbers), allow_pickle=False)
    data = stream.getvalue()
    return _RECORD.pack(len(data), zlib.crc32(data)) + data


def _read(stream: BinaryIO) -> NDArray[Any] | None:
    """The record that begins here; None: there is no whole one."""
    try:
        size, checksum = _RECORD.unpack(stream.read(_RECORD.size))
        data = stream.read(size)
        if len(data) < size or zlib.crc32(data) != checksum:
            return None
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (struct.error, ValueError, OverflowError, MemoryError):
        return None
