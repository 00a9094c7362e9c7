"""What the user asked for, what was found, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff"})
"""Files of a folder that are taken for pictures; case does not matter."""
STREAM = "-"
"""Standard input or output."""
AUTO = "auto"
"""Beside the output."""


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


@dataclass(frozen=True, slots=True)
class Found:
    """One input, and where it was found."""

    path: Path | None
    """None: standard input."""
    root: Path | None = None
    """The folder given by the user; None for a picture that was named."""

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
    finished: bool = False
    """Whether the output of a batch was there already, so that nothing is left to do."""

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
