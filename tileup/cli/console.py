"""Words for the user: always on standard error, never in the way of pictures and JSON."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

import typer

from tileup.engine.standard_output import unheard
from tileup.errors import OutputError

NOTICE = 25
"""Level of what everyone wants to hear: between INFO and WARNING."""

logging.addLevelName(NOTICE, "NOTICE")
_ROOT = logging.getLogger("tileup")
log = logging.getLogger(__name__)


def printable(text: str) -> str:
    """Text without what could steer a terminal: file names may hold any character."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


class _Voice(logging.Handler):
    """Log records as words on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        with unheard():
            self._say(record)

    def _say(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            typer.secho("tileup: ", fg="red", bold=True, nl=False, err=True)
        elif record.levelno >= logging.WARNING:
            typer.secho("warning: ", fg="yellow", nl=False, err=True)
        typer.echo(printable(record.getMessage()), err=True)
        if record.exc_info:
            typer.echo(printable(logging.Formatter().formatException(record.exc_info)), err=True)


class _LogFile(logging.FileHandler):
    """Log records in a file, for as long as it takes them: no run ends for want of its log."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._path = path

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Give the file up, and say so once, also to who wants to hear of errors alone."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.setLevel(logging.CRITICAL + 1)
        self.close()
        log.error("log file %s is given up: %s", self._path, error.strerror)

    def close(self) -> None:
        """Close it; what is left in the buffer of a file that takes nothing is lost."""
        with contextlib.suppress(OSError):
            super().close()


def set_up_logging(verbose: int, quiet: bool, log_file: Path | None) -> None:
    """Say as much as the user wants to hear, and write all of it to a file if they name one.

    Everything that tileup tells goes through `logging`; this is where it becomes words.

    Args:
        verbose: 0 results and warnings, 1 what is done, 2 everything, with tracebacks.
        quiet: only errors.
        log_file: appended to.

    Raises:
        OutputError: the file cannot be written.
    """
    forget_logging()
    loudness = (NOTICE, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    _ROOT.addHandler(_Voice(logging.ERROR if quiet else loudness))
    if log_file is not None:
        _ROOT.addHandler(_file_handler(log_file))
    _ROOT.setLevel(min(handler.level for handler in _ROOT.handlers))


_TOLD_BY = 4096
"""Bytes by which a text is told from a picture or a model."""


def _file_handler(path: Path) -> logging.Handler:
    try:
        if path.is_file():  # a pipe would wait
            with path.open("rb") as stream:
                _check_is_text(stream.read(_TOLD_BY), path)
        handler = _LogFile(path)
    except OSError as error:
        raise OutputError(f"log file {path} cannot be written: {error.strerror}") from error
    handler.setLevel(logging.DEBUG)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def _check_is_text(head: bytes, path: Path) -> None:
    if b"\0" in head:
        raise OutputError(f"log file {path} is there and is no text; name another file")


def forget_logging() -> None:
    """Undo `set_up_logging`, so that a process can run several commands."""
    for handler in list(_ROOT.handlers):
        if isinstance(handler, _Voice | _LogFile):
            _ROOT.removeHandler(handler)
            handler.close()
    _ROOT.setLevel(logging.NOTSET)


def is_terminal() -> bool:
    """Whether someone is looking at standard error."""
    return sys.stderr.isatty()
