"""Finished pictures held against their journal: what is still what was made, and what is not."""

from __future__ import annotations

import errno
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from tileup.engine.failures import as_tileup_error
from tileup.engine.journal import NAME, Record, file_of, fingerprint_of
from tileup.engine.journals import has_journal, journal_at
from tileup.engine.redraw import Redrawing, chosen
from tileup.engine.resume import is_cut, is_whole
from tileup.engine.stamp import KEY, stamp_of
from tileup.engine.store_journal import IN_STORE
from tileup.errors import InputError, NoInputError
from tileup.images.metadata import read_metadata
from tileup.storage.patience import StoreError
from tileup.storage.remote import Remote, held

SOUND = "sound"

_OF_ONE_PICTURE = frozenset(
    {"seed", "prompt", "window", "batch", "low_memory", "dtype", "source", KEY}
)
"""What may differ from picture to picture of one run: those that memory decides among them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one picture on record."""

    output: str
    """As the journal names it."""
    verdict: str
    """`sound`, or what is wrong, in words."""
    redrawn: bool = False
    """Whether it was drawn again."""

    @property
    def sound(self) -> bool:
        return self.verdict == SOUND

    def to_dict(self) -> dict[str, object]:
        """As `--json` prints it."""
        return {
            "output": self.output,
            "sound": self.sound,
            "verdict": self.verdict,
            "redrawn": self.redrawn,
        }


def verify(
    folder: Path, redrawing: Redrawing | None = None, share: float = 1, rng: Random | None = None
) -> Iterator[Finding]:
    """Open every picture that a folder's journal has as done, and compare it with its record.

    Contents are read and hashed, whatever their times say; pictures are decoded to their end.

    Args:
        folder: of outputs, with a journal.
        redrawing: draws some of them again; None: none are.
        share: how many of them, in (0, 1].
        rng: chooses them; None: nobody can foresee which.

    Raises:
        NoInputError: there is no journal.
    """
    if not has_journal(folder):
        name = IN_STORE if isinstance(folder, Remote) else NAME
        raise NoInputError(f"{folder} holds no {name}; name a folder that pictures were made into")
    records = journal_at(folder).records()
    owners = {each.result.digest: each.output for each in records if each.result is not None}
    told = {each.output: _settings_of(file_of(each.output, folder)) for each in records}
    usual = _usual([settings for settings in told.values() if settings is not None])
    again = frozenset[str]() if redrawing is None else chosen(records, share, rng or SystemRandom())
    for record in records:
        with ExitStack() as stack:
            _hold(stack, file_of(record.output, folder))
            verdict = _verdict(folder, record, owners)
            if verdict == SOUND:
                verdict = _differing(told[record.output], usual) or SOUND
            drawn = redrawing is not None and verdict == SOUND and record.output in again
            if redrawing is not None and drawn:
                verdict = redrawing.verdict(folder, record) or SOUND
        yield Finding(record.output, verdict, drawn)


def _hold(stack: ExitStack, path: Path) -> None:
    """Have a picture here for as long as it is looked at, where it lies in a store.

    Raises:
        UnreachableError: its store does not give it, though it may be there.
    """
    try:
        stack.enter_context(held(path))
    except StoreError as error:
        if error.errno != errno.ENOENT:
            raise as_tileup_error(error) from error


def _verdict(folder: Path, record: Record, owners: Mapping[str, str]) -> str:
    path = file_of(record.output, folder)
    if record.outcome != "done" or record.result is None:
        return f"failed when it was made: {record.error}"
    found = fingerprint_of(path)
    if found is None:
        return "missing"
    if found.digest != record.result.digest:
        return _changed(path, record, owners.get(found.digest))
    if not is_whole(path):
        return "as it was written, and no picture"
    if _made_otherwise(path, record):
        return OTHERWISE
    lost = [name for name in record.also if not file_of(name, folder).exists()]
    return f"without {' and '.join(lost)}" if lost else SOUND


def _changed(path: Path, record: Record, other: str | None) -> str:
    """Of a file that is not the one on record."""
    if other is not None:
        return f"swapped: it is what is on record as {other}"
    if _made_otherwise(path, record):
        return OTHERWISE
    if not is_whole(path) or is_cut(path):
        return "broken or cut short"
    return "changed since it was made"


OTHERWISE = "made with other settings than those on record"


def _made_otherwise(path: Path, record: Record) -> bool:
    """Whether a picture says so itself; it says nothing without metadata."""
    stamp = stamp_of(path)
    return stamp is not None and stamp.settings != record.settings


def _settings_of(path: Path) -> dict[str, Any] | None:
    """What a picture says of the settings that a whole run shares; None where it says nothing."""
    try:
        found: Any = json.loads(read_metadata(path)["tileup"])
        return {name: value for name, value in found.items() if name not in _OF_ONE_PICTURE}
    except (InputError, OSError, ValueError, LookupError, AttributeError):
        return None


def _usual(told: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The settings of most pictures; None where no single ones are those of most."""
    counts = Counter(json.dumps(each, sort_keys=True) for each in told)
    ranked = counts.most_common(2)
    if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return None
    return dict(json.loads(ranked[0][0]))


def _differing(told: dict[str, Any] | None, usual: dict[str, Any] | None) -> str:
    """How a picture's settings differ from those of most; empty where they do not."""
    if told is None or usual is None:
        return ""
    names = sorted(name for name in told.keys() | usual.keys() if told.get(name) != usual.get(name))
    if not names:
        return ""
    pairs = [f"{name} {told.get(name)} instead of {usual.get(name)}" for name in names]
    return f"made with other settings than most here: {', '.join(pairs)}"
