"""What the user asked for, what was found, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tileup.errors import TileupError

STREAM = "-"
"""Standard input or output."""
AUTO = "auto"
"""Beside the output."""


class Standing(Enum):
    """How a picture of a batch stands before the run; the values are words for the user."""

    NEW = "to make"
    """There is no output, or it shall be replaced whatever it is."""
    MISSING = "missing, made again"
    """On record as done, but a file is gone."""
    DAMAGED = "unreadable, made again"
    """The output is ours and cannot be decoded."""
    CHANGED = "with a changed input, made again"
    """The input is not the one the output was made from."""
    OTHER_SETTINGS = "made with other settings, kept"
    """Ours, with other settings."""
    OTHER_INPUT = "made from another input, kept"
    """Ours, from another content of the input; no journal says that it is untouched."""
    EDITED = "changed since it was made, kept"
    """On record, and somebody has changed it."""
    IN_THE_WAY = "no picture, kept"
    """What lies there is no picture, and not ours."""
    RETRIED = "failed before, tried again"
    """On record as failed, and to be tried again."""
    DONE = "done already"
    """On record as done with these settings, and whole."""
    PRESENT = "there already"
    """There, and no journal knows it."""
    FAILED = "failed before, left alone"
    """On record as failed with these settings."""
    LARGE = "large enough already"
    """The input has the wanted size, or more."""
    OWN = "made by tileup from a picture beside it (-o enlarges it once more)"
    """The input is an output."""
    IMPOSSIBLE = "cannot be made"
    """What forbids it is known before the work."""


REPLACED = frozenset({Standing.DAMAGED, Standing.CHANGED, Standing.MISSING, Standing.RETRIED})
"""Standings whose output is ours to replace."""
_TO_MAKE = REPLACED | {Standing.NEW}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants with outputs that are there."""

    overwrite: bool = False
    """Whether they may be replaced."""
    skip_existing: bool = False
    """Whether they are left alone, whatever the journal says of them."""
    retry_failed: bool = False
    """Whether pictures that are on record as failed are tried again."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, as it was said."""

    inputs: tuple[str, ...]
    """Files, folders, patterns, or `-` for standard input."""
    output: str | None = None
    """A file, a folder, or `-` for standard output; None: beside the inputs."""
    recursive: bool = False
    """Whether folders below the given ones are taken too."""
    heatmap: str | None = None
    """A file, a folder, or `auto` for beside the output."""
    plan_json: str | None = None
    """A file, or a folder when there are several pictures."""
    overwrite: bool = False
    """Whether files that are there already may be replaced."""
    skip_existing: bool = False
    """Whether files that are there already are left alone, whatever the journal says of them."""
    retry_failed: bool = False
    """Whether pictures that are on record as failed are tried again."""

    shard: str | None = None
    """K/N: only this share of the pictures."""

    @property
    def policy(self) -> Policy:
        return Policy(self.overwrite, self.skip_existing, self.retry_failed)


@dataclass(frozen=True, slots=True)
class Input:
    """One input, and where it was found."""

    path: Path | None
    """None: standard input."""
    root: Path | None = None
    """The folder given by the user; None for a picture that was named."""
    own: bool = False
    """Whether it is an output, named beside its own input."""
    refusal: TileupError | None = field(default=None, compare=False)
    """Why a word of the command line stands for nothing."""

    @property
    def relative(self) -> str | None:
        """Path below the root, parts joined by `/`."""
        if self.path is None or self.root is None:
            return None
        return self.path.relative_to(self.root).as_posix()

    @property
    def below(self) -> Path:
        """Folder below the root, to be mirrored."""
        return Path(self.relative).parent if self.relative else Path()


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to make."""

    input: Path | None
    """None: standard input."""
    output: Path | None
    """None: standard output."""
    relative: str | None
    """Path below the input folder, parts joined by `/`; None for a picture that was named."""
    seed: int
    """Seed of this picture."""
    heatmap: Path | None = None
    """Where its heatmap goes."""
    plan_json: Path | None = None
    """Where its plan goes."""
    overwrite: bool = False
    """Whether files that are there already may be replaced."""
    home: Path | None = None
    """Folder of the journal that this output belongs to; None where there is none."""
    fingerprint: str = ""
    """Hash of all that decides what the picture becomes, besides the input."""
    standing: Standing = Standing.NEW
    """What is known of a picture of a batch."""
    policy: Policy = Policy()
    """What the user wants with outputs that are there; of a batch."""
    batch: bool = False
    """Whether it is one of several, or of a folder."""
    refusal: TileupError | None = field(default=None, compare=False)
    """Why it is not made."""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.standing not in _TO_MAKE

    @property
    def decided(self) -> bool:
        """Whether its input alone says that there is nothing to make."""
        return self.standing in (Standing.LARGE, Standing.OWN, Standing.IMPOSSIBLE)

    @property
    def shown_input(self) -> str:
        """The input, as messages and JSON name it."""
        return str(self.input) if self.input else STREAM

    @property
    def shown_output(self) -> str:
        """The output, as messages and JSON name it."""
        return str(self.output) if self.output else STREAM

    @property
    def targets(self) -> tuple[Path, ...]:
        """All files this job writes."""
        return tuple(p for p in (self.output, self.heatmap, self.plan_json) if p is not None)
