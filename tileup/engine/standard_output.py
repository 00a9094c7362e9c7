"""Standard output: every byte is written, or the run ends."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Generator
from typing import IO

_WAIT = 0.01
"""Seconds between tries, where the reader of a pipe takes nothing for now."""
_TRIES = 50
"""As often is standard error asked at the end to take what was said."""


class OutputLost(BaseException):
    """Standard output takes nothing more. It ends a run at once, as an interruption does."""

    def __init__(self, reason: str | None) -> None:
        """Args:
        reason: of the system; None: whoever read it has gone, which is no error of anyone's.
        """
        super().__init__(reason)
        self.reason = reason


def take_closed() -> None:
    """Stand in for standard streams that whoever started the process has closed.

    Else the next file that is opened would become one of them. What is read from a closed one is
    empty, what is written to a closed standard output is lost, and told so.
    """
    for number, way in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, way)  # becomes the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def take_any_text() -> None:
    """Let standard output hold any character: one that its encoding lacks is written as `\\u2500`.

    Standard error does so by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def can_hold(text: str) -> bool:
    """Whether the encoding of standard output has all these characters."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def write_bytes(data: bytes) -> None:
    """Write a picture.

    Raises:
        OutputLost: not all of it could be written.
    """
    with _loss():
        _write_all(sys.stdout.buffer, data)


def say(text: str, end: str = "\n") -> None:
    """Write text.

    Raises:
        OutputLost: not all of it could be written.
    """
    stream = sys.stdout
    with _loss():
        buffer = getattr(stream, "buffer", None)
        if buffer is None:
            stream.write(text + end)
            return
        stream.flush()
        _write_all(buffer, (text + end).encode(stream.encoding, stream.errors or "strict"))


def finish() -> None:
    """Write out what others have left in the buffers.

    Raises:
        OutputLost: not all of it could be written.
    """
    with _loss():
        sys.stdout.flush()


def abandon(stream: IO[str]) -> None:
    """Forget what is in the buffers: the interpreter would try once more, and fail, at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def leave() -> None:
    """Wait a moment for standard error to take what was said; what it does not take is forgotten,
    and does not change the exit code."""
    for _ in range(_TRIES):
        try:
            sys.stderr.flush()
        except BlockingIOError:
            time.sleep(_WAIT)
        except (OSError, ValueError):
            break
        else:
            return
    abandon(sys.stderr)


@contextlib.contextmanager
def unheard() -> Generator[None]:
    """Words on standard error, which end no run where nobody takes them: a terminal has gone, or
    the disk is full. Nothing is said after that; who only takes nothing for now, as a terminal that
    is stopped, misses what is said meanwhile."""
    try:
        yield
    except BlockingIOError:
        pass
    except OSError:
        abandon(sys.stderr)


def _write_all(stream: IO[bytes], data: bytes) -> None:
    left = memoryview(data)
    while left:
        taken = stream.write(left)  # a stream without a buffer takes what fits, or nothing
        if not taken:
            time.sleep(_WAIT)
        left = left[taken or 0 :]
    stream.flush()


@contextlib.contextmanager
def _loss() -> Generator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputLost(None) from error
    except OSError as error:
        raise OutputLost(error.strerror or str(error)) from error
