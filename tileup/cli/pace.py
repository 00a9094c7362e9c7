"""How fast this machine has been: seconds for a megapixel-step, by what was run, kept for plans."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tileup.engine.outcomes import Outcome
from tileup.model_settings import Resolved

log = logging.getLogger(__name__)

ENOUGH = 0.05
"""Megapixel-steps from which on a run tells a pace: a smaller one is mostly beginnings."""
MEMORY = 0.5
"""What earlier runs count, against the latest: a machine may have changed."""


def known_pace(found: Resolved) -> float | None:
    """Seconds for a megapixel-step of these settings and this model; None: never measured."""
    work, seconds = _read(_file()).get(_key(found), (0.0, 0.0))
    return seconds / work if work > 0 and seconds > 0 else None


def note_pace(found: Resolved, outcomes: Sequence[Outcome]) -> None:
    """Remember how long the pictures took that a run made from the beginning. What cannot be noted
    is no one's loss."""
    whole = [each for each in outcomes if not each.resumed]
    costs = [(each.cost.megapixel_steps, each.seconds) for each in whole if each.cost]
    work, seconds = (sum(column) for column in zip(*costs, strict=True)) if costs else (0.0, 0.0)
    if work < ENOUGH:
        return
    file = _file()
    noted = _read(file)
    before = noted.get(_key(found), (0.0, 0.0))
    noted[_key(found)] = (MEMORY * before[0] + work, MEMORY * before[1] + seconds)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(noted, indent=1), encoding="utf-8")
    except OSError as error:
        log.debug("the pace is not noted: %s", error)


def _file() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("tileup", appauthor=False) / "pace.json"


def _key(found: Resolved) -> str:
    """What decides how fast a megapixel-step is."""
    settings = found.settings
    rows = 1 if settings.cfg == 1 else 2
    way = (settings.device, settings.dtype, settings.runtime, settings.threads)
    parts = (found.spec.name, *way, rows)
    return " ".join(map(str, parts))


def _read(file: Path) -> dict[str, tuple[float, float]]:
    """Work and seconds by key; nothing where the file is not what was written."""
    try:
        content: object = json.loads(file.read_text(encoding="utf-8"))
        pairs = cast("dict[str, list[float]]", content).items()
        return {key: (float(work), float(seconds)) for key, (work, seconds) in pairs}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
