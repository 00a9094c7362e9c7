"""From names and values as people give them to settings of the right types."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Sequence

from tileup.contracts import RawSettings
from tileup.errors import UsageError
from tileup.settings.checks import did_you_mean, parse_extent
from tileup.settings.setting import dashed
from tileup.settings.values import ALIASES, FLAGS

_KINDS: dict[str, tuple[type, ...]] = {
    each.name: typing.get_args(each.hint)
    if isinstance(each.hint, types.UnionType)
    else (typing.get_origin(each.hint) or each.hint,)
    for each in FLAGS
}
_EXTENTS = {each.name for each in FLAGS if each.flag.check is parse_extent}
_FLAG_OF = {each.name: each.flag for each in FLAGS}
ASKED = "settings"
"""Origin of what the user asks for directly, in flags or in Python."""
ONE_OF_EACH = (("scale", "size", "long_edge", "short_edge"), ("name", "suffix"))
"""Settings that say the same thing in different ways."""


def checked(raw: RawSettings, origin: str) -> dict[str, object]:
    """Settings of one layer, with known names, right types, and aliases expanded.

    Args:
        raw: names (dashes or underscores) to values; exact names win over aliases.
        origin: where they come from, for messages: "preset photo", "TILEUP_SCALE".

    Raises:
        UsageError: a name is unknown, a value has the wrong type, or one thing is said twice; says
            where, and what is near.
    """
    given: dict[str, object] = {}
    for spelt, value in raw.items():
        name = _known(str(spelt), origin)
        if name in given:
            raise UsageError(f"{origin}: {spelt} is set twice")
        given[name] = value
    _refuse_two_ways(given, origin)
    result: dict[str, object] = {}
    for name in sorted(given, key=lambda name: name not in ALIASES):
        result |= _expanded(name, given[name], origin)
    return {name: _FLAG_OF[name].at_home(value) for name, value in result.items()}


def _known(spelt: str, origin: str) -> str:
    name = spelt.replace("-", "_")
    if targets(name)[0] not in _KINDS:
        known = [*_KINDS, *ALIASES]
        raise UsageError(f"{origin}: unknown setting {spelt!r}{did_you_mean(name, known)}")
    return name


def _refuse_two_ways(given: RawSettings, origin: str) -> None:
    for ways in ONE_OF_EACH:
        said = [dashed(name) for name in ways if given.get(name) is not None]
        if len(said) > 1:
            place = "" if origin == ASKED else f"{origin}: "
            raise UsageError(f"{place}only one of {' and '.join(said)} can be given")


def _expanded(name: str, value: object, origin: str) -> dict[str, object]:
    """A setting, or those that an alias stands for."""
    typed = {target: _typed(target, name, value, origin) for target in targets(name)}
    if name in ALIASES and (check := ALIASES[name].flag.check):
        check(dashed(name), next(iter(typed.values())))  # told by the name that was given
    return typed


def targets(name: str) -> tuple[str, ...]:
    """The settings that a name sets."""
    return ALIASES[name].targets if name in ALIASES else (name,)


def _typed(name: str, spelt: str, value: object, origin: str) -> object:
    kinds = _KINDS[name]
    if value is None and types.NoneType in kinds:
        return None
    if isinstance(value, bool):
        if bool in kinds:
            return value
    elif tuple in kinds:
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):  # pyright: ignore[reportUnknownVariableType]
            return tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    elif isinstance(value, int) and float in kinds and int not in kinds:
        return float(value)
    elif isinstance(value, kinds):
        return value
    elif isinstance(value, int) and name in _EXTENTS:
        return str(value)  # YAML reads pixels as a number
    raise UsageError(f"{origin}: {dashed(spelt)} must be {_wanted(kinds)}, got {value!r}")


def _wanted(kinds: Sequence[type]) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        tuple: "a list of texts",
    }
    return " or ".join(words[kind] for kind in kinds if kind is not types.NoneType)


def takes_text_only(name: str) -> bool:
    """Whether a setting is text and nothing else."""
    return set(_KINDS.get(name, ())) - {types.NoneType} == {str}


def parsed(name: str, text: str) -> object:
    """Text as the type that its setting has; left as text where that fails."""
    kinds = _KINDS.get(targets(name)[0], ())
    if bool in kinds:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.strip().lower(), text
        )
    if tuple in kinds:
        return [each for each in text.split(os.pathsep) if each]
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text
