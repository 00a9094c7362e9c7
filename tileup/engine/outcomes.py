"""What became of a picture, and what is told while it is being made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tileup.contracts import Step
from tileup.engine.request import Job, Standing
from tileup.errors import ExitCode, InputError, TileupError
from tileup.plan.cost import Cost


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is about to be loaded."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A picture has its turn."""

    job: Job
    number: int
    """Which one, from 1."""
    total: int
    """How many there are."""
    alone: bool = True
    """Whether no other picture of the run is drawn on the machine meanwhile."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one picture."""

    job: Job
    outcome: Literal["done", "skipped", "failed"]
    seconds: float = 0.0
    """From planning to the last file written; loading the model counts for no picture."""
    size: tuple[int, int] | None = None
    """Width and height of what was made, pixels."""
    cost: Cost | None = None
    """Of what was made."""
    warnings: tuple[str, ...] = ()
    """Whole sentences that the user should see once."""
    error: TileupError | None = None
    """Why it failed."""
    resumed: bool = False
    """Whether an earlier run had made a part of it: then its seconds are not all that it takes."""

    @property
    def is_new_failure(self) -> bool:
        """Whether it failed in this run."""
        return self.outcome == "failed" and self.job.standing is not Standing.FAILED

    def to_dict(self) -> dict[str, object]:
        """As `--json` prints it."""
        return {
            "input": self.job.shown_input,
            "output": None if self.job.decided else self.job.shown_output,
            "outcome": self.outcome,
            "error": None if self.error is None else str(self.error),
            "seconds": round(self.seconds, 3),
            "cost": None if self.cost is None else self.cost.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class Finished:
    """It is known what became of a picture, and everything about it is on the disk."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ByWorker:
    """Something happened at one of several workers."""

    worker: int
    """Which one, from 0."""
    event: Loading | Begun | Step


Event = Loading | Begun | Step | Finished | ByWorker
OnEvent = Callable[[Event], None]


def exit_code(outcomes: Sequence[Outcome]) -> ExitCode:
    """0 when all went well; the reason when all failed for one reason; else 1.

    An input that is no picture is one failure among several, and no usable input when there is
    nothing else.
    """
    errors = [each.error for each in outcomes if each.error is not None]
    if not errors:
        return ExitCode.OK
    reasons = {
        ExitCode.NO_INPUT if isinstance(error, InputError) else error.exit_code for error in errors
    }
    if len(errors) < len(outcomes) or len(reasons) > 1:
        return ExitCode.SOME_FAILED
    return reasons.pop()
