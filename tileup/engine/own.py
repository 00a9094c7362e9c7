"""Which files tileup made itself: by the journals, and by what the pictures say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tileup.engine.journals import has_journal, journal_at
from tileup.engine.stamp import name_hash, stamp_of
from tileup.storage.remote import Remote


class OwnFiles:
    """Tells outputs from inputs. It holds what it has read of journals and folders."""

    def __init__(self) -> None:
        self._recorded: dict[Path, frozenset[Path]] = {}
        self._names: dict[Path, _Names] = {}

    def recorded(self, file: Path, home: Path) -> bool:
        """Whether the journal in a folder has a file, given by its real path, as an output."""
        if home not in self._recorded:
            there = has_journal(home)
            self._recorded[home] = frozenset(journal_at(home).outputs() if there else ())
        return file in self._recorded[home]

    def beside_its_input(self, file: Path) -> bool:
        """Whether a file is the output of a picture in its folder."""
        known = self._known(file.parent)
        # In a store each look is a request: there only files are opened whose names hold their
        # input's, as outputs' usually do.
        remote = isinstance(file, Remote)
        if remote and not any(part in known.stems for part in _parts(file.stem)):
            return False
        stamp = stamp_of(file)
        return stamp is not None and stamp.of in known.hashes

    def _known(self, folder: Path) -> _Names:
        if folder not in self._names:
            try:
                names = tuple(each.name for each in folder.iterdir())
            except OSError:  # a folder may let files be opened and not be listed
                names = ()
            stems = frozenset(Path(name).stem for name in names)
            self._names[folder] = _Names(stems, frozenset(map(name_hash, names)))
        return self._names[folder]


@dataclass(frozen=True, slots=True)
class _Names:
    """What lies in a folder."""

    stems: frozenset[str]
    """Names without their extensions."""
    hashes: frozenset[str]
    """Hashes of names, as stamps hold them."""


def _parts(stem: str) -> set[str]:
    """All shorter texts that a stem holds."""
    count = len(stem)
    spans = ((a, b) for a in range(count) for b in range(a + 1, count + 1) if b - a < count)
    return {stem[a:b] for a, b in spans}
