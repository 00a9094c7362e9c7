"""The way in and the way out: runs the command, and turns every error into words and a number."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType

import typer

from tileup.cli.app import app
from tileup.cli.console import forget_logging, set_up_logging
from tileup.engine.signals import heard
from tileup.engine.standard_output import (
    OutputLost,
    abandon,
    finish,
    leave,
    take_any_text,
    take_closed,
)
from tileup.errors import ExitCode, UsageError

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes those of the process.

    Returns:
        The exit code, see `tileup.errors.ExitCode`.
    """
    take_closed()
    take_any_text()
    _Interrupt.came = False
    before = {each: signal.signal(each, _Interrupt()) for each in heard()}
    set_up_logging(verbose=0, quiet=False, log_file=None)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            code = _run(arguments)
            finish()
            return code
    except OutputLost as lost:
        return _lost(lost)
    finally:
        forget_logging()
        leave()
        # After an interruption the process is about to end: a second signal finds our handler.
        for number, handler in before.items() if not _Interrupt.came else ():
            signal.signal(number, handler)


def _run(arguments: Sequence[str] | None) -> int:
    command = typer.main.get_command(app)
    try:
        _refuse_files_like_flags(sys.argv[1:] if arguments is None else arguments)
        # In this mode Typer raises its own errors, and returns the code of `typer.Exit`.
        result: object = command.main(
            None if arguments is None else list(arguments),
            prog_name="tileup",
            standalone_mode=False,
        )
    except typer.TyperException as error:
        if message := error.format_message().rstrip("."):
            log.error("%s (see %s --help)", message, _command(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        result = ExitCode.INTERRUPTED
    except SystemExit:  # how Click ends where a reader of its help has gone
        raise OutputLost(None) from None
    except Exception as error:  # noqa: BLE001  Here nothing but a sentence may reach the user.
        return _told(error)
    if result == ExitCode.INTERRUPTED:
        log.error("interrupted")
    return result if isinstance(result, int) else ExitCode.OK


def _command(error: typer.TyperException) -> str:
    """The command that was used wrongly."""
    context: object = getattr(error, "ctx", None)
    return str(getattr(context, "command_path", "tileup"))


def _refuse_files_like_flags(words: Sequence[str]) -> None:
    """`-dash.png`, of a shell's `*.png`, would be read as `-d ash.png`.

    Raises:
        UsageError: a word reads like a flag and is the name of a file.
    """
    for word in itertools.takewhile(lambda word: word != "--", words):
        if word.startswith("-") and len(word) > 2 and os.path.lexists(word):
            raise UsageError(
                f"{word} is a file here, and would be read as a flag; write ./{word}, or put -- "
                f"before the files"
            )


def _told(error: Exception) -> int:
    from tileup.engine.failures import as_tileup_error

    told = as_tileup_error(error)
    log.error("%s", told)
    log.debug("where it happened", exc_info=error)
    return told.exit_code


def _lost(lost: OutputLost) -> int:
    """A reader that has gone is told nothing, as other tools do."""
    if lost.reason is not None:
        log.error("standard output cannot be written: %s", lost.reason)
    abandon(sys.stdout)
    return ExitCode.CANNOT_WRITE


class _Interrupt:
    """The first signal ends the run in good order; a second one, of any kind, at once."""

    came = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if _Interrupt.came:
            os._exit(ExitCode.INTERRUPTED)
        _Interrupt.came = True
        raise KeyboardInterrupt
