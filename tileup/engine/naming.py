"""Names of outputs: a template with a few fields."""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections.abc import Mapping
from pathlib import PurePath

from tileup.errors import UsageError
from tileup.settings.values import NAME, Settings, did_you_mean

FIELDS = ("stem", "scale", "ext", "seed", "width", "height", "parent")
"""What may stand in braces."""
HEATMAP = "_heatmap.png"
PLAN = "_plan.json"
"""What follows an output's stem in the names of its companions."""


def template_of(settings: Settings) -> str:
    """The template of output names: `name`, or the stem with `suffix` behind it.

    Where neither is given, the size stands in the name as it was asked for.
    """
    if settings.suffix is not None:
        return f"{{stem}}{settings.suffix}.{{ext}}"
    asked = _asked_size(settings)
    return settings.name if settings.name != NAME or asked is None else f"{{stem}}_{asked}.{{ext}}"


def _asked_size(settings: Settings) -> str | None:
    """A size in pixels, as a person would write it; None where a scale decides."""
    if settings.size is not None:
        return settings.size.lower()
    edge = settings.long_edge or settings.short_edge
    return None if edge is None else f"{edge}px"


def fields_of(template: str) -> frozenset[str]:
    """The fields that a template uses.

    Raises:
        UsageError: braces do not pair, or a field is not known.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"name {template!r} has unpaired braces ({error})") from error
    used: set[str] = set()
    for _, field, form, conversion in parts:
        if field is None:
            continue
        if field not in FIELDS:
            raise UsageError(
                f"name {template!r}: unknown field {{{field}}}{did_you_mean(field, FIELDS)}"
            )
        if form or conversion:
            raise UsageError(f"name {template!r}: {{{field}}} takes no format")
        used.add(field)
    return frozenset(used)


def file_name(template: str, values: Mapping[str, str]) -> str:
    """A template filled in.

    Raises:
        UsageError: the result is not a plain file name.
    """
    name = template.format_map(values)
    if not name.strip(". ") or PurePath(name).name != name or "\0" in name:
        raise UsageError(f"name {template!r} gives {name!r}, which is not a file name")
    return name


def seed_of(seed: int, relative: str) -> int:
    """Seed of one picture of a folder: a hash, so that it depends on no order.

    Args:
        seed: the seed of the run.
        relative: path below the folder, parts joined by `/`.

    Returns:
        A number in [0, 2^63).
    """
    text = f"{seed}\0{unicodedata.normalize('NFC', relative)}"
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def natural(path: PurePath) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sorting key under which `a2` comes before `a10`; ties by the exact spelling."""
    pieces = re.findall(r"([0-9]+)|([^0-9]+)", path.as_posix())
    key = tuple((0, int(n), "") if n else (1, 0, text.casefold()) for n, text in pieces)
    return key, path.as_posix()
