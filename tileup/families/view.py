"""A checkpoint as families look at it to tell whether it is theirs: names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tileup.errors import ModelError
from tileup.tensors.checkpoint import Checkpoint

TELLING = ("modelspec.", "ss_base_model", "ss_sd_model", "general.")
"""What names of metadata begin with that may say which of several alike networks a file is."""


class RelativeError(Exception):
    """A network is like those of a family, but cannot be loaded: says how, after `a model`."""


@dataclass(frozen=True, slots=True)
class View:
    """A checkpoint seen through a prefix."""

    checkpoint: Checkpoint
    prefix: str

    def __contains__(self, key: str) -> bool:
        return self.prefix + key in self.checkpoint.tensors

    def names(self, start: str = "") -> Iterator[str]:
        """Names below a start, in the order of the file, without the prefix."""
        for name in self.checkpoint.tensors:
            if name.startswith(self.prefix + start):
                yield name.removeprefix(self.prefix)

    def shape(self, key: str, sides: int) -> tuple[int, ...]:
        """Shape of a tensor that has this many sides.

        Raises:
            ModelError: it is not there, or has another number of sides, or one is 0.
        """
        info = self.checkpoint.tensors.get(self.prefix + key)
        if info is None:
            raise ModelError(
                f"{self.checkpoint.path} is incomplete: it lacks {self.prefix + key};"
                f" download it again"
            )
        if len(info.shape) != sides or 0 in info.shape:
            raise ModelError(
                f"{self.checkpoint.path} is damaged: {self.prefix + key} has the shape"
                f" {list(info.shape)}, where {sides} sides above 0 belong"
            )
        return info.shape

    def sides(self, key: str) -> int:
        """How many sides a tensor has; it must be there."""
        return len(self.checkpoint.tensors[self.prefix + key].shape)

    def first(self, pattern: str) -> str | None:
        """The first name, in natural order, that a pattern matches whole."""
        return min((each for each in self.names() if re.fullmatch(pattern, each)), default=None)

    def count(self, pattern: str) -> int:
        """How many different numbers the first group of a pattern takes at the start of names."""
        found = (re.match(pattern, each) for each in self.names())
        return len({match[1] for match in found if match})

    def said(self) -> Iterator[tuple[str, str]]:
        """Where a file says in words what it is, and what it says, in small letters."""
        metadata = self.checkpoint.metadata
        told = " ".join(text for name, text in metadata.items() if name.startswith(TELLING))
        yield "its metadata", told.lower()
        yield "its name", self.checkpoint.name.lower()

    def said_of(self, words: re.Pattern[str]) -> tuple[str, str] | None:
        """Where a file says something of itself in words, and which; None where it says nothing."""
        found = ((where, words.search(text)) for where, text in self.said())
        return next(((where, match[0]) for where, match in found if match), None)

    def beside(self, start: str) -> bool:
        """Whether the checkpoint has, anywhere, a tensor whose whole name begins like this."""
        return any(name.startswith(start) for name in self.checkpoint.tensors)
