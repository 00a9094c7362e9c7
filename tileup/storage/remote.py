"""Files that lie in stores or on web servers, with as much of `pathlib.Path` as the engine asks of
files of this machine: so that whoever reads a picture need not know where it lies."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import stat
import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn

from tileup.storage import contents
from tileup.storage.contents import about_to_be, info_here
from tileup.storage.patience import StoreError
from tileup.storage.stores import Info, md5_of, store_of
from tileup.storage.urls import STORES, checked_url, is_url, local_file, told_url


def place(text: str | Path) -> Path:
    """Where a text says: a file or folder of this machine, or what a URL names.

    Raises:
        UsageError: it is a URL that is not taken.
    """
    if isinstance(text, Path):
        return text
    text = local_file(text)
    return remote(text) if is_url(text) else Path(text)


def remote(url: str) -> Remote:
    """What a URL names.

    Raises:
        UsageError: it is not taken.
    """
    url = checked_url(url)
    path = Remote(told_url(url))
    if url.rstrip("/") != str(path):
        path.address = url
    return path


_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*):/(?!/)")


class _Listings(threading.local):
    """What was listed of stores, for as long as the thread believes it."""

    def __init__(self) -> None:
        self._depth = 0
        self._files: dict[str, Info] = {}
        self._listed: dict[tuple[str, bool], list[tuple[Remote, Info]]] = {}
        self._folders: dict[str, set[str]] = {}
        """By folder, what lies in it, files and folders, where all of that is known."""
        self._roots: set[str] = set()
        """Folders below which all is known."""

    @contextmanager
    def believed(self) -> Generator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._files, self._folders, self._roots = {}, {}, set()
                self._listed = {}

    def files(self, folder: Remote, deep: bool) -> list[tuple[Remote, Info]]:
        """The files of a folder, listed where that was not done before."""
        known = self._listed.get((str(folder), deep))
        below = None if deep or known else self.children(folder)
        if below is not None:
            known = [(each, self._files[each.url]) for each in below if each.url in self._files]
        return self._list(folder, deep) if known is None else known

    def _list(self, folder: Remote, deep: bool) -> list[tuple[Remote, Info]]:
        found = dict(store_of(folder.url).below(folder.url, deep))
        files = [(_listed(url), each) for url, each in found.items() if not each.folder]
        if self._depth:
            self._listed[str(folder), deep] = files
            self._files |= {url: each for url, each in found.items() if not each.folder}
            self._folders.setdefault(str(folder), set()).update(found if not deep else ())
            if deep:
                self._roots.add(str(folder))
                self._add_folders(folder, [file for file, _ in files])
        return files

    def _add_folders(self, root: Remote, files: list[Remote]) -> None:
        top = len(root.parts)
        for file in files:
            below = file
            while len(below.parts) > top:
                children = self._folders.setdefault(str(below.parent), set())
                if below.url in children:
                    break
                children.add(below.url)
                below = below.parent

    def info(self, path: Remote) -> tuple[bool, Info | None]:
        """Whether it is known what is there, and that."""
        if (found := self._files.get(path.url)) is not None:
            return True, found
        if not any(each in self._roots for each in map(str, (path, *path.parents))):
            return False, None
        return True, Info(0, "", folder=True) if str(path) in self._folders else None

    def children(self, folder: Remote) -> list[Remote] | None:
        """What lies in a folder; None where that is not known."""
        found = self._folders.get(str(folder))
        if found is None and any(str(each) in self._roots for each in folder.parents):
            found = set[str]()
        return None if found is None else [_listed(url) for url in sorted(found)]


_LISTED = _Listings()


def believing_listings() -> contextlib.AbstractContextManager[None]:
    """Within, what was listed is not asked for again: for looks at many files, which no other
    process waits for."""
    return _LISTED.believed()


def files_below(folder: Path, deep: bool) -> list[Remote]:
    """The files of a folder in a store, in no order.

    Args:
        folder: in a store.
        deep: whether those of folders below it too.

    Raises:
        StoreError: it cannot be listed.
    """
    assert isinstance(folder, Remote)
    return [file for file, _ in _LISTED.files(folder, deep)]


def contents_below(folder: Remote, deep: bool = False) -> dict[Remote, Info]:
    """The files of a folder, as `files_below`, each with what its store says of it."""
    return dict(_LISTED.files(folder, deep))


def is_there(path: Path) -> bool:
    """Whether there is a file, or what else would be in its way. In a store, folders are not: they
    may have the name of a file."""
    return path.is_file() if isinstance(path, Remote) else path.exists()


@contextmanager
def held(path: Path | None, most: int | None = None) -> Generator[None]:
    """Within, a file of a store is here, fetched once; nothing happens to those of this machine.

    Args:
        path: the file.
        most: bytes; None: however many there are.

    Raises:
        StoreError: it cannot be had.
        TooLargeError: there are more.
    """
    if not isinstance(path, Remote):
        yield
        return
    with contents.held(path.url, most):
        yield


def takes_turns(folder: Remote) -> bool:
    """Whether a store, where a file is written to find out, lets one of several writers be first.

    Raises:
        StoreError: there is no writing there.
    """
    probe = folder / f".tileup-{uuid.uuid4().hex}.part"
    probe.touch(exist_ok=False)
    try:
        probe.touch(exist_ok=False)
    except StoreError as error:
        if error.errno not in (errno.EEXIST, errno.EIO, errno.ENOSYS):
            raise
        return error.errno == errno.EEXIST
    finally:
        probe.unlink()
    return False


def put_whole(
    target: Remote,
    data: bytes | Path,
    only_new: bool = False,
    on_written: Callable[[Path], None] | None = None,
) -> None:
    """Write a file of a store: stores let it appear whole or not at all.

    Args:
        target: where it goes.
        data: what it holds; or a file of this machine that holds it.
        only_new: whether nothing that is there is replaced.
        on_written: called before it is there, when it reads as if it were; and once more where the
            store has called it otherwise than was foreseen.

    Raises:
        StoreError: it cannot be written; with `errno` EEXIST, where there is one already.
    """
    store, token = store_of(target.url), md5_of(data)
    if on_written is not None:
        with about_to_be(target.url, data, token):
            on_written(target)
    store.put(target.url, data, only_new)
    if on_written is None:
        return
    found = store.info(target.url)
    size = len(data) if isinstance(data, bytes) else data.stat().st_size
    if found is not None and found.token != token and found.size == size:
        with about_to_be(target.url, data, found.token):
            on_written(target)


class Remote(Path, PurePosixPath):
    """A file that a URL names, or what the names of others begin with, as a folder. As text it is
    its URL without what may be secret.

    What a store cannot do raises `StoreError`, an `OSError` whose `strerror` says why.
    """

    __slots__ = ("address",)
    address: str
    """The whole URL, where the text of the path is not all of it."""

    def __new__(cls, *parts: str | os.PathLike[str]) -> Remote:
        return PurePosixPath.__new__(cls, *parts)  # Path's own refuses, on Windows

    @property
    def url(self) -> str:
        """The whole URL, signature and all: for the store, and for nobody's eyes."""
        return getattr(self, "address", None) or str(self)

    def __str__(self) -> str:
        return _SCHEME.sub(r"\1://", PurePosixPath.__str__(self))

    def __fspath__(self) -> NoReturn:
        raise TypeError(f"{self} is no file of this machine")

    def __reduce__(self) -> tuple[Any, ...]:
        return remote, (self.url,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def writable(self) -> bool:
        """Whether files can be written there."""
        return str(self).partition("://")[0] in STORES

    @property
    def in_store(self) -> bool:
        """Whether it lies in a store, or is all of one, and not what is above them."""
        return len(self.parts) > 1

    def is_absolute(self) -> bool:
        return True

    def absolute(self) -> Remote:
        return self

    def resolve(self, strict: bool = False) -> Remote:
        return self

    def expanduser(self) -> Remote:
        return self

    def is_symlink(self) -> bool:
        return False

    def _info(self, of_folders: bool = False) -> Info | None:
        """What is there; of a folder only where that is asked, as it is one question more."""
        here = info_here(self.url)
        if here is not None:
            return here
        if not self.in_store:
            return None
        known, found = _LISTED.info(self)
        if known:
            return found
        store = store_of(self.url)
        return store.info(self.url) if of_folders else store.object(self.url)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._info(of_folders=True) is not None

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        found = self._info()
        return found is not None and not found.folder

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        found = self._info(of_folders=True)
        return found is not None and found.folder

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size, and for a time of the last change a number that changes with the content."""
        found = self._info()
        if found is None:
            raise FileNotFoundError(2, "not there", str(self))
        mode = stat.S_IFDIR if found.folder else stat.S_IFREG
        number = number_of(found.token)
        times = (number // 10**9,) * 3
        exact = {"st_mtime_ns": number}
        return os.stat_result((mode, 0, 0, 1, 0, 0, found.size or 0, *times), exact)

    def open(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """To read from; what is written, is written whole, by `put_whole`."""
        if mode not in ("r", "rb"):
            raise ValueError(f"{self} cannot be opened to write to")
        found = self._info()
        if found is None:
            raise FileNotFoundError(2, "not there", str(self))
        stream = contents.reader(self.url, found.size)
        if mode == "rb":
            return stream
        return io.TextIOWrapper(stream, encoding or "utf-8", errors, newline)

    def read_bytes(self) -> bytes:
        with self.open("rb") as stream:
            return stream.read()

    def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        content = io.BytesIO(self.read_bytes())
        return io.TextIOWrapper(content, encoding or "utf-8", errors, newline).read()

    def iterdir(self) -> Generator[Remote]:
        """The files and folders in a folder, in no order."""
        listed = _LISTED.children(self)
        if listed is None:
            listed = [_listed(url) for url, _ in store_of(self.url).below(self.url, deep=False)]
        yield from listed

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: names alone make folders."""

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        store_of(self.url).put(self.url, b"", only_new=not exist_ok)

    def unlink(self, missing_ok: bool = False) -> None:
        store_of(self.url).delete(self.url)


def number_of(token: str) -> int:
    """A number that stands for what changes when a content does; 0 where there is no such thing."""
    if not token:
        return 0
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "big") >> 1


def _listed(url: str) -> Remote:
    """What a store names itself: it needs no check, and may be spelt as no path is."""
    path = Remote(url)
    path.address = url
    return path
