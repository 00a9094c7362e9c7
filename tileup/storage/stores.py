"""What is asked of an object store, and of a web server: a few requests, by way of fsspec."""

from __future__ import annotations

import base64
import errno
import hashlib
import importlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar
from urllib.parse import quote

from tileup.errors import MissingExtraError
from tileup.storage.patience import TRIES, StoreError, patiently
from tileup.storage.urls import STORES, told_url

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Info:
    """What a store says of an object."""

    size: int | None
    """Bytes; None where a web server does not say."""
    token: str
    """What changes when the content does, such as its ETag; empty where none is given. That of an
    object written here is the MD5 of its content, unless the store has reasons of its own."""
    folder: bool = False
    """Whether it is no object, but what the names of others begin with."""


class Store(Protocol):
    """What the engine needs of a store. Places are URLs."""

    def info(self, url: str) -> Info | None:
        """What is there, a folder included; None for nothing."""
        ...

    def object(self, url: str) -> Info | None:
        """What object is there; None for none."""
        ...

    def below(self, url: str, deep: bool) -> Iterator[tuple[str, Info]]:
        """The objects of a folder, in no order.

        Args:
            url: of the folder.
            deep: whether those of folders below it too; else these folders themselves.
        """
        ...

    def beginning(self, url: str, count: int) -> bytes:
        """The first so many bytes, or more."""
        ...

    def fetch(self, url: str, file: IO[bytes], most: int | None) -> Info:
        """All of an object into a file, which is emptied before; what the store says of it.

        Args:
            url: of the object.
            file: where it goes.
            most: bytes; None: however many there are.

        Raises:
            TooLargeError: there are more.
        """
        ...

    def put(self, url: str, data: bytes | Path, only_new: bool = False) -> None:
        """Write an object, whole.

        Args:
            url: of the object.
            data: its content; or a file of this machine that holds it.
            only_new: write it only where there is none, whatever others do meanwhile.

        Raises:
            StoreError: with `errno` EEXIST, where only a new one is written and one is there.
        """
        ...

    def delete(self, url: str) -> None:
        """Take an object away; one that is not there is no error."""
        ...

    def md5(self, url: str) -> str | None:
        """MD5 of an object, hexadecimal, where the store vouches for it."""
        ...


class TooLargeError(Exception):
    """There is more to fetch than may be."""


_MODULES = {"s3": "s3fs", "gs": "gcsfs", "https": "aiohttp", "http": "aiohttp"}
_KINDS = {"s3": "s3", "gs": "gcs", "https": "http", "http": "http"}


def store_of(url: str) -> Store:
    """The store that a URL is of.

    Raises:
        MissingExtraError: what speaks to it is not installed.
    """
    scheme = url.partition("://")[0]
    kind = _KINDS[scheme]
    with _lock:
        if (found := _known.get((os.getpid(), kind))) is None:
            found = _store(scheme, kind)
            _known[os.getpid(), kind] = found
        return found


_known: dict[tuple[int, str], Store] = {}
"""By process: what a fork has of the connections of another is of no use to it."""
_lock = threading.Lock()


def _store(scheme: str, kind: str) -> Store:
    try:
        importlib.import_module(_MODULES[scheme])
    except ImportError as error:
        raise MissingExtraError(
            f"{scheme}:// needs {_MODULES[scheme]}, which is not installed: "
            f"pip install 'tileup[cloud]'"
        ) from error
    if scheme not in STORES:
        return _Web()
    return _S3() if kind == "s3" else _Objects(kind, {})


def _filesystem(kind: str, options: Mapping[str, Any]) -> Any:  # noqa: ANN401  As fsspec has it.
    import fsspec

    # What lies in a store is asked for each time: others write there too.
    return fsspec.filesystem(kind, skip_instance_cache=True, use_listings_cache=False, **options)


class _Objects:
    """A store of objects."""

    def __init__(self, kind: str, options: Mapping[str, Any]) -> None:
        self._files = _filesystem(kind, options)

    def info(self, url: str) -> Info | None:
        found = _if_there(lambda: self._files.info(_key(url)), url)
        return None if found is None else _info_of(found)

    def object(self, url: str) -> Info | None:
        found = self.info(url)
        return None if found is None or found.folder else found

    def below(self, url: str, deep: bool) -> Iterator[tuple[str, Info]]:
        scheme, key = url.partition("://")[0], _key(url).rstrip("/")

        def listed() -> Any:  # noqa: ANN401
            if deep:
                return [*self._files.find(key, detail=True).values()]
            return self._files.ls(key, detail=True)

        for each in _if_there(listed, url) or ():
            name = str(each["name"])
            # What consoles make to show a folder is an object whose name ends as one.
            if not name.endswith("/") and name != key:
                yield f"{scheme}://{name}", _info_of(each)

    def beginning(self, url: str, count: int) -> bytes:
        def read() -> bytes:
            return self._files.cat_file(_key(url), start=0, end=count)

        return patiently(read, told_url(url))

    def fetch(self, url: str, file: IO[bytes], most: int | None) -> Info:
        for _ in range(TRIES):
            found = self.object(url)
            if found is None or found.size is None:
                raise StoreError(errno.ENOENT, "not there", told_url(url))
            if most is not None and found.size > most:
                raise TooLargeError
            self._fetch(url, file, found.size)
            # Pieces of two contents make none.
            if found.size <= _PIECE or self.object(url) == found:
                return found
        raise StoreError(errno.EIO, "changed again and again while it was read", told_url(url))

    def _fetch(self, url: str, file: IO[bytes], size: int) -> None:
        file.seek(0)
        file.truncate(0)
        for start in range(0, size, _PIECE):
            read = partial(self._piece, url, start, min(start + _PIECE, size))
            file.write(patiently(read, told_url(url)))

    def _piece(self, url: str, start: int, end: int) -> bytes:
        data: bytes = self._files.cat_file(_key(url), start=start, end=end)
        if len(data) != end - start:
            raise EOFError  # tried again
        return data

    def put(self, url: str, data: bytes | Path, only_new: bool = False) -> None:
        tries = 0

        def write() -> None:
            nonlocal tries
            tries += 1
            mode = "create" if only_new else "overwrite"
            if isinstance(data, bytes):
                self._files.pipe_file(_key(url), data, mode=mode, chunksize=_AT_ONCE)
            else:
                self._files.put_file(str(data), _key(url), mode=mode, chunksize=_AT_ONCE)

        try:
            patiently(write, told_url(url))
        except StoreError as error:
            # The first try may have done it, and only its answer have been lost.
            if error.errno == errno.EEXIST and tries > 1 and self._holds(url, data):
                return
            raise

    def _holds(self, url: str, data: bytes | Path) -> bool:
        found = self.object(url)
        return found is not None and found.token == md5_of(data)

    def delete(self, url: str) -> None:
        _if_there(lambda: self._files.rm_file(_key(url)), url)

    def md5(self, url: str) -> str | None:
        found = patiently(lambda: self._files.info(_key(url)), told_url(url))
        return None if "md5Hash" not in found else _info_of(found).token


class _S3(_Objects):
    """Amazon's, and those that speak as it does."""

    def __init__(self) -> None:
        # Tried again by us, and told.
        once = {"retries": {"total_max_attempts": 1}, "connect_timeout": 20, "read_timeout": 60}
        super().__init__("s3", {"config_kwargs": once})
        self._files.retries = 1

    def _head(self, url: str) -> Any:  # noqa: ANN401
        bucket, _, key = _key(url).partition("/")
        return self._files.call_s3("head_object", Bucket=bucket, Key=key)

    def object(self, url: str) -> Info | None:
        found = _if_there(lambda: self._head(url), url)
        if found is None:
            return None
        return Info(int(found["ContentLength"]), str(found.get("ETag", "")).strip('"'))

    def md5(self, url: str) -> str | None:
        found = patiently(lambda: self._head(url), told_url(url))
        # With keys of the user's, an ETag is the hash of something else.
        plain = found.get("ServerSideEncryption", "AES256") == "AES256"
        token = str(found.get("ETag", "")).strip('"')
        return token if plain and "SSECustomerAlgorithm" not in found and _is_md5(token) else None


class _Web:
    """A web server: single files, to be read."""

    def __init__(self) -> None:
        self._files = _filesystem("http", {"encoded": True})

    def info(self, url: str) -> Info | None:
        found = _if_there(lambda: self._files.info(_encoded(url)), url)
        if found is None:
            return None
        token = found.get("ETag") or found.get("Last-Modified") or ""
        return Info(found.get("size"), str(token))

    def object(self, url: str) -> Info | None:
        return self.info(url)

    def below(self, url: str, deep: bool) -> Iterator[tuple[str, Info]]:
        return iter(())

    def beginning(self, url: str, count: int) -> bytes:
        # Many servers know no parts of files, and send all whatever is asked.
        whole = BytesIO()
        self.fetch(url, whole, None)
        return whole.getvalue()

    def fetch(self, url: str, file: IO[bytes], most: int | None) -> Info:
        from fsspec.callbacks import Callback

        found = self.info(url)
        if found is None:
            raise StoreError(errno.ENOENT, "not there", told_url(url))
        if most is not None and found.size is not None and found.size > most:
            raise TooLargeError

        class Counting(Callback):
            def relative_update(self, inc: int = 1) -> None:
                super().relative_update(inc)
                if most is not None and self.value > most:
                    raise TooLargeError

        def get() -> None:
            file.seek(0)
            file.truncate(0)
            self._files.get_file(_encoded(url), file, callback=Counting())

        patiently(get, told_url(url))
        return Info(file.seek(0, os.SEEK_END), found.token)

    def put(self, url: str, data: bytes | Path, only_new: bool = False) -> None:
        raise StoreError(errno.EACCES, "a web address is only read", told_url(url))

    def delete(self, url: str) -> None:
        raise StoreError(errno.EACCES, "a web address is only read", told_url(url))

    def md5(self, url: str) -> str | None:
        return None


def _if_there(work: Callable[[], T], url: str) -> T | None:
    """What a store answers, as `patiently`; None where nothing is there."""
    try:
        return patiently(work, told_url(url))
    except StoreError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def md5_of(data: bytes | Path) -> str:
    """MD5 of a content, or of a file's: as tokens of objects usually are."""
    if isinstance(data, bytes):
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    with data.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


def _info_of(found: Mapping[str, Any]) -> Info:
    if found.get("type") == "directory":
        return Info(0, "", folder=True)
    if "md5Hash" in found:
        token = base64.b64decode(found["md5Hash"]).hex()
    else:
        token = str(found.get("ETag") or found.get("etag") or found.get("LastModified") or "")
    return Info(int(found["size"]), token.strip('"'))


def _is_md5(token: str) -> bool:
    return len(token) == 32 and all(each in "0123456789abcdef" for each in token)


def _key(url: str) -> str:
    return url.partition("://")[2]


def _encoded(url: str) -> str:
    """A web address as it is sent: what is encoded already, such as a signature, stays."""
    return quote(url, safe="%/:?#[]@!$&'()*+,;=~")


_PIECE = 64 * 2**20
"""Bytes that are fetched at once: what fails is fetched again, and no more."""
_AT_ONCE = 2**32
"""Bytes that are written in one request."""
