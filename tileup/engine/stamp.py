"""What an output says about its origin, so that it is known wherever it is met again.

A stamp lies in the picture's own metadata, beside the settings. It holds hashes and no names, so
that a picture that is given away tells nobody what its input was called.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tileup.engine.journal import Fingerprint
from tileup.engine.request import Job
from tileup.errors import InputError
from tileup.images.metadata import read_metadata

KEY = "made"
"""What the settings in a picture call its stamp."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Where an output comes from."""

    of: str
    """Hash of the input's file name."""
    input: str
    """Digest of the input's content, as in `Fingerprint`."""
    settings: str
    """Hash of all that decides what the picture becomes, besides the input."""

    def to_dict(self) -> dict[str, str]:
        """As metadata hold it."""
        return asdict(self)


def stamp_for(job: Job, mark: Fingerprint | None) -> Stamp | None:
    """The stamp of a job's output; None where its input is no file."""
    if job.input is None or mark is None:
        return None
    return Stamp(name_hash(job.input.name), mark.digest, job.fingerprint)


def stamp_of(path: Path) -> Stamp | None:
    """What a file says of its origin; None for what tileup did not make, or made without."""
    try:
        made: Any = json.loads(read_metadata(path)["tileup"])[KEY]
        return Stamp(**{name: str(made[name]) for name in Stamp.__slots__})
    except (InputError, OSError, ValueError, LookupError, TypeError):
        return None


def name_hash(name: str) -> str:
    """Hash of a file name, the same on disks that spell accents in another way."""
    text = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8).hexdigest()
