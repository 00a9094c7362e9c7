"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tileup.errors import OutputError, OutputExistsError
from tileup.storage.patience import StoreError
from tileup.storage.remote import Remote, is_there, put_whole


def checked_target(target: Path, overwrite: bool) -> Path:
    """The file behind links.

    Raises:
        OutputExistsError: it is there, and `overwrite` is false.
        OutputError: it is no file, or there is no looking for it.
    """
    try:
        real = target.resolve()
        exists = is_there(real)
        is_file = exists and real.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{target} cannot be written ({reason}); check the path") from error
    if exists and not is_file:
        raise OutputError(f"{target} is no file that can be replaced; name a file, or - for stdout")
    if exists and not overwrite:
        raise OutputExistsError(f"{target} exists already; pass --overwrite or name another file")
    return real


OnWritten = Callable[[Path], None]
"""Called with a file that is whole on the disk, just before it takes its name."""


Content = bytes | Callable[[IO[bytes]], None]
"""What a file holds, or what writes it."""


def write_whole(
    target: Path, content: Content, *, overwrite: bool = False, on_written: OnWritten | None = None
) -> None:
    """Writes a file so that it appears whole or not at all; its folder is made where missing.

    In a store, one that came since it was looked for is not replaced either.

    Args:
        target: where it goes.
        content: what it holds; or what writes that, a piece at a time.
        overwrite: whether a file that is there already is replaced.
        on_written: called just before the file takes its name; raising drops it. Who gives it
            holds a lock on the target, so that what a killed process left half-written is
            written over.

    Raises:
        OutputExistsError: the file is there, and `overwrite` is false.
        OutputError: it cannot be written. The target is then as it was.
    """
    if isinstance(target, Remote):  # which tells by itself whether there is one
        _put_into_store(target, content, overwrite, on_written)
        return
    target = checked_target(target, overwrite)
    temporary = (
        half_written(target) if on_written else target.with_name(f".tileup-{uuid.uuid4().hex}.part")
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                put(content, stream)
                stream.flush()
                os.fsync(stream.fileno())
            if on_written is not None:
                on_written(temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written ({error.strerror or error}); "
            f"check the folder, its permissions and the free space"
        ) from error


def half_written(target: Path) -> Path:
    """Where a file is written whose lock is held, before it takes its name."""
    return target.with_name(f".tileup-{short_name(target)}.part")


def short_name(target: Path) -> str:
    """What files that lie beside a target are named by, as its own name may be as long as names
    can be."""
    return hashlib.blake2b(os.fsencode(target.name), digest_size=8).hexdigest()


def _put_into_store(
    target: Remote, content: Content, overwrite: bool, on_written: OnWritten | None
) -> None:
    try:
        if isinstance(content, bytes):
            put_whole(target, content, only_new=not overwrite, on_written=on_written)
            return
        with tempfile.NamedTemporaryFile(prefix="tileup-") as stream:
            put(content, stream)
            stream.flush()
            file = Path(stream.name)
            put_whole(target, file, only_new=not overwrite, on_written=on_written)
    except StoreError as error:
        if error.errno == errno.EEXIST:
            raise OutputExistsError(
                f"{target} exists already; pass --overwrite or name another file"
            ) from error
        raise OutputError(
            f"{target} cannot be written ({error.strerror}); "
            f"check the address and the rights to write there"
        ) from error


def put(content: Content, stream: IO[bytes]) -> None:
    """Write what a file holds to a stream."""
    if isinstance(content, bytes):
        stream.write(content)
    else:
        content(stream)
