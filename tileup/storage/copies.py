"""Checkpoints that lie in stores or on web servers: copied once, and read from the copy.

A copy lies in the user's cache, in a folder for its URL and one in it for its content by the
store's word, so that another content is another copy. A file has its name once it is whole and its
hash is right, where the store tells one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import platformdirs

from tileup.errors import ModelError
from tileup.storage.beside import BESIDE
from tileup.storage.patience import StoreError
from tileup.storage.remote import Remote, contents_below, remote
from tileup.storage.stores import Info, md5_of, store_of
from tileup.storage.urls import is_url, told_url

log = logging.getLogger(__name__)

_LARGE = 50_000_000
"""Bytes from which on it is said that a file is fetched."""
_NOTICE = 25
"""Level of what is said and is no warning."""
_WEIGHTS = frozenset({".safetensors", ".gguf", ".bin", ".ckpt", ".pt", ".pth"})
_KINDS = _WEIGHTS | {".json", ".txt", ".model"}
"""Extensions of what is copied of a folder: one of photographs is not fetched by mistake."""
_LATEST = "latest"
"""File of a URL's folder that names the copy which came last."""
_lock = threading.Lock()


def given_file(name: str) -> Path:
    """A file that somebody named: of this machine, or copied from where a URL says. What is named
    by a path need not be there.

    Raises:
        ModelError: what a URL names is not there, or cannot be had.
        UsageError: the URL is not taken.
    """
    if not is_url(name):
        return Path(name).expanduser()
    try:
        return local_copy(name)
    except OSError as error:
        raise ModelError(f"{told_url(name)} cannot be read: {error.strerror}") from error


def local_copy(url: str) -> Path:
    """A file of this machine with what a URL names; of a folder, a folder.

    The store is asked once in a process whether it still has the same content. Where it does not
    answer, the last copy is taken, which is said.

    Raises:
        StoreError: it is not there, or cannot be had.
        UsageError: the URL is not taken.
    """
    with _lock:
        return _copy(url)


@lru_cache(maxsize=256)
def _copy(url: str) -> Path:
    source = remote(url)
    home = platformdirs.user_cache_path("tileup") / "checkpoints" / _hash(str(source))
    try:
        parts = _parts(source)
    except StoreError as error:
        found = _latest(home, source.name) if error.errno == errno.EIO else None
        if found is None:
            raise
        log.warning("%s: %s; going on with the copy of %s", source, error.strerror, found)
        return found
    known = all(each.token for each in parts.values())
    version = _hash(repr(sorted((name, each.size, each.token) for name, each in parts.items())))
    folder = home / (version if known else f"{version}-{os.getpid()}")
    for name, info in parts.items():
        file = folder / name
        if not (known and file.is_file() and file.stat().st_size == info.size):
            _fetch(_beside(source, name), info, file)
    _note(home, folder)
    _forget(each for each in home.iterdir() if each not in (folder, home / _LATEST))
    return folder / source.name


def _parts(source: Remote) -> Mapping[str, Info]:
    """The files that a URL stands for, by their names beside it."""
    store = store_of(source.url)
    found = store.info(source.url)
    if found is None:
        raise StoreError(errno.ENOENT, "not there", str(source))
    if found.folder:
        parts = {
            f"{source.name}/{file.relative_to(source).as_posix()}": info
            for file, info in contents_below(source, deep=True).items()
            if file.suffix in _KINDS
        }
        if not any(Path(name).suffix in _WEIGHTS for name in parts):
            raise StoreError(errno.ENOENT, "a folder without a checkpoint", str(source))
        return parts
    others = [*_shards(source), *filter(None, [BESIDE.get(source.stem)])]
    beside = {name: store.info(_beside(source, name).url) for name in others}
    return {source.name: found} | {name: info for name, info in beside.items() if info is not None}


def _shards(source: Remote) -> list[str]:
    """The files that an index of shards names, those that lie beside it."""
    if not source.name.endswith(".json") or ".index." not in source.name:
        return []
    try:
        content: Any = json.loads(source.read_bytes())
        names = {str(each) for each in cast("dict[str, object]", content["weight_map"]).values()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return []  # said where it is opened
    return sorted(each for each in names if Path(each).name == each)


def _beside(source: Remote, name: str) -> Remote:
    return source if name == source.name else source.parent / name


def _fetch(source: Remote, info: Info, file: Path) -> None:
    """A file, whole and right, under its name."""
    if (info.size or 0) >= _LARGE:
        log.log(_NOTICE, "fetching %s (%.1f GB), once", source, (info.size or 0) / 1e9)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{uuid.uuid4().hex}.part")
    store = store_of(source.url)
    try:
        for _ in range(2):
            with part.open("w+b") as stream:
                store.fetch(source.url, stream, None)
                stream.flush()
                os.fsync(stream.fileno())
            wanted = store.md5(source.url)
            if wanted is None or md5_of(part) == wanted:
                part.replace(file)
                return
    finally:
        part.unlink(missing_ok=True)
    raise StoreError(errno.EIO, "what came has another hash than its store says", str(source))


def _note(home: Path, folder: Path) -> None:
    """Say which copy came last: times of files do not, as backups and clocks change them."""
    part = home / f".{uuid.uuid4().hex}.part"
    try:
        part.write_text(folder.name, encoding="utf-8")
        part.replace(home / _LATEST)
    except OSError as error:
        part.unlink(missing_ok=True)
        log.info("%s cannot be written (%s)", home / _LATEST, error.strerror or error)


def _latest(home: Path, name: str) -> Path | None:
    """The copy that came last."""
    with contextlib.suppress(OSError, ValueError):
        noted = home / (home / _LATEST).read_text(encoding="utf-8") / name
        if noted.exists():
            return noted
    copies = [each for each in home.glob(f"*/{name}") if each.exists()]
    return max(copies, key=lambda each: each.stat().st_mtime, default=None)


def _forget(copies: Iterable[Path]) -> None:
    """Take copies of other contents away; one that another process reads stays as long."""
    for copy in copies:
        with contextlib.suppress(OSError):
            shutil.rmtree(copy)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
