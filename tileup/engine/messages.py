"""What a run and its workers tell one another: plain values that survive `pickle`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tileup.contracts import Step
from tileup.engine.journal import Record
from tileup.engine.outcomes import Begun, Loading, Outcome
from tileup.errors import TileupError


@dataclass(frozen=True, slots=True)
class WorkerIdle:
    """A worker waits for pictures."""


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """Something happened in a worker."""

    event: Loading | Begun | Step


@dataclass(frozen=True, slots=True)
class PictureWritten:
    """A picture is whole on the disk, and takes its name when it is on record."""

    output: Path
    record: Record


@dataclass(frozen=True, slots=True)
class Done:
    """It is known what became of a picture; a failure is not on record yet."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a worker's log."""

    logger: str
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A worker cannot go on, and no picture is to blame: the run ends."""

    error: TileupError


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker has ended; nothing comes from it any more until it is started again."""

    how: str
    """In words, such as `killed by SIGKILL`."""
    node: bool = False
    """Whether its whole node went, which no picture of ours is to blame for."""
    memory: bool = False
    """Whether it was ended because memory is short where it is: by itself, by what was drawn
    beside it, or by others."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is there: what happens now is no fault of it."""


FromWorker = WorkerIdle | WorkerEvent | Loaded | PictureWritten | Done | LogLine | Broken | Lost


@dataclass(frozen=True, slots=True)
class Recorded:
    """A picture is on record, or cannot be."""

    output: Path
    error: TileupError | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish what is being written, drop the rest, and end."""


ToWorker = Begun | Recorded | Stop
