"""Errors a user can act on, and the exit code that each one gives.

    TileupError                 1  one picture could not be finished
    + UsageError                2  a flag or setting that cannot be right
    + NoInputError              3  nothing among the inputs can be upscaled
    + InputError                1  one input is missing, is no picture or is broken
      + UnreachableError        1  its store does not give it, or not now
    + NotFiniteError            1  the model gave values that are no numbers
    + RecordedFailureError      1  failed in an earlier run, and left alone
    + WorkerLostError           1  the process that should have made it ended
    + ModelError                4  the model is missing, unreadable or unknown
      + UnknownCheckpointError  4  readable, but of no family that tileup can load
    + OutOfMemoryError          5  memory did not suffice on any try
      + CanvasMemoryError       5  the canvas itself does not fit
    + OutputError               6  the result cannot be written
      + OutputExistsError       6  the result is there already
    + MissingExtraError         7  an optional dependency is not installed

Wrong usage that Typer finds itself ends with 2 too, an interrupted run with 130.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `tileup` command."""

    OK = 0
    """All pictures were done, or skipped because they were done before."""
    SOME_FAILED = 1
    """At least one picture failed; the others are good."""
    USAGE = 2
    """A flag, a setting or a combination of them cannot be right."""
    NO_INPUT = 3
    """Nothing among the inputs can be upscaled."""
    BAD_MODEL = 4
    """The model is missing, unreadable, or of no family that tileup can load."""
    OUT_OF_MEMORY = 5
    """Memory did not suffice on any try."""
    CANNOT_WRITE = 6
    """The output cannot be written, or is there already."""
    MISSING_EXTRA = 7
    """An optional dependency is not installed."""
    INTERRUPTED = 130
    """Ctrl-C or SIGTERM."""


class TileupError(Exception):
    """Base of every error a user can act on; shown as its message, without a traceback."""

    exit_code = ExitCode.SOME_FAILED


class UsageError(TileupError):
    """A flag, a setting or a combination of them cannot be right."""

    exit_code = ExitCode.USAGE


class NoInputError(TileupError):
    """Nothing among the inputs can be upscaled."""

    exit_code = ExitCode.NO_INPUT


class InputError(TileupError):
    """One input is missing, is no picture, or is broken."""

    exit_code = ExitCode.SOME_FAILED


class UnreachableError(InputError):
    """The store that an input lies in does not give it: not now, or not to this user."""


class NotFiniteError(TileupError):
    """The model gave values that are no finite numbers, so there is no picture."""

    def __init__(
        self,
        message: str = (
            "the model gave values that are not finite numbers, so there is no picture; "
            "try --dtype float32, another sampler, fewer or more steps, or another model"
        ),
    ) -> None:
        # With its message as argument, so that it survives pickle as other errors do.
        super().__init__(message)


class RecordedFailureError(TileupError):
    """The picture failed in an earlier run with the same settings, and was left alone."""


class WorkerLostError(TileupError):
    """The process that should have made a picture, or any, ended before it did."""


class ModelError(TileupError):
    """The model file is missing or unreadable."""

    exit_code = ExitCode.BAD_MODEL


class UnknownCheckpointError(ModelError):
    """The file is readable, but its tensors match no model family tileup can load."""


class OutOfMemoryError(TileupError):
    """Memory did not suffice on any try."""

    exit_code = ExitCode.OUT_OF_MEMORY


class CanvasMemoryError(OutOfMemoryError):
    """The canvas itself does not fit into memory: smaller windows make no room for it."""


class OutputError(TileupError):
    """The result cannot be written."""

    exit_code = ExitCode.CANNOT_WRITE


class OutputExistsError(OutputError):
    """The result is there already, and overwriting was not asked for."""


class MissingExtraError(TileupError):
    """An optional dependency is not installed."""

    exit_code = ExitCode.MISSING_EXTRA
