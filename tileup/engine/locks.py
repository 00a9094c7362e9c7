"""One process at a time for each output. In a store: `tileup.engine.claims`.

A lock is a small file beside the output that its owner holds locked. The system lets go of it
when the owner ends, however that happens, so a file left behind by a killed process is stale by
itself: the next one takes it over and removes it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from tileup.engine.claims import Claims
from tileup.errors import OutputError
from tileup.images.kept import forget
from tileup.images.whole import half_written, short_name
from tileup.storage.remote import Remote

log = logging.getLogger(__name__)

_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class OutputLock:
    """The right to make one output. Belongs to a process, whichever of its threads took it."""

    def __init__(self, output: Path) -> None:
        self.path = output.parent / f".tileup-{short_name(output)}.lock"
        self._file: int | None = None
        self._made: list[Path] = []

    def acquire(self) -> bool:
        """Take the lock; False while another process has it.

        Raises:
            OutputError: there is no writing in the folder.
        """
        try:
            for _ in range(100):
                taken = self._attempt()
                if taken is not None:
                    return taken
        except OSError as error:
            raise OutputError(f"cannot write to {self.path.parent}: {error.strerror}") from error
        return False

    def _attempt(self) -> bool | None:
        """Whether the lock was taken; None when its file went away meanwhile."""
        self._make_folder()
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return None
        try:
            _take(file)
            if not self._is_there(file):
                os.close(file)
                return None
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                log.warning("%s: this disk has no locks, so run one process", self.path.parent)
                self._file = file
                return True
            os.close(file)
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                return False
            raise
        self._file = file
        return True

    def _make_folder(self) -> None:
        folders = (self.path.parent, *self.path.parent.parents)
        missing = [folder for folder in folders if not folder.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._made = missing or self._made

    def _is_there(self, file: int) -> bool:
        """Whether the locked file is still the one that others would open."""
        try:
            return os.path.samestat(os.fstat(file), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the lock back, and take its file away."""
        if self._file is None:
            return
        file, self._file = self._file, None
        if sys.platform == "win32":
            os.close(file)
            file = -1
        with contextlib.suppress(OSError):
            self.path.unlink()
        if file >= 0:
            os.close(file)
        self.remove_folders()

    def remove_folders(self) -> None:
        """Take away the folders made for the lock, where nothing was put into them."""
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()


class Locks:
    """All locks that a run holds; its threads share them."""

    def __init__(self) -> None:
        self._held: dict[Path, OutputLock] = {}
        self._claims = Claims()

    def take(self, output: Path | None) -> bool:
        """Lock an output; False while another process has it. Standard output needs no lock.

        Raises:
            OutputError: there is no writing in the folder.
        """
        if output is None:
            return True
        if isinstance(output, Remote):
            return self._claims.take(output)
        lock = OutputLock(output)
        try:
            taken = lock.acquire()
            if taken:
                self._held[output] = lock
        except BaseException:  # an interruption may come as soon as it is taken
            lock.release()
            raise
        return taken

    def give_back(self, output: Path | None) -> None:
        """Let others have an output, where it was locked."""
        if isinstance(output, Remote):
            self._claims.give_back(output)
        elif output in self._held:
            self._held.pop(output).release()

    def close(self) -> None:
        """Give back all of them."""
        self._claims.close()
        held = list(self._held.values())
        for lock in held:
            lock.release()
        for lock in held:  # the first was not alone in a folder made for it
            lock.remove_folders()


def remove_stale(output: Path, targets: Iterable[Path]) -> None:
    """Take away what a killed process left beside a finished output: its lock, what it kept to go
    on with, and what it had half written of any of the files that belong to the output."""
    if isinstance(output, Remote):
        return  # its claim counts for nothing a minute later
    lock = OutputLock(output)
    if lock.path.exists() and lock.acquire():
        for each in targets:
            with contextlib.suppress(OSError):  # one that stays keeps none of the others
                half_written(each).unlink(missing_ok=True)
        forget(output)
        lock.release()
