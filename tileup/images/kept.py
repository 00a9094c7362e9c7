"""Finished rows of a large picture, in a file until all of them are there.

So they need no memory, and a run that is stopped, however that happens, leaves them for the next.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tileup.errors import OutputError
from tileup.images.formats.known import format_of
from tileup.images.pixels import IntegerPixels, Numbers
from tileup.images.planes import rounded
from tileup.images.whole import short_name
from tileup.images.writing import is_in_bands
from tileup.resources import lies_in_memory, memory_left, room_for_canvas
from tileup.storage.remote import Remote

log = logging.getLogger(__name__)

_HEAD = 4096
"""Bytes in front of the rows, which say what they are."""
_EVERY = 2.0
"""Seconds between times at which what is there is brought to the disk, and counted."""
SPARE = 2**28
"""Bytes of a disk that are left to others."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What rows are."""

    height: int
    width: int
    channels: int
    """Of a pixel: 1 or 3."""
    bits: int
    """Of a channel: 8 or 16."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<u2" if self.bits == 16 else np.uint8)

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return self.width * self.channels * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows in a file, read as they are asked for; satisfies `NumberRows`."""

    path: Path
    form: Shape

    @property
    def shape(self) -> tuple[int, ...]:
        return self.form.height, self.form.width, self.form.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.form.dtype

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        first, last, _ = rows.indices(self.form.height)
        with self.path.open("rb") as stream:
            stream.seek(_HEAD + first * self.form.row)
            count = max(0, last - first) * self.form.width * self.form.channels
            values = np.fromfile(stream, self.dtype, count)
        return values.reshape(-1, *self.shape[1:])


class Kept:
    """Rows that are added from the top down. Whoever makes one holds the lock of the output.

    Args:
        path: where they are kept.
        key: of all that decides what they become: rows that are there already count if theirs is
            the same.
        form: of the picture.
    """

    def __init__(self, path: Path, key: str, form: Shape) -> None:
        self.path, self.key, self.form = path, key, form
        self.rows = _rows_of(path, key, form)
        """How many there are."""
        self._due = 0.0
        try:
            self._stream = path.open("r+b" if self.rows else "w+b")
        except OSError as error:
            raise self._refused(error) from error
        try:
            self._stream.truncate(_HEAD + self.rows * form.row)
            _reserve(self._stream.fileno(), _HEAD + form.height * form.row)
            self._count()
        except OSError as error:
            self._stream.close()
            raise self._refused(error) from error

    def add(self, pixels: NDArray[np.float32]) -> None:
        """More rows, shape (rows, width, 3), in [0, 1]; rounded as a file of theirs holds them.

        Raises:
            OutputError: they cannot be written, or hold what is no number.
        """
        numbers = _rounded(pixels, self.form)
        try:
            self._stream.write(np.ascontiguousarray(numbers, self.form.dtype).data)
            self.rows += len(pixels)
            if self.rows == self.form.height or time.monotonic() >= self._due:
                self._count()
        except OSError as error:
            raise self._refused(error) from error

    @property
    def pixels(self) -> IntegerPixels:
        """All of them, once they are there."""
        return IntegerPixels(StoredRows(self.path, self.form))

    def close(self) -> None:
        """No more are added for now."""
        self._stream.close()

    def _count(self) -> None:
        """Say how many are there, when they are."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.seek(0)
        self._stream.write(_head(self.key, self.form, self.rows))
        self._stream.flush()
        self._stream.seek(_HEAD + self.rows * self.form.row)
        self._due = time.monotonic() + _EVERY

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(
            f"finished rows cannot be kept in {self.path} ({error.strerror or error}); check the "
            f"folder, its permissions and the free space: a rerun goes on with those that are there"
        )


class HeldRows:
    """Rows that are added from the top down, in memory, rounded as a file of theirs holds them: a
    fourth of what they take as they are drawn.

    Args:
        form: of the picture.

    Raises:
        CanvasMemoryError: there is no room for them.
    """

    def __init__(self, form: Shape) -> None:
        with room_for_canvas(form.width, form.height):
            self._numbers = np.empty((form.height, form.width, form.channels), form.dtype)
        self.form, self.rows = form, 0

    def add(self, pixels: NDArray[np.float32]) -> None:
        """As `Kept.add`.

        Raises:
            OutputError: they hold what is no number.
        """
        place = self._numbers[self.rows : self.rows + len(pixels)]
        place[...] = _rounded(pixels, self.form)
        self.rows += len(pixels)

    @property
    def pixels(self) -> IntegerPixels:
        """All of them, once they are there."""
        return IntegerPixels(self._numbers)

    def close(self) -> None:
        """Nothing is open."""


def _rounded(pixels: NDArray[np.float32], form: Shape) -> Numbers:
    return rounded(pixels, form.bits, grey=form.channels == 1, clipped=True)


def _reserve(file: int, size: int) -> None:
    """Have room for a whole file on its disk, before a file of somebody else takes it: the map of a
    VAE, or what is worked out.

    Raises:
        OSError: there is not so much.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


def _head(key: str, form: Shape, rows: int) -> bytes:
    said = {"key": key, "form": [form.height, form.width, form.channels, form.bits], "rows": rows}
    return json.dumps(said).encode().ljust(_HEAD)


def _rows_of(path: Path, key: str, form: Shape) -> int:
    """How many rows of just this picture a file holds."""
    try:
        with path.open("rb") as stream:
            said: Any = json.loads(stream.read(_HEAD))
            rows = int(said["rows"])
            there = stream.seek(0, os.SEEK_END)
    except (OSError, ValueError, LookupError, TypeError):
        return 0
    same = _head(key, form, rows) == json.dumps(said).encode().ljust(_HEAD)
    whole = 0 <= rows <= form.height and _HEAD + rows * form.row <= there
    return rows if same and whole else 0


def can_be_kept(output: Path | None, format: str, width: int, height: int) -> bool:
    """Whether finished rows of an output can lie beside it: it is large, lies on a disk, and is
    written from rows."""
    on_disk = output is not None and not isinstance(output, Remote)
    return on_disk and is_in_bands(width, height, format_of(format))


def place_of(output: Path) -> Path:
    """Where rows of an output are kept: beside it."""
    return output.with_name(f".tileup-{short_name(output)}.rows.part")


def work_of(output: Path) -> Path:
    """Where that is kept which an output's rows are worked out from: beside it."""
    return output.with_name(f".tileup-{short_name(output)}.work.part")


def has_room(path: Path, form: Shape) -> bool:
    """Whether the disk has room for all rows, and as much again for the picture itself; or memory,
    where the folder lies in it."""
    try:
        there = path.stat().st_size if path.exists() else 0
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return False
    if lies_in_memory(path.parent) and (left := memory_left()) is not None:
        free = min(free, left)
    return free + there > 2 * form.height * form.row + SPARE


def forget(output: Path) -> None:
    """Take away what of an output's making is kept beside it."""
    if isinstance(output, Remote):
        return
    for kept in (place_of(output), work_of(output)):
        try:
            kept.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed (%s)", kept, error.strerror or error)
