"""A share of the pictures for each of several machines, by a hash that all of them agree on."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass

from tileup.engine.request import Input
from tileup.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shard:
    """Which share of the pictures is made."""

    number: int
    """From 1 to `count`."""
    count: int
    """How many shares there are."""

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, each: Input) -> bool:
        """Whether a picture is of this share: by its path below the folder, or else its name.

        Each picture is of exactly one share, and of the same one on every machine, whatever else
        lies in the folder.
        """
        name = each.relative or (each.path.name if each.path else "")
        text = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(text, digest_size=8, person=b"shard").digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1


def parse_shard(text: str) -> Shard:
    """A share written as K/N.

    Raises:
        UsageError: it is no such text, or K is not among 1 to N.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"shard must be K/N with K from 1 to N, such as 2/8, got {text!r}")
    return Shard(int(found[1]), int(found[2]))
