"""What objects hold, on this machine for as long as it is needed."""

from __future__ import annotations

import errno
import io
import os
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from tileup.storage.patience import StoreError
from tileup.storage.stores import Info, store_of
from tileup.storage.urls import told_url

_HEAD = 256 * 1024
"""Bytes of an object that are fetched at first: most headers lie in them."""


class Whole:
    """All of an object. It holds a file without a name, which ends with it however that happens."""

    def __init__(self, file: IO[bytes], info: Info) -> None:
        """Args:
        file: what the object holds.
        info: what its store says of it.
        """
        self.info = info
        self._file = file
        self._lock = threading.Lock()

    def read_at(self, start: int, count: int) -> bytes:
        """So many bytes from a place on, or those that there are."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(count)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def fetched(url: str, most: int | None = None) -> Whole:
    """All of an object, as it is now.

    Args:
        url: of the object.
        most: bytes; None: however many there are.

    Raises:
        StoreError: it cannot be had.
        TooLargeError: there are more.
    """
    file = tempfile.TemporaryFile(prefix="tileup-")  # noqa: SIM115  Closed with what holds it.
    try:
        return Whole(file, store_of(url).fetch(url, file, most))
    except BaseException:
        file.close()
        raise


class _Held:
    """Objects that are here just now, by URL."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wholes: dict[str, tuple[Whole, int]] = {}

    def of(self, url: str) -> Whole | None:
        with self._lock:
            found = self._wholes.get(url)
            return found and found[0]

    def add(self, url: str, whole: Whole) -> Whole:
        """Hold an object once more; the one that is held already, where there is one."""
        with self._lock:
            held, count = self._wholes.get(url, (whole, 0))
            self._wholes[url] = held, count + 1
            return held

    def drop(self, url: str) -> None:
        with self._lock:
            whole, count = self._wholes.pop(url)
            if count > 1:
                self._wholes[url] = whole, count - 1
                return
        whole.close()


_HELD = _Held()


@contextmanager
def held(url: str, most: int | None = None) -> Generator[None]:
    """Within, an object is here, fetched once, and everybody reads the same content of it.

    Args:
        url: of the object.
        most: bytes; None: however many there are.

    Raises:
        StoreError: it cannot be had.
        TooLargeError: there are more.
    """
    with _holding(url, lambda: fetched(url, most)):
        yield


@contextmanager
def about_to_be(url: str, data: bytes | Path, token: str) -> Generator[None]:
    """Within, an object is here as it is about to be written.

    Args:
        url: of the object.
        data: its content; or a file of this machine that holds it.
        token: which it will have.
    """

    def whole() -> Whole:
        file = BytesIO(data) if isinstance(data, bytes) else data.open("rb")
        return Whole(file, Info(file.seek(0, os.SEEK_END), token))

    with _holding(url, whole):
        yield


@contextmanager
def _holding(url: str, make: Callable[[], Whole]) -> Generator[None]:
    whole = _HELD.of(url) or make()
    held = _HELD.add(url, whole)
    if held is not whole:
        whole.close()
    try:
        yield
    finally:
        _HELD.drop(url)


def info_here(url: str) -> Info | None:
    """What is known of an object that is here; None for any other."""
    whole = _HELD.of(url)
    return whole and whole.info


def reader(url: str, size: int | None) -> IO[bytes]:
    """An object to read from. What is not here already is fetched as far as it is read: its
    beginning, and all of it once that does not suffice.

    Args:
        url: of the object.
        size: bytes; None where nobody knows.
    """
    return io.BufferedReader(_Reading(url, size))


class _Reading(io.RawIOBase):
    def __init__(self, url: str, size: int | None) -> None:
        super().__init__()
        self._url = url
        self._size = size
        self._at = 0
        self._head = b""
        self._whole = _HELD.of(url)
        self._own: Whole | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}
        base = bases[whence] if whence in bases else self._length()
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  Any buffer.
        data = self._read(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _length(self) -> int:
        if self._size is None:
            self._size = self._all().info.size or 0
        return self._size

    def _read(self, start: int, count: int) -> bytes:
        if self._whole is None and self._size is not None:
            count = min(count, max(0, self._size - start))
            # Of some servers, all comes where the beginning was asked for.
            if start + count <= max(_HEAD, len(self._head)):
                return self._beginning()[start : start + count]
        return self._all().read_at(start, count)

    def _beginning(self) -> bytes:
        assert self._size is not None
        count = min(_HEAD, self._size)
        if len(self._head) < count:
            self._head = store_of(self._url).beginning(self._url, count)
            if len(self._head) < count:
                raise StoreError(errno.EIO, "cut short", told_url(self._url))
        return self._head

    def _all(self) -> Whole:
        if self._whole is None:
            self._whole = self._own = fetched(self._url)
        return self._whole

    def close(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None
        super().close()
